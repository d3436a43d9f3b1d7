"""Texts with gaps, and the twins: what is filled in from a live node's flat values is what its readings give, byte for byte."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from typing import Any, Callable, Optional

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hub.readings import GB, busy, flat, gpu, process, snapshot
from tests.render.samples import HOSTILE

from gpuwatch.model.cluster import ClusterNow, Target
from gpuwatch.model.snapshot import (
    CollectorStatus,
    ContainerRef,
    DiskReading,
    GpuReading,
    HostReading,
    LoginReading,
    MigReading,
    NetworkReading,
    Snapshot,
    XidEvent,
)
from gpuwatch.model.view import ViewOptions
from gpuwatch.query.cluster import cluster
from gpuwatch.query.latest import Display, Latest, Report
from gpuwatch.render import as_csv, as_json, as_prometheus
from gpuwatch.render.filling import Pool
from gpuwatch.render.fragments import Fragments
from gpuwatch.render.gaps import Gap, Gaps, Template
from gpuwatch.wire.flat import Shape
from gpuwatch.wire.frame import encode_values
from gpuwatch.wire.legacy import seed002_hub, seed004
from gpuwatch.wire.numbers import texts_of

NOW = 1_795_008_730.0
OUTPUTS: dict[str, Callable[[ClusterNow, Optional[Fragments]], Any]] = {
    "json": lambda now, cache: as_json.cluster_json(now, ViewOptions(audience=now.audience), cache),
    "csv": lambda now, cache: as_csv.cluster_csv(now, ViewOptions(audience=now.audience), cache),
    "002": seed002_hub.nodes_json,
    "004": seed004.states,
    "prometheus": lambda now, cache: "".join(as_prometheus.cluster_metrics(now, processes=True, cache=cache)),
}


# ---- templates


def test_a_template_is_filled_from_pools():
    gaps = Gaps()
    marked = f"{gaps.leave(max, 0, 1)}<{gaps.leave(str, 1)}|{gaps.leave(repr, 2)}|{gaps.leave(str, None)}>{gaps.leave(max, 1, 2)}"
    form = Template(
        marked, gaps, 3, {str: None, max: lambda rows: [str(max(row)) for row in rows], repr: lambda rows: [f"{one}!" for (one,) in rows]}
    )
    assert form.fill(Pool(["5", "7", "6"], ["null"])) == "7<7|6!|null>7"
    assert form.fill(Pool(["1", "2", "3"], [""])) == "2<2|3!|>3"


def test_without_gaps_or_with_one():
    assert Template("100 %s", Gaps(), 0, {}).fill(Pool([1], [])) == "100 %s"
    gaps = Gaps()
    assert Template(f"a{gaps.leave(str, 1)}", gaps, 0, {}).fill(Pool([], [0, 1])) == "a1"


def test_real_numbers_fill_the_gaps_at_once():
    gaps = Gaps()
    assert gaps.filled(f"{gaps.leave(repr, None)}, {gaps.leave('{}{}'.format, 1, 2)}") == "None, 12"


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_documents_are_written_as_the_encoder_does(document):
    for encoder in (json.JSONEncoder(), json.JSONEncoder(separators=(",", ":"))):
        assert Gaps().encode(encoder, document) == encoder.encode(document)
    gaps = Gaps()
    assert gaps.filled(gaps.encode(json.JSONEncoder(), {"a": [Gap.of(str, 1)], "b": document})) == json.dumps({"a": [1], "b": document})


# ---- twins


class Lab:
    """A hub's newest state of some targets, and its readers' cache."""

    def __init__(self, *names: str, **display: Any) -> None:
        self.latest = Latest(display=Display(5.0, "lab", "Europe/Berlin", **display))
        self.latest.set_targets([(Target(name, name, 7080, tags=("a,b", name)), f"id-{name}") for name in names], NOW)
        self.cache = Fragments()

    def give(self, name: str, now: float, what: Snapshot, lines: bool = True, **more: Any) -> None:
        shape, values = flat(what)
        known = self.latest.get(name)
        if known is not None and known.plan is not None and known.plan.shape.id == shape.id:
            shape = known.plan.shape
        self.latest.accept(name, shape, values, received_at=now, texts=texts_of(encode_values(values)) if lines else None, **more)

    def check(self, now: float) -> ClusterNow:
        """All outputs, for all readers, kept and anew. Returns what a member sees."""
        for audience in ("stranger", "member"):
            for name, output in OUTPUTS.items():
                fast = output(cluster(self.latest, now, audience), self.cache)
                assert output(cluster(self.latest, now, audience), self.cache) == fast
                assert output(cluster(self.latest, now, audience), None) == fast, (name, audience)
        return cluster(self.latest, now, "member")


MIG = (MigReading("MIG-1", 0, "3g", 1, 0, 5 * GB, 40 * GB, 12.5), MigReading("MIG-2", 1, "1g", 2, 0, None, 10 * GB, None))


def everything(at: float, utilization: float = 90.0) -> Snapshot:
    """GPUs in every state, and a value in every list."""
    held = process(
        7,
        command=None,
        name="Xorg main",
        user=None,
        gpu_memory_bytes=None,
        cpu_percent=101.5,
        container=ContainerRef("docker", "x"),
        job="9",
    )
    gpus = (
        gpu(0, missing={"fan_percent": 'not "supported", here'}, live_read_at=at - 0.0004, memory_free_bytes=79 * GB),
        busy(1, utilization),
        gpu(2, temperature_celsius=95, processes=(process(5), held), throttle_mask=4, power_watts=61.0),
        gpu(3, throttle_mask=0x40 | 4, memory_reserved_bytes=GB, power_watts=0.1),
        GpuReading(uuid="GPU-lost", index=4, error="GPU is lost", error_since_at=at - 100),
        gpu(5, mig_enabled=True, mig=MIG, utilization_percent=None, processes=(process(9, gpu_instance=1, compute_instance=0),)),
        gpu(
            6, memory_used_bytes=None, utilization_percent=None, temperature_celsius=None, power_watts=None, missing={"processes": "error"}
        ),
        gpu(
            7,
            memory_used_bytes=1.5 * GB,
            utilization_percent=12.5,
            energy_joules=1e20 / 3e3,
            ecc_corrected_errors=0,
            power_limit_watts=400.0,
        ),
    )
    host = HostReading(
        os="Ubuntu", ips=(("eth0", "10.0.0.9"),), cpu_percent=5.25, cores_percent=(1.0, None, 3.5), live_read_at=at,
        disks=(DiskReading("/", "/dev/x", "ext4", 1, 2), DiskReading("/data")), networks=(NetworkReading("eth0", 5, 6),), logins=(LoginReading("a", "b"),),
    )  # fmt: skip
    collectors = (CollectorStatus("nvml", True, duration_seconds=0.01), CollectorStatus("host"))
    return snapshot(at, *gpus, host=host, collectors=collectors, xids=(XidEvent(at, 79, "0000:10"),))


def quiet(at: float) -> Snapshot:
    """GPUs whose states nothing has to be built for."""
    return snapshot(at, gpu(0, throttle_mask=4, power_watts=round(at % 7, 1), live_read_at=at), busy(1, 10 + at % 50), gpu(2, name=None))


def test_twins_poll_after_poll():
    lab = Lab("a", "b", "never")
    for poll in range(4):
        now = NOW + 5 * poll
        lab.give("a", now, everything(now - 1, 90.0 - 30 * poll), clock_skew_seconds=poll * 0.5)
        lab.give("b", now, quiet(now - 1), lines=poll % 2 == 0)
        member = lab.check(now)
    states = [view.state for view in member.nodes[0].gpus]
    assert [state.state for state in states[:6]] == ["free", "busy", "busy", "free", "lost", "mig"]
    assert (states[2].marks, states[3].marks) == (("hot",), ("throttled: thermal (hardware)",))


def test_nothing_is_built():
    lab = Lab("a", "b")
    for poll in range(2):
        now = NOW + 5 * poll
        for name in ("a", "b"):
            lab.give(name, now, quiet(now - 1))
        for audience in ("stranger", "member"):
            seen = cluster(lab.latest, now, audience)
            for output in OUTPUTS.values():
                output(seen, lab.cache)
            assert not {"snapshot", "gpus"} & {name for node in seen.nodes for name in vars(node)}
    lab.check(now)


def test_a_gpu_that_pauses_changes_its_state_and_no_template():
    lab = Lab("a")
    for poll, utilization in enumerate((90, 0, 0, 90)):
        now = NOW + 5 * poll
        lab.give("a", now, snapshot(now - 1, busy(0, utilization)))
        kept = lab.cache._kept.get(("json form", "member", "a"))
        view = lab.check(now).nodes[0].gpus[0]
        assert (view.state.no_work_since_at is None) is (utilization == 90)
        assert kept is None or lab.cache._kept["json form", "member", "a"] is kept


def test_twins_of_nodes_in_trouble():
    lab = Lab("stale", "down", "hung", "refused", "driver", "gpuless", "back", "early")
    old = snapshot(NOW - 300, busy(0), GpuReading(uuid="GPU-lost", error="GPU is lost"), gpu(2, mig_enabled=True, mig=MIG))
    shape, values = flat(old)
    lab.latest.restore("back", shape, values, NOW - 300)
    for name in ("stale", "down", "hung", "refused"):
        lab.give(name, NOW, everything(NOW - 1))
    lab.latest.accept("hung", (known := lab.latest.get("hung")).plan.shape, known.values, received_at=NOW + 5, report=Report(True, "hung, \"so\"", NOW))  # fmt: skip
    lab.latest.fail("refused", "wrong password. Next: x", NOW + 5, answers=True)
    lab.give("driver", NOW, replace(snapshot(NOW, collectors=(CollectorStatus("nvml", False, "driver 1, library 2"),)), gpus=()))
    lab.give("gpuless", NOW, replace(snapshot(NOW), gpus=()))
    seen = set()
    for passed in (1, 6, 20, 61, 70):
        if passed < 60:
            lab.give("refused", NOW + passed, everything(NOW + passed - 1))
            lab.latest.fail("down", "no answer, at \"all\"", NOW + passed)  # fmt: skip
        lab.latest.tick(NOW + passed)
        seen |= {node.status for node in lab.check(NOW + passed).nodes}
    assert seen >= {"up", "stale", "down", "error", "unseen"}
    lab.give("back", NOW + 80, old)
    lab.check(NOW + 80)


def test_twins_of_targets_that_change_and_of_a_new_shape():
    lab = Lab("a")
    lab.give("a", NOW, everything(NOW - 1))
    lab.check(NOW)
    lab.latest.set_targets([(Target("a", "10.9.9.9", 1, tags=("new",)), "id-a")], NOW + 1)
    assert b"10.9.9.9" in OUTPUTS["004"](lab.check(NOW + 1), lab.cache)
    lab.give("a", NOW + 5, snapshot(NOW + 4, busy(0), busy(1)))
    lab.check(NOW + 5)
    for passed, error in ((70, "refused"), (75, "no answer")):  # facts all the same but for one
        lab.latest.fail("a", error, NOW + passed)
        lab.latest.tick(NOW + passed)
        assert error.encode() in OUTPUTS["json"](lab.check(NOW + passed), lab.cache)


def test_strangers_never_get_arguments_from_a_template():
    lab = Lab("a")
    for poll in range(2):
        lab.give("a", NOW + 5 * poll, snapshot(NOW + 5 * poll - 1, busy(0)))
        for order in (("member", "stranger"), ("stranger", "member")):
            for output in (OUTPUTS["json"], OUTPUTS["002"]):
                bodies = {audience: output(cluster(lab.latest, NOW, audience), lab.cache) for audience in order}
                assert b"--lr" in bodies["member"]
                assert b"--lr" not in bodies["stranger"]
    shown = Lab("a", show_arguments=True)
    shown.give("a", NOW, snapshot(NOW - 1, busy(0)))
    assert b"--lr" in OUTPUTS["json"](shown.check(NOW), shown.cache)


def test_twins_of_hostile_texts():
    names = [f"h{number}" for number, _ in enumerate(HOSTILE)]
    lab = Lab(*names, *[text.encode("utf-8", "replace").decode() for text in HOSTILE])
    for name, text in zip(names, HOSTILE):
        one = process(1, name=text, command=text, user=text, job=text, container=ContainerRef(text, text, text, text))
        held = replace(busy(0), processes=(one, replace(one, command=None)), name=text, serial=text, missing={text: text})
        what = snapshot(
            NOW - 1, held, gpu(1, error=text, uuid=f"GPU-{text}"), hostname=text, collectors=(CollectorStatus(text, False, text),)
        )
        lab.give(name, NOW, what)
        lab.latest.fail(name, text, NOW + 1, answers=True)
    lab.check(NOW + 1)
    json.loads(OUTPUTS["json"](cluster(lab.latest, NOW), lab.cache))


def test_a_stranger_that_leaves_times_and_all_else_out():
    lab = Lab("no-time", "nothing", "century")
    shape, values = flat(snapshot(NOW - 1, busy(0)))
    place = shape.doc["fields"]["Snapshot"].index("taken_at")
    for name, at in (("no-time", None), ("century", 1e18)):
        told = [*values[:place], at, *values[place + 1 :]]
        lab.latest.accept(name, shape, told, received_at=NOW, clock_skew_seconds=3.0, texts=texts_of(encode_values(told)))
    bare = Shape.parse({"schema": 1, "facts": {"gpus": [{"uuid": "GPU-1"}]}, "fields": {}})
    lab.latest.accept("nothing", bare, [], received_at=NOW, texts=[])
    nodes = json.loads(OUTPUTS["002"](lab.check(NOW), lab.cache))["Nodes"]
    assert ["last_update" in node for node in nodes] == [False, False, False]
    assert nodes[1]["gpus"][0]["use_mem"] is None


TOKENS = st.sampled_from(
    ["null", "0", "-0", "1", "-1", "1.0", "-0.0", "0.50", "100.00", "10.0", "1e2", "1E2", "1e-7", "-1.5e+3", "12345678901234567", "0.1"]
)
NUMBERS = st.integers(-(2**62), 2**62).map(str) | st.floats(-(2.0**62), 2.0**62).map(repr)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.booleans())
def test_any_number_of_a_stranger(data, odd):
    """What our nodes write gives the same bytes; any other way to write a number gives the same number."""
    shape, values = flat(everything(NOW))
    tokens = data.draw(
        st.lists(TOKENS | NUMBERS if odd else NUMBERS.filter(lambda token: token != "-0.0") | st.just("null"), min_size=8, max_size=40)
    )
    texts = [tokens[place % len(tokens)] for place in range(shape.count)]
    line = (" [" + (" , " if odd else ",").join(texts) + "] ").encode()
    lab = Lab("a")
    lab.latest.accept("a", shape, shape.check(json.loads(line)), received_at=NOW, texts=texts_of(line))
    if not odd:
        lab.check(NOW)
    else:
        now = cluster(lab.latest, NOW)
        assert OUTPUTS["002"](now, lab.cache) == OUTPUTS["002"](now, None)
        assert OUTPUTS["004"](now, lab.cache) == OUTPUTS["004"](now, None)
        assert json.loads(OUTPUTS["json"](now, lab.cache)) == json.loads(OUTPUTS["json"](now, None))
        assert numeric(OUTPUTS["csv"](now, lab.cache)) == numeric(OUTPUTS["csv"](now, None))


def numeric(text: str) -> list[list[Any]]:
    """The cells, those that are numbers as numbers."""

    def cell(one: str) -> Any:
        try:
            return float(one) if math.isfinite(float(one)) else one
        except ValueError:
            return one

    return [list(map(cell, row)) for row in csv.reader(io.StringIO(text, newline=""))]
