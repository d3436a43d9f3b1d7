"""Programs of the old systems against a hub and a node as processes: their recorded messages answered byte for byte, and their lives."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.captures.read import exchange
from tests.e2e.old_programs import Hub002, VestaSender, Worker001, page003, replay
from tests.e2e.processes import Lab, Running, address, eventually, get, get_json, nodes_of, until_status

from gpuwatch.store import worker_commands, workers
from gpuwatch.store.database import open_store

VESTA = {"GPUWATCH_HUB_COMPAT_VESTA_TOKEN": "0000"}


@pytest.fixture(scope="module")
def home(pyz: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """What most tests share: a node called ``machines``, a hub that takes all foreign writers, and one that takes none."""
    made = Lab(pyz, tmp_path_factory.mktemp("old"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def node(home: Lab) -> Running:
    """A node whose name one of the old systems broke on."""
    return home.simulated("machines")


@pytest.fixture(scope="module")
def hub(home: Lab, node: Running) -> Running:
    """Takes senders of seed 004, and workers at first sight."""
    running = home.hub(f"machines={address(node)}\n", env={**VESTA, **compat(workers="open")})
    until_status(running, "machines", "up")
    return running


@pytest.fixture(scope="module")
def bare(home: Lab) -> str:
    """The address of a hub as it comes."""
    return home.hub("", name="bare").url()


def compat(**settings: str) -> dict[str, str]:
    return {f"GPUWATCH_HUB_COMPAT_{name.upper()}": value for name, value in settings.items()}


def text(url: str) -> str:
    status, body, _ = get(url)
    assert status == 200, body
    return body


def states_with(url: str, *names: str) -> Any:
    """The hub's states, once they have these hosts: a body is kept for a second, and another test may have asked for it just before."""
    found = eventually(lambda: (states := get_json(f"{url}/states/")) and set(names) <= set(states) and states)
    assert found, names
    return found


# ---- seed 004


def test_vesta_recorded_messages_are_answered_byte_for_byte(hub: Running) -> None:
    url = hub.url()
    registered = exchange("004_register")
    status, body, headers = replay(url, registered.request)
    id = json.loads(body)["id"]
    assert (status, headers["content-type"]) == (200, registered.response.headers["content-type"])
    assert body == registered.response.body.replace(registered.response.json["id"].encode(), id.encode())
    update = exchange("004_update")
    assert replay(url, update.request, f"/update/host/{id}?token=0000")[:2] == (200, update.response.body)
    for name in ("004_register_bad_token", "004_update_None_bad_token", "004_update_unknown_hash"):
        assert replay(url, exchange(name).request)[:2] == (200, exchange(name).response.body), name
    old = exchange("004v030_register")
    body = replay(url, old.request)[1]
    assert body == old.response.body.replace(old.response.json["id"].encode(), json.loads(body)["id"].encode())
    assert replay(url, exchange("004v030_update").request, f"/update/host/{json.loads(body)['id']}?token=0000")[1] == exchange("004v030_update").response.body
    assert get(f"{url}/register/?token=0000")[0] == 500
    assert get(f"{url}/register/?host_name=looked&token=0000", method="HEAD")[0] == 405
    assert get(f"{url}/update/client/ws")[0] == 405
    assert get(f"{url}/notification/send_notification/slack/?token=0000", method="POST", body=b"{}")[1] == (
        '{"status": "ERROR", "status_code": 400, "info": "you need a valid json data"}'
    )
    answered = get(f"{url}/notification/send_notification/slack/?token=0000", method="POST", body=b'{"text": "hi", "to": "u"}')
    assert (answered[0], "Slack is not set" in answered[1]) == (500, True)
    states = states_with(url, "vm", "host1")
    assert (states["vm"]["status"], states["host1"]["status"], "looked" in states) == ("running", "running", False)
    sent, got = update.request.json["gpu:0"], states["vm"]["data"][-1]["gpu_data"]["gpu:0"]
    assert (got["uuid"], got["used_memory"], got["gpu_volatile"], got["processes"][0]["name"]) == (sent["uuid"], "2048", "37", "python")
    table = text(f"{url}/?term=true")
    assert re.search(r"^\|vm +\| 0:[^|]*RTX 3090 *\|   2048 /  24576 \|    37 %\|  41 °C\|$", table, re.MULTILINE), table
    assert re.search(r"^\|host1 +\| 0:[^|]*GTX 1080 Ti *\|    235 /  11169 \|     0 %\|  36 °C\|$", table, re.MULTILINE), table
    assert "vm" in text(f"{url}/gpu_table?term=true")
    element = get_json(f"{url}/?fetch_element=true&element=vm")
    assert (element["found"], "RTX 3090" in element["element"], "root" in element["element"]) == (True, True, True)
    assert text(f"{url}/?fetch_element=true&element=nope") == '{"element": "", "found": false}'


def test_vesta_hosts_of_every_name_live_on_and_never_replace_another(hub: Running, tmp_path: Path) -> None:
    url = hub.url()
    wicked = ["my host", "1bad", "machines", "inj (a TEXT) --", '"\'><script>alert(1)</script>', "x" * 300, "a\x01b\x7f\u202ec", "../..", "import:x", " ", "host%00"]
    made = []
    for place, name in enumerate(wicked):
        uuid = f"GPU-{place}"
        body = json.dumps({"gpu:0": {"device_num": 0, "uuid": uuid, "gpu_name": "<b>A</b>", "processes": [{"pid": "1", "user": "<i>", "name": "\x1b[2J"}]}}).encode()
        sender = VestaSender(url, name, tmp_path / f"{place}.json", body=body)
        assert sender.run(), sender.sent
        made.append(sender.registered["registered_name"])
    assert len(set(made)) == len(wicked)
    assert all(len(name) <= 64 and name.isprintable() and not set(name) & set(" \"'<>/") for name in made), made
    assert "machines" not in made
    status, page, _ = get(url)
    assert (status, "<script>alert" in page, "<b>A</b>" in page) == (200, False, False)
    assert eventually(lambda: set(made) <= set(nodes_of(hub)))
    shown = nodes_of(hub)
    assert shown["machines"]["status"] == "up"
    for name in made:
        assert get(f"{url}/hosts/{quote(name)}")[0] == 200, name
        assert get_json(f"{url}/states/{quote(name)}/")[name]["status"] == "running"
    detail = text(f"{url}/?term=true&detail=true")
    assert "\x1b" not in detail


def test_a_vesta_sender_registers_again_when_the_hub_lost_its_database_and_waits_for_nobody(lab: Lab, tmp_path: Path) -> None:
    hub = lab.hub("", env=VESTA)
    first = VestaSender(hub.url(), "vm", tmp_path / "token.json")
    assert first.run()
    id = first.registered["hash_key"]
    assert first.run()
    assert first.registered["hash_key"] == id
    first.file.unlink()  # it lost its yaml: it is the same host
    assert first.run()
    assert first.registered == {"hash_key": id, "registered_name": "vm"}
    assert eventually(lambda: len(get_json(f"{hub.url()}/states/vm/?fetch_num=-1")["vm"]["data"]) == 3)
    hub.stop()
    again = lab.hub("", env=VESTA)
    assert get_json(f"{again.url()}/states/")["vm"]["status"] == "waiting for re-uplink"
    second = VestaSender(again.url(), "vm", first.file)
    assert second.run()
    assert [path for path, _ in second.sent] == [f"/update/host/{id}"], "its id still holds"
    assert eventually(lambda: get_json(f"{again.url()}/states/")["vm"]["status"] == "running")
    again.stop()
    empty = lab.hub("", name="hub2", env=VESTA)
    third = VestaSender(empty.url(), "vm", first.file)
    assert third.run()
    assert [path for path, _ in third.sent][:2] == [f"/update/host/{id}", "/register/"]
    assert third.registered["hash_key"] != id
    assert list(get_json(f"{empty.url()}/states/")) == ["vm"]


def test_two_machines_of_one_name_and_address_become_two_hosts(hub: Running, tmp_path: Path) -> None:
    url = hub.url()
    one = VestaSender(url, "node", tmp_path / "1.json")
    other = VestaSender(url, "node", tmp_path / "2.json", body=exchange("004v030_update").request.body)
    for _ in range(3):
        assert one.run()
        assert other.run()
    assert one.registered["registered_name"] == "node"
    assert other.registered["registered_name"] == "node-2"
    states = states_with(url, "node", "node-2")
    names = {name: entry["data"][-1]["gpu_data"]["gpu:0"]["gpu_name"] for name, entry in states.items() if name.startswith("node")}
    assert names == {"node": "NVIDIA GeForce RTX 3090", "node-2": "GeForce GTX 1080 Ti"}


def test_without_a_token_senders_are_answered_as_if_nothing_were_there(bare: str, tmp_path: Path) -> None:
    sender = VestaSender(bare, "vm", tmp_path / "token.json", token="")
    assert sender.run() is False
    assert [answer for _, answer in sender.sent] == [404, 404]
    assert sender.registered is None
    assert get(f"{bare}/notification/send_notification/slack/", method="POST", body=b"{}")[0] == 404
    worker = Worker001(bare, "w")
    assert not worker.register()
    assert worker.beat() is None
    assert worker.statuses == [404]
    assert get_json(f"{bare}/states/") == {}


def test_who_guesses_the_token_waits_and_the_hosts_of_that_address_go_on(home: Lab, hub: Running, tmp_path: Path) -> None:
    sender = VestaSender(hub.url(), "steady", tmp_path / "token.json", source="127.0.0.8")
    assert sender.run()
    answers = {get(f"{hub.url()}/register/?host_name=x&token={guess:04}", source="127.0.0.8")[1] for guess in range(1, 40)}
    assert answers == {'{"status": "ERROR", "status_code": 403, "message": "forbidden"}'}
    assert not VestaSender(hub.url(), "new", tmp_path / "other.json", source="127.0.0.8").run(), "the right one is not taken for a while"
    assert sender.run()
    other = get(f"{hub.url()}/register/?host_name=new&token=0000", source="127.0.0.9")[1]
    assert json.loads(other)["status_code"] == 200


# ---- seed 001


@contextmanager
def store_of(lab: Lab, name: str = "hub") -> Iterator[Any]:
    opened = open_store(lab.database(name), create=False)
    try:
        yield opened
    finally:
        opened.close()


def test_worker_recorded_messages_are_answered_byte_for_byte(home: Lab, hub: Running) -> None:
    url = hub.url()
    recorded = exchange("001_register")
    status, body, headers = replay(url, recorded.request)
    token = json.loads(body)["token"]
    assert (status, headers["content-type"], len(token)) == (200, "application/json", 32)
    assert body == recorded.response.body.replace(recorded.response.json["token"].encode(), token.encode())
    assert replay(url, recorded.request)[1] == body, "the same token again"
    bearer = f"Bearer {token}"
    for name in ("001_metrics", "001head_metrics_power"):
        assert replay(url, exchange(name).request, authorization=bearer)[:2] == (200, exchange(name).response.body), name
    assert replay(url, exchange("001_metrics_401").request)[:2] == (401, exchange("001_metrics_401").response.body)
    assert replay(url, exchange("001_commands_empty").request, authorization=bearer)[:2] == (200, exchange("001_commands_empty").response.body)
    assert replay(url, exchange("001_commands_empty").request, authorization=token)[:2] == (200, b'{"command":null}\n')
    with store_of(home) as store:
        row = workers.find(store, "w-smi").row
        assert worker_commands.submit(store, row.id, "echo out; echo err >&2; exit 3", time.time()) == 1
    for name in ("001_commands_one", "001head_command_output_running", "001_command_output_failed"):
        assert replay(url, exchange(name).request, authorization=bearer)[:2] == (200, exchange(name).response.body), name
    status, body, _ = replay(url, exchange("001head_get_command_output").request, "/command_output/1", authorization=bearer)
    assert status == 200
    assert body.startswith(b'{"output":"out\\n\\nSTDERR:\\nerr\\n","status":"failed","updated_at":"20')
    json_type = {"Content-Type": "application/json"}
    known = {**json_type, "Authorization": bearer}
    assert get(f"{url}/register", json_type, "POST", b"{}")[:2] == (400, '{"message":"Worker ID missing","status":"error"}\n')
    assert get(f"{url}/register", {}, "POST", b"worker_id=x")[0] == 415
    assert get(f"{url}/metrics", known, "POST", b"{}")[0] == 500
    assert get(f"{url}/commands")[:2] == (401, '{"message":"Invalid token","status":"error"}\n')
    unknown = b'{"command_id":999,"status":"completed","output":""}'
    assert get(f"{url}/command_output", known, "POST", unknown)[:2] == (400, '{"message":"Invalid command","status":"error"}\n')
    assert get(f"{url}/command_output", known, "POST", b'{"command_id":1}')[0] == 500
    assert get(f"{url}/command_output/999", known)[0] == 500
    assert get(f"{url}/command_output/1")[0] == 401
    assert get(f"{url}/worker/w-smi")[2]["location"] == "/hosts/w-smi"
    assert get(f"{url}/worker/nope")[0] == 404
    for path in ("/submit_command", "/submit_multi_command", "/stop_command/1", "/delete_worker/w-smi", "/delete_workers", "/api/gpu/set_tdp"):
        status, body_text, _ = get(url + path, {}, "POST", b"worker_id=w-smi&command=id&gpu_index=0&power_limit=250")
        assert (status, "/hosts/NAME" in body_text) == (403, True), path
    with store_of(home) as store:
        assert len(worker_commands.newest(store, row.id)) == 1, "nobody could queue anything"


def test_what_workers_do_not_tell_is_not_reported_in_any_view(hub: Running) -> None:
    url = hub.url()
    worker = Worker001(url, "quiet")
    assert worker.register()
    worker.beat()
    assert worker.statuses == [200]
    until_status(hub, "quiet", "up")
    (first, second) = get_json(f"{url}/api/v1/hosts/quiet")["snapshot"]["gpus"]
    assert (first["utilization_percent"], first["memory_used_bytes"], first["power_watts"], first["missing"]["processes"]) == (
        37, 2048 * 1024**2, None, "not told by seed 001's worker",
    )  # fmt: skip
    assert [gpu["state"] for gpu in (first, second)] == ["busy", "free"]
    page = text(f"{url}/hosts/quiet")
    assert "not reported" in page
    assert "0 W" not in page
    states = states_with(url, "quiet")["quiet"]["data"][-1]["gpu_data"]["gpu:0"]
    assert (states["gpu_volatile"], states["processes"]) == ("37", [])
    history = get_json(f"{url}/api/metrics/history/quiet/0?hours=1")
    assert sorted(history) == ["memory_utilization", "power_usage", "temperature", "timestamps", "utilization"]
    found = eventually(lambda: get_json(f"{url}/api/metrics/history/quiet/0?hours=1")["timestamps"])
    assert found
    history = get_json(f"{url}/api/metrics/history/quiet/0?hours=1")
    assert (history["utilization"][-1], history["power_usage"][-1], round(history["memory_utilization"][-1], 2)) == (37.0, None, 8.33)
    assert get_json(f"{url}/api/metrics/history/quiet/7?hours=1")["timestamps"] == []
    status, body, _ = get(f"{url}/api/metrics/history/nope/0")
    assert (status, json.loads(body)["error"]) == (404, "Worker with ID nope not found")
    limits = get_json(f"{url}/api/gpu/get_power_limits?worker_id=quiet")
    assert limits["gpus"][0] == {"index": 0, "power_limit": None, "power_usage": None}
    rows = text(f"{url}/?format=csv&host=quiet").splitlines()
    head = rows[0].split(",")
    cells = dict(zip(head, rows[1].split(",")))
    assert (cells["utilization_percent"], cells.get("power_watts", "")) == ("37", "")
    assert re.search(r"0 busy +>?\d+s", text(f"{url}/?term=true&view=rows&host=quiet"))
    detail = text(f"{url}/?term=true&detail=true&host=quiet")
    assert detail.count("└── processes: n/r") == 2
    assert "processes: n/r" in text(f"{url}/?term=true&detail=true&ascii=true&host=quiet")
    assert "└" not in text(f"{url}/?term=true&detail=true&ascii=true&host=quiet")
    assert get(f"{url}/api/user_gpu_usage?host=quiet")[:2] == (500, '{"error":"processes are not reported: not told by seed 001\'s worker"}\n')


def test_a_worker_waits_until_it_is_approved_and_its_readings_are_dropped_till_then(lab: Lab) -> None:
    hub = lab.hub("", env=compat(workers="approve"))
    url = hub.url()
    worker = Worker001(url, "w<script>", newest=True)
    assert worker.register()
    for _ in range(3):
        assert worker.beat() is None
    assert (worker.statuses, worker.registrations) == ([200, 200, 200], 1)
    assert get_json(f"{url}/states/") == {}
    assert get(f"{url}/worker/w%3Cscript%3E")[0] == 404
    assert eventually(lambda: "1 worker waits for approval. Next: gpuwatch worker list" in text(url))
    assert "script&gt;" not in text(url)
    listed = lab.run("worker", "--database", lab.database(), "list")
    assert (listed.returncode, "waiting for approval" in listed.stdout, "127.0.0.1" in listed.stdout) == (0, True, True), listed.stdout + listed.stderr
    (row,) = json.loads(lab.run("worker", "--database", lab.database(), "list", "--json").stdout)
    assert (row["worker_id"], row["state"]) == ("w<script>", "waiting")
    assert worker.token not in listed.stdout
    approved = lab.run("worker", "--database", lab.database(), "approve", row["host"])
    assert (approved.returncode, approved.stdout) == (0, f"w<script> at 127.0.0.1 is let in as {row['host']}.\n"), approved.stderr
    # let in, it is listed as waiting until its first reading is taken
    assert eventually(lambda: [worker.beat(), get_json(f"{url}/states/").get(row["host"], {}).get("status") == "running"][1])
    assert set(worker.statuses) == {200}
    assert worker.registrations == 1
    assert eventually(lambda: "waits for approval" not in text(url))
    again = lab.run("worker", "--database", lab.database(), "approve", row["host"])
    assert (again.returncode, "is let in already, from 127.0.0.1" in again.stderr) == (2, True)
    gone = lab.run("worker", "--database", lab.database(), "forget", "w<script>")
    assert gone.returncode == 0, gone.stderr
    assert eventually(lambda: [worker.beat(), worker.statuses[-1]][1] == 401 or worker.registrations > 1)
    assert lab.run("worker", "--database", lab.database(), "approve", "nobody").returncode == 2


def test_orders_run_once_report_and_are_stopped_without_being_lost(home: Lab, hub: Running) -> None:
    url = hub.url()
    old, new = Worker001(url, "old"), Worker001(url, "new", newest=True)
    assert old.register()
    assert new.register()
    with store_of(home) as store:
        rows = {one.worker_id: one.row.id for one in workers.list_all(store)}
        first = worker_commands.submit(store, rows["old"], "echo hello; exit 3", time.time())
        second = worker_commands.submit(store, rows["new"], "sleep 60", time.time())
        assert get(f"{url}/commands", {"Authorization": f"Bearer {old.token}"}, method="HEAD")[0] == 405, "who looks takes nothing"
        assert old.beat() == (first, "echo hello; exit 3")
        assert old.beat() is None, "at most once"
        assert old.execute(first, "echo hello; exit 3") == "failed"
        assert worker_commands.find(store, rows["old"], first)[3:5] == ("failed", "hello\n")
        assert new.beat() == (second, "sleep 60")
        new.report(second, "running", "Command started...\n")
        assert not new.must_stop(second)
        assert worker_commands.stop(store, second, time.time()) == "stopping"
        new.report(second, "running", "Command started...\nstill\n")  # crosses the stop
        assert new.must_stop(second)
        new.report(second, "stopped", "Command started...\nstill\n\n\nCommand was manually stopped.")
        assert worker_commands.find(store, rows["new"], second).status == "stopped"
        assert not new.must_stop(second)
        assert not old.must_stop(second), "another worker's order tells it nothing"
        assert get(f"{url}/command_output/{second}", {"Authorization": f"Bearer {old.token}"})[0] == 500


def test_a_worker_id_is_worth_nothing_from_another_address(home: Lab, hub: Running) -> None:
    own = Worker001(hub.url(), "w")
    assert own.register()
    own.beat()
    assert own.statuses == [200]
    thief = Worker001(hub.url(), "w", source="127.0.0.2")
    assert thief.register()
    assert thief.token != own.token
    thief.beat(exchange("001head_metrics_power").request.body)
    assert thief.statuses == [200]
    assert get_json(f"{own.url}/api/v1/hosts/w")["snapshot"]["gpus"][0]["power_watts"] is None, "its readings were dropped"
    listed = json.loads(home.run("worker", "--database", home.database(), "list", "--json").stdout)
    found = {one["address"]: one for one in listed if one["worker_id"] == "w"}
    assert {address: one["state"] for address, one in found.items()} == {"127.0.0.1": "approved", "127.0.0.2": "waiting"}
    moved = home.run("worker", "--database", home.database(), "approve", "w", "--json")  # the one that waits: w moved there
    assert moved.returncode == 0, moved.stderr
    assert json.loads(moved.stdout)["host"] == "w"
    assert eventually(lambda: [thief.beat(exchange("001head_metrics_power").request.body), get_json(f"{own.url}/api/v1/hosts/w")][1]["snapshot"]["gpus"][0]["power_watts"] == 120.55)
    own.beat()
    assert own.statuses[-1] == 401


# ---- seeds 002 and 003, and the pages


def test_a_hub_of_seed_002_reads_our_node_and_no_refusal_is_taken_for_readings(node: Running) -> None:
    good, wrong = Hub002(node.url(), "x"), Hub002(node.url(), "y")
    assert eventually(lambda: [good.poll(), good.alive][1])
    entry = good.entry()
    assert (entry["hostname"], entry["status"], len(entry["gpus"])) == ("machines", True, 2)
    assert abs(time.time() - time.mktime(time.strptime(entry["last_update"][:19], "%Y-%m-%dT%H:%M:%S"))) < 120
    for _ in range(3):
        wrong.poll()
    assert wrong.entry() == {"hostname": node.url(), "status": False, "gpus": [], "version": ""}


def test_seed_003s_page_has_the_same_number_for_a_gpu_after_a_restart_and_no_card_of_unknown_values(lab: Lab, tmp_path: Path) -> None:
    hub = lab.hub("", env={**VESTA, **compat(workers="open")})
    assert VestaSender(hub.url(), "vm", tmp_path / "1.json").run()
    worker = Worker001(hub.url(), "w")
    assert worker.register()
    worker.beat()
    unknown = json.dumps({"gpu:0": {"device_num": 0, "uuid": "GPU-x", "gpu_name": "X", "gpu_volatile": "[N/A]", "processes": []}}).encode()
    assert VestaSender(hub.url(), "blind", tmp_path / "2.json", body=unknown).run()
    cards = eventually(lambda: (found := page003(hub.url())) and len(found) == 4 and found)
    assert cards == [
        "GPU 0 (NVIDIA GeForce RTX 3090) 37.0% 2048 MB / 24576 MB (8.3%)", "GPU 1 (NVIDIA GeForce RTX 3090) 0.0% 1 MB / 24576 MB (0.0%)",
        "GPU 2 (NVIDIA GeForce RTX 3090) 37.0% 2048 MB / 24576 MB (8.3%)", "GPU 3 (NVIDIA GeForce RTX 3090) 0.0% 1 MB / 24576 MB (0.0%)",
    ]  # fmt: skip
    hub.stop()
    with sqlite3.connect(lab.folder / "hub.db") as db:
        numbers = dict(db.execute("SELECT gpu_uuid, number FROM gpu_number"))
    assert sorted(numbers.values()) == list(range(len(numbers)))
    again = lab.hub("", env={**VESTA, **compat(workers="open")})
    assert VestaSender(again.url(), "first-now", tmp_path / "3.json", body=exchange("004v030_update").request.body).run()
    assert VestaSender(again.url(), "vm", tmp_path / "1.json").run()
    found = eventually(lambda: (cards := page003(again.url())) and any("GPU 0 (NVIDIA" in card for card in cards) and any("1080" in card for card in cards) and cards)
    assert found
    assert all(int(card.split()[1]) >= len(numbers) for card in found if "1080 Ti" in card)


PAGES = {
    "/login": "/", "/logout": "/", "/status": "/", "/dashboard": "/", "/display": "/", "/server_dashboard": "/history", "/user_utilization": "/reports",
    "/search_user": "/reports", "/create_user": "/reports", "/delete_user": "/reports", "/list_users": "/reports", "/inactive_users": "/reports",
    "/csv_analysis": "/import", "/download_csvs": "/history", "/download_csv/gpu_usage_daily_2026-11-20.csv": "/api/v1/log.csv?day=2026-11-20",
    "/download_csv/gpu_usage_weekly_2026-47.csv": "/api/v1/log.csv?week=2026-W47", "/download_csv/gpu_usage_monthly_2026-11.csv": "/api/v1/log.csv?month=2026-11",
    "/download_csv/app.py": "/history", "/schedule": "/", "/notifications": "/", "/reset": "/",
}  # fmt: skip


def test_pages_of_seeds_000_and_003_lead_to_ours(bare: str) -> None:
    url = bare
    for path, wanted in PAGES.items():
        status, _, headers = get(url + path)
        assert (status, headers.get("location")) == (302, wanted), path
        assert get(url + wanted)[0] == 200, wanted
        assert get(url + path, method="POST", body=b"username=x")[0] in (404, 405), path
    assert get(f"{url}/download_csv/..%2fapp.py")[0] == 404
    status, page, _ = get(url, {"Accept": "text/html"})
    assert (status, "<title>" in page) == (200, True)


@pytest.fixture(autouse=True)
def _hub_logs_no_secret(home: Lab, lab: Lab) -> Iterator[None]:
    """Whatever a test does: the token of the address stands in no log, and nothing broke."""
    yield
    for running in (*home._running, *lab._running):
        assert "token=0000" not in running.output
        assert "Traceback" not in running.output, running.output[-3000:]
