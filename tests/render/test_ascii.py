from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.render import golden, samples
from wcwidth import wcswidth

from gpuwatch.model.cluster import ClusterNow, GpuState
from gpuwatch.model.snapshot import GpuReading
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import as_ascii
from gpuwatch.render.fragments import Fragments

SGR = re.compile(r"\x1b\[[0-9;]*m")
LAB = samples.lab()

README_TABLE = """\
+------------------+------------------------+-----------------+--------+-------+
| host             | gpu                    | memory usage    | volat. | temp. |
+------------------+------------------------+-----------------+--------+-------+
|host1             | 0:GeForce GTX 1080 Ti  |    235 /  11169 |     0 %|  36 °C|
|                  | 1:GeForce GTX 1080 Ti  |      2 /  11172 |     0 %|  38 °C|
+------------------+------------------------+-----------------+--------+-------+
"""
README_DETAIL = """\

### host1 :: 127.0.0.1 #########################################################
  last update: 2018/12/03 23:16:59
--------------------------------------------------------------------------------
  ┌[ gpu:0 GeForce GTX 1080 Ti 2018/12/01 14:32:37.140 ]─────────────────────┐
  │      memory used  memory available  gpu volatile  temperature            │
  │   235 / 11169MiB          10934MiB            0%         36°C            │
  │                                                                          │
  │ mem [/                                                            ]   2% │
  │  ├── X                            148MiB root                            │
  │  └── compiz                        84MiB user1                           │
  └──────────────────────────────────────────────────────────────────────────┘

  ┌[ gpu:1 GeForce GTX 1080 Ti 2018/12/01 14:32:37.141 ]─────────────────────┐
  │      memory used  memory available  gpu volatile  temperature            │
  │     2 / 11172MiB          11170MiB            0%         38°C            │
  │                                                                          │
  │ mem [                                                             ]   0% │
  │  └── X                            148MiB root                            │
  └──────────────────────────────────────────────────────────────────────────┘

________________________________________________________________________________

times: UTC
"""
"""As the README of seed 004 shows it, with the user, the program's name for its path, and our line with the time zone."""


def readme_cluster() -> ClusterNow:
    """The one host of the README."""

    def card(index: int, used: int, total: int, celsius: float, at: float) -> GpuReading:
        return GpuReading(
            uuid=f"GPU-{index}",
            index=index,
            name="GeForce GTX 1080 Ti",
            memory_used_bytes=used * 2**20,
            memory_total_bytes=total * 2**20,
            utilization_percent=0.0,
            temperature_celsius=celsius,
            live_read_at=at,
            processes=tuple(
                samples.process(user, command, mib / 1024, 60.0, pid)
                for user, command, mib, pid in (("root", "/usr/bin/X", 148, 1963), ("user1", "compiz", 84, 3437))[: 2 - index]
            ),
        )

    readings = (card(0, 235, 11169, 36.0, 1543674757.140), card(1, 2, 11172, 38.0, 1543674757.141))
    views = tuple(samples.GpuView("host1", reading, GpuState("busy", None)) for reading in readings)
    node = samples.node("host1", (), samples.machine(1.0, 1, 2), *views)
    node = replace(node, target=replace(node.target, host="127.0.0.1"), received_at=1543879019.0)
    return ClusterNow(1543879020.0, (node,))


def test_the_table_of_the_old_readme_to_the_byte():
    assert as_ascii.table(readme_cluster(), ViewOptions()) == README_TABLE


def test_the_details_of_the_old_readme_to_the_byte():
    assert as_ascii.detail(readme_cluster(), ViewOptions()) == README_DETAIL


@pytest.mark.parametrize(("style", "shown"), [("YMD", "2018/12/03"), ("MDY", "12/03/2018"), ("DMY", "03/12/2018"), ("?", "2018/12/03")])
def test_date_style(style, shown):
    assert f"last update: {shown} 23:16:59\n" in as_ascii.detail(readme_cluster(), ViewOptions(), date_style=style)


def host(name: str):
    return next(node for node in LAB.nodes if node.name == name)


VIEWS = {
    "table": lambda cluster, options: as_ascii.table(cluster, options),
    "gpu_table": lambda cluster, options: as_ascii.gpu_table(cluster, options),
    "detail": lambda cluster, options: as_ascii.detail(cluster, options),
    "rows": lambda cluster, options: as_ascii.rows(cluster, options),
    "rows_detail": lambda cluster, options: as_ascii.rows(cluster, replace(options, detail=True)),
    "hosts": lambda cluster, options: "".join(as_ascii.host_detail(cluster, node, options) for node in cluster.nodes),
    "gpus": lambda cluster, options: "".join(
        as_ascii.gpu_detail(cluster, node, gpu, options) for node in cluster.nodes for gpu in node.gpus[:2] if node.name != "gpu04"
    ),
}
LOOKS = {
    "80": ViewOptions(width=80),
    "200": ViewOptions(width=200),
    "ascii": ViewOptions(ascii_only=True),
    "color": ViewOptions(color=True),
    "60": ViewOptions(width=60),
}
WHOLE = [(view, look) for view in VIEWS for look in LOOKS if not (view in ("hosts", "gpus") and look in ("ascii", "60"))]


@pytest.mark.parametrize(("view", "look"), WHOLE)
def test_every_state_looks_as_in_the_golden_file(view, look):
    golden.check(f"{view}_{look}.txt", VIEWS[view](LAB, LOOKS[look]))


def test_empty_filtered_past_demo_and_trouble():
    parts = {
        "no hosts": as_ascii.table(samples.empty(), ViewOptions()),
        "no hosts, rows": as_ascii.rows(samples.empty(), ViewOptions()),
        "nothing found": as_ascii.rows(LAB, ViewOptions(query="h100 lisa nobody")),
        "free only": as_ascii.rows(LAB, ViewOptions(free_only=True)),
        "one user, details": as_ascii.detail(LAB, ViewOptions(user="yuki.t")),
        "second page": as_ascii.table(LAB, ViewOptions(page=2)),
        "flat": as_ascii.table(LAB, ViewOptions(layout="flat", sort="temperature", descending=True, model="L40S")),
        "past": as_ascii.table(LAB, ViewOptions(at=samples.NOW, host="spark")),
        "past, rows": as_ascii.rows(LAB, ViewOptions(at=samples.NOW, host="spark")),
        "demo, trouble": as_ascii.table(
            samples.lab(simulated=True, notices=("Line 3 of hosts.txt is not an address.",)), ViewOptions(host="spark")
        ),
        "large, rows": as_ascii.rows(samples.large(200), ViewOptions(host="a100-001")),
        "demo, rows": as_ascii.rows(samples.lab(simulated=True), ViewOptions(host="spark")),
    }
    golden.check("cases.txt", "".join(f"=== {name}\n{text}\n" for name, text in parts.items()))


# ---- what no view may do


def lines_of(text: str) -> list[str]:
    return SGR.sub("", text).split("\n")


def harmless(text: str) -> None:
    stripped = SGR.sub("", text)
    bad = [letter for letter in stripped if letter != "\n" and (not letter.isprintable() or "\ud800" <= letter <= "\udfff")]
    assert not bad, [hex(ord(letter)) for letter in bad[:5]]
    stripped.encode("utf-8")


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("width", [60, 79, 80, 81, 112, 200])
@pytest.mark.parametrize("view", VIEWS)
def test_no_line_is_wider_and_no_hostile_name_steers_the_terminal(view, width, color):
    for cluster in (LAB, samples.hostile()):
        text = VIEWS[view](cluster, ViewOptions(width=width, color=color))
        assert max(wcswidth(line) for line in lines_of(text)) <= width
        harmless(text)


@pytest.mark.parametrize("view", VIEWS)
def test_absurd_numbers_of_a_node_cost_nothing(view):
    absurd = dict.fromkeys(("memory_used_bytes", "utilization_percent", "temperature_celsius", "power_watts"), -2.0 ** 62)
    held = (replace(samples.process("lisa", "x", 1.0, 60.0), gpu_memory_bytes=2.0**62),)
    node = host("dgx-a")
    reading = replace(node.gpus[0].reading, memory_total_bytes=1, processes=held, **absurd)
    view_of = replace(node.gpus[0], reading=reading)
    node = replace(node, gpus=(view_of,), snapshot=replace(node.snapshot, gpus=(reading,)))
    text = VIEWS[view](ClusterNow(samples.NOW, (node,)), ViewOptions())
    assert len(text) < 6000


@pytest.mark.parametrize("view", VIEWS)
def test_ascii_is_ascii_and_keeps_the_widths(view):
    for cluster in (LAB, samples.hostile()):
        text = VIEWS[view](cluster, ViewOptions(ascii_only=True))
        assert text.isascii()
        assert max(map(len, text.split("\n"))) <= 80
        harmless(text)


def framed(text: str) -> list[str]:
    return [line for line in lines_of(text) if line[:1] in "|+" and line]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_every_line_of_a_table_is_as_wide_as_the_frame(width):
    for cluster in (LAB, samples.hostile()):
        for view in (as_ascii.table, as_ascii.gpu_table):
            assert {wcswidth(line) for line in framed(view(cluster, ViewOptions(width=width)))} == {width}


ANY_TEXT = st.text(max_size=60) | st.text(st.characters(min_codepoint=0x300, max_codepoint=0x1FFFF), max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=ANY_TEXT, user=ANY_TEXT, command=ANY_TEXT, width=st.integers(60, 220), color=st.booleans(), ascii_only=st.booleans())
def test_no_text_breaks_the_geometry(name, user, command, width, color, ascii_only):
    held = (samples.process(user, "x", 3.0, 60.0), samples.process(user + "a", "x", 1.0, 60.0))
    held = tuple(replace(process, command=command, name=command) for process in held)
    busy = samples.busy(name, 0, "RTX 4090", user, "x", 20.0, 50, 60.0, processes=held)
    busy = replace(busy, reading=replace(busy.reading, name=name or None))
    lost = replace(busy, state=GpuState("lost", None, why=command))
    node = samples.node(name, (user,), samples.machine(1.0, 2, 3), busy, lost)
    down = samples.node(name, (user,), None, status="down", error=command)
    cluster = ClusterNow(samples.NOW, (node, down), title=name)
    options = ViewOptions(width=width, color=color, ascii_only=ascii_only)
    for view in (as_ascii.table, as_ascii.gpu_table):
        text = view(cluster, options)
        assert {wcswidth(line) for line in lines_of(text)[:-1]} == {width}
        harmless(text)
    boxed = [line for line in lines_of(as_ascii.detail(cluster, options)) if line.startswith(("  │", "  |", "  ┌", "  +", "  └"))]
    assert {wcswidth(line) for line in boxed} == {width - 2}
    for text in (as_ascii.rows(cluster, replace(options, detail=True)), as_ascii.rows(cluster, options)):
        assert max(wcswidth(line) for line in lines_of(text)) <= width
        harmless(text)


# ---- a program that reads the old table goes on reading ours

OLD_ROW = re.compile(r"\|(.{18})\| *([0-9]+):(.{1,21}?) *\| *([0-9]+|n/r) / *([0-9]+|n/r) \| *(?:([0-9]+) %|n/r)\| *(?:([0-9]+) °C|n/r)\|")


def old_reader(text: str) -> dict[str, list[str]]:
    """Carries the host's name down and takes the rows that begin with a number, as scripts for the old table do."""
    found: dict[str, list[str]] = {}
    current = ""
    for line in text.split("\n"):
        cells = line.split("|")
        if len(cells) != 7 or cells[1].strip() == "host":
            continue
        current = cells[1].strip() or current
        found.setdefault(current, [])
        number, colon, _ = cells[2].strip().partition(":")
        if colon and number.isdigit():
            found[current].append(number)
            assert OLD_ROW.fullmatch(line) or not line.isascii() or "lost" in line, line
    return found


def test_an_old_reader_finds_every_gpu_and_no_other():
    found = old_reader(as_ascii.table(LAB, ViewOptions()))
    assert found["dgx-a"] == [str(index) for index in range(8)]
    assert found["gpu03"] == ["0", "1", "2", "3"]
    assert found["nlp-1"] == ["0", "1"]
    assert [found[name] for name in ("gpu04", "gpu05", "nlp-2", "new-1", "cpu-big")] == [[]] * 5


def test_grep_finds_the_free_ones():
    text = as_ascii.rows(LAB, ViewOptions())
    assert len(re.findall("^o[ 0-9]", text, re.MULTILINE)) == 8, "7 GPUs and a slice"
    assert len(re.findall("^=", text, re.MULTILINE)) == 4


def test_unknown_is_never_zero():
    silent = as_ascii.table(LAB, ViewOptions(host="spark"))
    assert "|    n/r /    n/r |    41 %|" in silent
    lost = next(line for line in as_ascii.table(LAB, ViewOptions(host="gpu03")).split("\n") if "lost" in line)
    assert lost.count("n/r") == 4


def test_fragments_give_the_same_bytes_and_are_used():
    cache = Fragments()
    for options in (ViewOptions(), ViewOptions(detail=True), ViewOptions(layout="rows"), ViewOptions(layout="rows", detail=True)):
        fresh = as_ascii.cluster_text(LAB, options)
        assert as_ascii.cluster_text(LAB, options, cache) == fresh
        assert as_ascii.cluster_text(LAB, options, cache) == fresh
    changed = replace(LAB, nodes=(replace(LAB.nodes[0], version=99, gpus=()), *LAB.nodes[1:]))
    assert as_ascii.table(changed, ViewOptions(), cache) == as_ascii.table(changed, ViewOptions())
    filtered = ViewOptions(query="lisa")
    assert as_ascii.table(LAB, filtered, cache) == as_ascii.table(LAB, filtered)


def test_ascii_names_need_no_width_table():
    names = "sys.path[:0] = ['src', '.']; from tests.render import samples; from gpuwatch.render import as_ascii"
    code = f"import sys; {names}; from gpuwatch.model.view import ViewOptions as V; as_ascii.rows(samples.large(3), V()); print('wcwidth' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_what_is_said_about_a_silent_host_grows_older_without_a_new_version():
    cache = Fragments()
    as_ascii.table(LAB, ViewOptions(), cache)
    later = replace(LAB, taken_at=LAB.taken_at + 3600)
    assert "down 1 h 12 m" in as_ascii.table(later, ViewOptions(), cache)


def test_at_80_columns_a_user_of_eight_letters_and_how_many_others_fit():
    many = tuple(samples.process(user, "x", 1.0, 60.0, number) for number, user in enumerate(("student7", "lisa", "mkato")))
    node = samples.node("n", (), samples.machine(1.0, 1, 2), samples.busy("n", 0, "L40S", "x", "x", 9.0, 5, 60.0, processes=many))
    lines = as_ascii.rows(ClusterNow(samples.NOW, (node,), timezone="UTC"), ViewOptions()).splitlines()
    assert [line for line in lines if " student7+2 " in line]
    assert max(map(len, lines)) <= 80


def test_a_slice_says_at_least_as_a_gpu_does():
    dgx = next(node for node in samples.lab().nodes if node.name == "dgx-b")
    split = dgx.gpus[-1]
    split = replace(split, mig_states=(*split.mig_states[:2], replace(split.mig_states[2], at_least=True)))
    node = replace(dgx, gpus=(*dgx.gpus[:-1], split))
    text = as_ascii.rows(ClusterNow(samples.NOW, (node,), timezone="UTC"), ViewOptions())
    assert re.search(r"(?m)^o7\.2 free +>3d01h", text)


def test_a_stale_node_whose_last_reading_has_no_gpu_is_stale_and_not_without_gpus():
    """Its driver did not answer: what GPUs it has is not known."""
    node = next(node for node in LAB.nodes if node.snapshot is not None and node.status == "up" and not node.gpus)
    for status, words in (("up", "     no GPU"), ("stale", "~    stale    2s  Driver hung since 14:30.")):
        changed = replace(node, status=status, status_since_at=LAB.taken_at - 10, error=None if status == "up" else "driver hung since 14:30.")
        assert f"\n{words}" in as_ascii.rows(replace(LAB, nodes=(changed,)), ViewOptions(width=80))
