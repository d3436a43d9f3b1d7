"""What goes wrong on a GPU machine: what the node answers, and at once; what the hub says; that it recovers; never two samplers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from tests.e2e.processes import Lab, Running, address, ask_node, eventually, free_port, get, get_json, nodes_of, until_status
from tests.fake_nvml import FakeDriver

FAST = {
    "interval": 0.2, "sample_deadline": 10.0, "sampler_retry": 0.5, "status_age": 0.2, "health_age": 0.2, "identity_age": 0.5,
}  # fmt: skip
HANGS = {"sample_deadline": 1.0}
"""For drivers that hang. Else a sampler that a busy machine holds up for a second would be another failure than the one that is looked for."""
AT_ONCE_SECONDS = 10.0
"""Generous for a busy machine: the answer comes from memory in a millisecond, a node that waited for a hanging driver would never give one."""
MEMORY = "nvmlDeviceGetMemoryInfo_v2"


class Patient:
    """A node under a fake driver, and a hub that looks at it."""

    def __init__(self, lab: Lab, folder: Path, hub: bool = True, stale_intervals: float = 50.0, **settings: float) -> None:
        self.lab = lab
        self.settings = {**FAST, **settings}
        self.fake = FakeDriver(folder, profile="h100x8")
        self.env = {**self.fake.env, "LD_LIBRARY_PATH": str(self.install("590.48.01"))}
        mirror_proc(self.fake.root)
        self.port = free_port()
        self.node = self.start()
        self.hub = lab.hub(f"sick=127.0.0.1:{self.port}\n", {"interval": 0.2, "stale_intervals": stale_intervals}) if hub else None

    def install(self, version: str) -> Path:
        """Put the library on disk as a package does: a file with the version in its name, and a link to it. The folder."""
        folder = self.fake.root / "lib"
        folder.mkdir(exist_ok=True)
        shutil.copy(self.fake.library_path, folder / f"libnvidia-ml.so.{version}")
        link = folder / "libnvidia-ml.so.1"
        (folder / "new").symlink_to(f"libnvidia-ml.so.{version}")
        (folder / "new").replace(link)
        return folder

    def start(self) -> Running:
        """The node, anew."""
        self.node = self.lab.node("sick", {**self.settings, "root": str(self.fake.root)}, env=self.env, port=self.port)
        return self.node

    def ask(self) -> Any:
        """What the node answers: at once, whatever its sampler does. None while there is no sample yet."""
        began = time.monotonic()
        status, text = ask_node(self.node.url())
        assert time.monotonic() - began < AT_ONCE_SECONDS
        samplers = self.node.children()
        assert len(samplers) <= 1, samplers
        if status == 503:
            assert text == "There is no sample yet.\n"
            return None
        assert status == 200, text
        answer = json.loads(text)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", answer["last_update"])
        return answer

    def until(self, words: Optional[str], gpus: int, stale: Optional[bool] = None, seconds: float = 60.0) -> Any:
        """Wait until the node's status or its driver's state says ``words`` (None: nothing is wrong), with so many GPUs."""
        last: Any = None

        def there() -> bool:
            nonlocal last
            last = self.ask()
            if last is None or len(last["gpus"]) != gpus or (stale is not None and last["status"]["stale"] is not stale):
                return False
            return fresh(last) and all_well(last) if words is None else re.search(words, complaints(last)) is not None

        assert eventually(there, seconds), f"{words} / {gpus} GPUs did not come: {str(last)[-2000:]}\n{self.node.output[-2000:]}"
        return last

    def until_hub_says(self, words: str, *statuses: str, rows: bool = True) -> Any:
        """Wait until the hub says so of the node, in JSON, on the page and in text (``rows``: also in the short one)."""
        assert self.hub is not None
        url, node = self.hub.url(), None

        def there() -> bool:
            nonlocal node
            self.ask()
            node = nodes_of(self.hub)["sick"]
            return node["status"] in statuses and re.search(words, str(node["error"]) + json.dumps(node["snapshot"])) is not None

        assert eventually(there), f"{words} {statuses} did not come: {str(node)[:1000]}"
        words = sentence(words)
        short = ["/?term=true&view=rows&width=300"] if rows else []
        for path in ["/", "/hosts/sick", "/hosts/sick?term=true&width=300", *short]:
            assert eventually(lambda: re.search(words, get(url + path)[1]), 20), f"{path} lacks {words}: {get(url + path)[1][-3000:]}"  # noqa: B023
        return node

    def sampler(self) -> Optional[int]:
        """The PID of the sampler."""
        return next(iter(self.node.children()), None)


def sentence(words: str) -> str:
    """The expression for these words, also as a sentence of their own, which begins with a capital."""
    return f"({words}|{words[0].upper()}{words[1:]})"


def mirror_proc(root: Path) -> None:
    """All of /proc but processes and driver under the fake's root, so that the host is read as it is."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() and entry.name != "driver" and not (root / "proc" / entry.name).exists():
            (root / "proc" / entry.name).symlink_to(entry)


def complaints(answer: Any) -> str:
    """All that a node's answer says is wrong."""
    parts = [answer["status"]["message"]] + [part["message"] for part in answer["snapshot"]["collectors"]]
    parts += [gpu["error"] for gpu in answer["snapshot"]["gpus"]]
    return "\n".join(part for part in parts if part)


def fresh(answer: Any) -> bool:
    """The sample is new and the node does not call it stale."""
    return not answer["status"]["stale"] and time.time() - answer["snapshot"]["taken_at"] < 5


def all_well(answer: Any) -> bool:
    """Every GPU answers and so does the driver."""
    broken = [part for part in answer["snapshot"]["collectors"] if part["name"] in ("nvml", "driver") and not part["ok"]]
    return not broken and all(gpu["error"] is None for gpu in answer["snapshot"]["gpus"])


def numbers(gpu: Any) -> list[Any]:
    """A GPU's numbers in seed 002's body."""
    return [gpu[key] for key in ("use_mem", "utilize", "temp")]


@pytest.fixture
def patient(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Patient]:
    """Healthy at first. A parameter: further settings of the node."""
    one = Patient(lab, tmp_path, **getattr(request, "param", {}))
    assert one.hub is not None
    one.until(None, 8)
    until_status(one.hub, "sick", "up")
    yield one
    assert "Traceback" not in one.hub.output
    assert one.node.stop() == 0


def test_a_stopped_sampler(lab: Lab, tmp_path: Path) -> None:
    one = Patient(lab, tmp_path, stale_intervals=5, sample_deadline=10.0)
    one.until(None, 8)
    assert one.hub is not None
    until_status(one.hub, "sick", "up")
    first = one.sampler()
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    # first the hub sees that there is nothing new, then the node sees why, and starts another
    node = one.until_hub_says("gives no new reading", "stale")
    assert {gpu["state"] for gpu in node["snapshot"]["gpus"]} == {"stale"}
    words = r"the sampler was stopped \(SIGSTOP\) and reads nothing since \d\d:\d\d:\d\d; restarted \(works again since \d\d:\d\d:\d\d\)"
    assert fresh(one.until(words, 8, stale=False))
    one.until_hub_says(words, "up")
    assert eventually(lambda: one.sampler() not in (first, None))
    one.ask()
    until_status(one.hub, "sick", "up")


def test_a_segfault_in_the_library(patient: Patient) -> None:
    patient.fake.fault("segfault", function=MEMORY)
    answer = patient.until(r"sampler crashed: signal 11 \(SIGSEGV\) in the driver's library; restarting", 8, stale=True)
    assert None not in numbers(answer["gpus"][0])
    node = patient.until_hub_says(r"sampler crashed: signal 11 \(SIGSEGV\)", "stale", "error")
    assert {gpu["state"] for gpu in node["snapshot"]["gpus"]} == {"stale"}
    patient.fake.clear()
    assert fresh(patient.until(r"restarted \(works again since", 8, stale=False))
    assert patient.hub is not None
    until_status(patient.hub, "sick", "up")
    assert patient.node.output.count("sampler crashed") < 30, "a repeated error does not fill the log"


def test_a_lost_gpu_costs_its_own_row(patient: Patient) -> None:
    patient.fake.fault("gpu_lost", gpu=3)
    answer = patient.until("lost: NVML says", 8, stale=False)
    assert [gpu["index"] for gpu in answer["gpus"]] == list(range(8))
    assert (numbers(answer["gpus"][3]), answer["gpus"][3]["users"]) == ([None, None, None], [])
    assert answer["gpus"][3]["name"] == answer["gpus"][2]["name"]
    assert all(None not in numbers(gpu) for gpu in answer["gpus"] if gpu["index"] != 3)
    assert [gpu["index"] for gpu in answer["snapshot"]["gpus"] if gpu["error"]] == [3]
    node = patient.until_hub_says("lost", "up")
    assert [gpu["state"] for gpu in node["snapshot"]["gpus"]] == ["busy", "free", "free", "lost", "free", "free", "free", "free"]
    assert patient.hub is not None
    url = patient.hub.url()
    assert "lost: NVML says" in get(f"{url}/gpus/{patient.fake.get(3, 'uuid')}")[1]
    assert numbers(get_json(f"{url}/get-status")["Nodes"][0]["gpus"][3]) == [None, None, None]
    assert sorted(get_json(f"{url}/states/")["sick"]["data"][0]["gpu_data"]) == [f"gpu:{index}" for index in range(8) if index != 3]
    assert re.search(r"(?m)^.*3 lost", get(f"{url}/?term=true&view=rows&width=200")[1])

    # a node that starts anew still knows it, although its handle cannot be had any more
    assert patient.node.stop() == 0
    patient.fake.clear()
    patient.fake.fault("gpu_gone", gpu=3)
    patient.start()
    answer = patient.until("lost", 8, stale=False)
    assert [gpu["uuid"] for gpu in answer["snapshot"]["gpus"] if gpu["error"]] == [patient.fake.get(3, "uuid")]

    patient.fake.clear()
    patient.until(None, 8)
    assert eventually(lambda: {gpu["state"] for gpu in nodes_of(patient.hub)["sick"]["snapshot"]["gpus"]} == {"busy", "free"})
    assert eventually(lambda: "gpu_back" in patient.hub.output)
    assert "gpu_lost" in patient.hub.output


def test_a_driver_gone_and_back(patient: Patient) -> None:
    patient.fake.driver(gone=True)
    answer = patient.until("the NVIDIA driver is not loaded: modprobe nvidia", 0)
    assert answer["snapshot"]["host"]["cpu_count"] >= 1
    assert answer["snapshot"]["host"]["memory_total_bytes"] > 0
    node = patient.until_hub_says("the NVIDIA driver is not loaded", "error")
    assert "Next:" in node["error"] or "modprobe" in node["error"]
    assert patient.hub is not None
    assert [entry["gpus"] for entry in get_json(f"{patient.hub.url()}/get-status")["Nodes"]] == [[]]
    patient.fake.driver(gone=False)
    patient.until(None, 8)
    until_status(patient.hub, "sick", "up")
    assert [gpu["state"] for gpu in nodes_of(patient.hub)["sick"]["snapshot"]["gpus"]] == ["busy"] + ["free"] * 7


def test_a_driver_upgraded_below_a_running_node(patient: Patient) -> None:
    # new library on disk, old module loaded: what runs goes on, and the page says what will happen
    patient.install("590.50.02")
    words = r"driver 590\.48\.01 loaded, library 590\.50\.02 installed: reboot"
    patient.until(words, 8, stale=False)
    patient.until_hub_says(words, "up")
    # and once NVML itself refuses
    patient.fake.fault("mismatch")
    answer = patient.until(words, 0)
    assert answer["snapshot"]["host"]["memory_total_bytes"] > 0
    patient.until_hub_says(words, "error")
    patient.fake.clear()
    patient.fake.driver(version="590.50.02", library_version="13.590.50.02")
    patient.until(None, 8)
    assert eventually(lambda: patient.ask()["snapshot"]["host"]["driver_version"] == "590.50.02")
    assert patient.hub is not None
    until_status(patient.hub, "sick", "up")


@pytest.mark.parametrize("patient", [HANGS], indirect=True, ids=[""])
def test_a_hanging_driver_that_wakes_up(patient: Patient) -> None:
    patient.fake.fault("hang", function=MEMORY)
    answer = patient.until(r"driver hung since \d\d:\d\d:\d\d", 8, stale=True)
    assert None not in numbers(answer["gpus"][0])
    node = patient.until_hub_says(r"driver hung since \d\d:\d\d:\d\d", "stale", "error")
    assert {(gpu["state"], gpu["was"]) for gpu in node["snapshot"]["gpus"]} == {("stale", "busy"), ("stale", "free")}
    hung = patient.sampler()
    for _ in range(20):  # it is left in peace for a while, and no other is started beside it
        patient.ask()
        time.sleep(0.05)
    assert patient.sampler() == hung
    patient.fake.clear()
    assert fresh(patient.until("works again since", 8, stale=False))
    assert eventually(lambda: patient.sampler() not in (hung, None))
    assert patient.hub is not None
    until_status(patient.hub, "sick", "up")


def test_a_driver_that_hangs_for_good(lab: Lab, tmp_path: Path) -> None:
    """The hung sampler hears nothing but SIGKILL, which it gets after a long grace; the next one works."""
    one = Patient(lab, tmp_path, hub=False, **HANGS)
    one.until(None, 8)
    one.fake.fault("hang_deaf", function=MEMORY)
    one.until("driver hung since", 8, stale=True)
    hung = one.sampler()
    one.fake._faults.clear()  # without _write(): only processes that start from now on see a driver that answers
    assert eventually(lambda: one.ask() and one.sampler() != hung, 90), "it is killed after its grace"
    one.fake.clear()
    assert fresh(one.until("works again since", 8, stale=False))
    assert one.node.stop() == 0


def test_a_driver_that_hangs_from_the_start(lab: Lab, tmp_path: Path) -> None:
    fake = FakeDriver(tmp_path, profile="h100x8")
    fake.fault("hang", function="nvmlInit_v2")
    node = lab.node("sick", {**FAST, "sample_deadline": 6.0}, env=fake.env)  # time enough to see what it answers before it knows
    status, text, headers = get(f"{node.url()}/get-status", {"Content-Type": "application/json"}, "POST", b'{"passwd": "x"}')
    assert (status, text, headers["content-type"]) == (503, "There is no sample yet.\n", "text/plain; charset=utf-8")
    assert get(f"{node.url()}/healthz")[0] == 503
    answers: list[Any] = []
    assert eventually(lambda: answers.append(ask_node(node.url())) or answers[-1][0] == 200)
    answer = json.loads(answers[-1][1])
    assert answer["gpus"] == []
    assert "driver hung since" in answer["status"]["message"]
    assert answer["snapshot"]["host"]["memory_total_bytes"] > 0
    fake.clear()
    assert eventually(lambda: len(json.loads(ask_node(node.url())[1])["gpus"]) == 8)
    assert get(f"{node.url()}/healthz")[:2] == (200, "ok\n")


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("no-driver", "no NVIDIA driver on this machine .* host readings only"),
        ("none", "the NVIDIA driver lists no GPU on this machine"),
        (None, "no NVIDIA driver on this machine .* host readings only"),
    ],
    ids=str,
)
def test_a_machine_without_a_gpu(lab: Lab, tmp_path: Path, profile: Optional[str], words: str) -> None:
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    fake = FakeDriver(root, profile=profile) if profile else None
    mirror_proc(root)
    node = lab.node("bare", {**FAST, "root": str(root)}, env=fake.env if fake else {})
    hub = lab.hub(f"bare={address(node)}\n")
    seen = until_status(hub, "bare", "up")
    assert (seen["snapshot"]["gpus"], seen["error"]) == ([], None)
    assert seen["snapshot"]["host"]["cpu_count"] >= 1
    answer = json.loads(ask_node(node.url())[1])
    assert (answer["gpus"], answer["hostname"]) == ([], "bare")
    assert re.search(words, complaints(answer))
    for path in ("/", "/?term=true&view=rows&width=300", "/hosts/bare", "/hosts/bare?term=true&width=300"):
        assert re.search(sentence(words), get(hub.url() + path)[1]), path
    assert "no GPU" in get(f"{hub.url()}/?term=true")[1]


@pytest.mark.parametrize("fault", [None, "hang", "hang_deaf"])
def test_a_killed_node_leaves_no_sampler(lab: Lab, tmp_path: Path, fault: Optional[str]) -> None:
    fake = FakeDriver(tmp_path, profile="h100x8")
    node = lab.node("n", {**FAST, "sample_deadline": 60.0}, env=fake.env)
    assert eventually(lambda: ask_node(node.url())[0] == 200)
    (sampler,) = node.children()
    if fault:
        fake.fault(fault, function=MEMORY)
        time.sleep(1)
    os.kill(node.process.pid, signal.SIGKILL)
    assert eventually(lambda: not runs(sampler), 40)


def runs(pid: int) -> bool:
    """The process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] != b"Z"
    except OSError:
        return False


# ---- the node's HTTP


def test_the_password_door(lab: Lab) -> None:
    node = lab.simulated("n")
    url = node.url()
    assert eventually(lambda: ask_node(url)[0] == 200)
    status, text, headers = get(f"{url}/get-status")
    assert (status, headers["allow"]) == (405, "POST")
    for body in (b'{"passwd": "wrong"}', b'{"passwd": ""}', b"{}", b'{"passwd": null}', b'{"passwd": ["x"]}', b'{"passwd": 0}'):
        status, text, headers = get(f"{url}/get-status", {"Content-Type": "application/json"}, "POST", body)
        assert (status, headers["content-type"]) == (403, "text/plain; charset=utf-8"), body
        assert not text.startswith(("{", "[", '"'))
    for body, expected in (
        (b"", 400),
        (b"not json", 400),
        (b"[1]", 400),
        (b"\xff\xfe", 400),
        (b"[" * 9999, 400),
        (b'{"a":' + b'"' + b"b" * 20000 + b'"}', 400),
    ):
        status, text, headers = get(f"{url}/get-status", {"Content-Type": "application/json"}, "POST", body)
        assert status in (expected, 413), body[:50]
        assert headers["content-type"].startswith("text/plain")
    assert get(f"{url}/get-status", {}, "POST", b"passwd=x")[0] == 415
    assert get(f"{url}/elsewhere")[0] == 404
    assert ask_node(url)[0] == 200, "six wrong ones are not ten"

    refused = [get(f"{url}/get-status", {"Content-Type": "application/json"}, "POST", b'{"passwd": "guess"}') for _ in range(6)]
    assert [status for status, _, _ in refused] == [403] * 4 + [429] * 2
    status, text, headers = refused[-1]
    assert 1 <= int(headers["retry-after"]) <= 60
    assert headers["content-type"] == "text/plain; charset=utf-8"
    began = time.monotonic()
    assert ask_node(url)[0] == 429, "the right one does not help from this address now"
    assert time.monotonic() - began < AT_ONCE_SECONDS
    assert "guess" not in node.output


def test_no_password_means_loopback_only(lab: Lab) -> None:
    done = lab.run("node", "--port", "0")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "0.0.0.0" in done.stderr
    assert 'password = "..."' in done.stderr
    assert "GPUWATCH_PASSWORD" in done.stderr
    assert "--password-file" in done.stderr
    node = lab.start("default", "node", "--host", "127.0.0.1", "--port", "0")
    assert eventually(lambda: ask_node(node.url(), "8888")[0] == 200), "the documented default"
    assert ask_node(node.url(), "x")[0] == 403


def test_a_password_file(lab: Lab, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("Geheim-42\n")
    secret.chmod(0o644)
    done = lab.run("node", "--host", "127.0.0.1", "--port", "0", "--password-file", secret)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"chmod 600 {secret}" in done.stderr
    secret.chmod(0o600)
    node = lab.start("filed", "node", "--host", "127.0.0.1", "--port", "0", "--password-file", secret, "--log-level", "debug")
    assert eventually(lambda: ask_node(node.url(), "Geheim-42")[0] == 200)
    assert ask_node(node.url(), "Geheim-43")[0] == 403
    for pid in [node.process.pid, *node.children()]:
        assert b"Geheim" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    (sampler,) = node.children()
    assert b"Geheim" not in Path(f"/proc/{sampler}/environ").read_bytes()
    assert "Geheim" not in node.output
    assert lab.run("node", "--password", "x").returncode == 2, "never from the command line"
