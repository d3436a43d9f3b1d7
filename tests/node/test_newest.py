"""The newest sample, as it is answered."""

import dataclasses
import json
from datetime import timezone

from gpuwatch.model.snapshot import GpuReading, HostReading, Snapshot
from gpuwatch.node.newest import Newest, Sample, Trouble
from gpuwatch.wire import frame
from gpuwatch.wire.changes import known_as
from gpuwatch.wire.flat import Shape

SNAPSHOT = Snapshot(
    taken_at=1795303349.685502, hostname="vm", host=HostReading(ips=(("eth0", "192.0.2.2"),)),
    gpus=(GpuReading(uuid="GPU-1", name="H100", utilization_percent=50.0), GpuReading(uuid="GPU-2", index=1, error="GPU is lost")),
)  # fmt: skip
HUNG = Trouble("driver hung since 14:03:22", 50.0)


def newest_of(snapshot=SNAPSHOT, trouble=None):
    newest = Newest(timezone.utc)
    newest.accept(Sample.of(snapshot), trouble)
    return newest


def test_nothing_before_the_first_sample():
    newest = Newest()
    assert newest.answer() is None
    newest.fail(HUNG)
    assert newest.answer() is None
    assert newest.trouble == HUNG


def test_a_hub_gets_the_shape_only_if_it_does_not_have_it():
    answer = newest_of().answer()
    header, values = frame.decode(answer.flat("", 7.0004))
    shape = Shape.parse(header["shape"])
    assert shape.build(shape.check(json.loads(values))) == SNAPSHOT
    assert (header["flat"], header["sent_at"], header["shape_id"]) == (1, 7.0, shape.id)
    assert header["status"] == {"stale": False, "message": None, "since_at": None}
    again, values_again = frame.decode(answer.flat(shape.id, 8.0))
    assert "shape" not in again
    assert values_again == values
    assert "shape" in frame.decode(answer.flat("0" * 32, 8.0))[0]


def test_a_hub_that_has_the_sample_before_gets_what_changed():
    newest = newest_of()
    header, _ = frame.decode(newest.answer().flat("", 7.0))
    known = known_as(header["shape_id"], header["sample"])
    newest.accept(Sample.of(dataclasses.replace(SNAPSHOT, taken_at=1795303354.5)), Trouble("crashed; restarted", 50.0, False))
    again, lines = frame.decode(newest.answer().flat(known, 8.0))
    assert (again["base"], lines) == (header["sample"], b"[0]\n[1795303354.5]")
    assert frame.decode(newest.answer().flat(known, 9.0))[0]["sample"] == again["sample"] != header["sample"]


def test_others_get_seed_002_and_the_whole_snapshot():
    body = json.loads(newest_of().answer().json())
    assert body["last_update"] == "2026-11-21T23:22:29.685502"
    assert body["hostname"] == "vm"
    assert [gpu["utilize"] for gpu in body["gpus"]] == [50, None]
    assert body["snapshot"]["gpus"][0]["utilization_percent"] == 50.0
    assert body["snapshot"]["gpus"][1]["error"] == "GPU is lost"
    assert body["snapshot"]["host"]["ips"] == [["eth0", "192.0.2.2"]]
    assert body["status"] == {"stale": False, "message": None, "since_at": None}


def test_it_is_encoded_once_a_sample():
    newest = newest_of()
    assert newest.answer().json() is newest.answer().json()
    before = newest.answer().json()
    newest.accept(Sample.of(SNAPSHOT))
    assert newest.answer().json() is not before


def test_trouble_marks_the_old_readings():
    newest = newest_of()
    newest.answer().json()
    newest.fail(HUNG)
    status = {"stale": True, "message": "driver hung since 14:03:22", "since_at": 50.0}
    assert json.loads(newest.answer().json())["status"] == status
    assert json.loads(newest.answer().json())["gpus"][0]["name"] == "H100"
    assert frame.decode(newest.answer().flat("", 0))[0]["status"] == status


def test_what_happened_is_told_for_a_while():
    newest = newest_of(trouble=Trouble("crashed; restarted", 50.0, False, until_at=100.0))
    assert newest.answer(99.0).status == {"stale": False, "message": "crashed; restarted", "since_at": 50.0}
    assert newest.answer(100.0).status["message"] is None
    assert newest.trouble is None


def test_a_null_stays_null_and_text_from_drivers_does_no_harm():
    snapshot = Snapshot(taken_at=1.0, hostname="a\ud800b", gpus=(GpuReading(uuid="G", name='"\n\x1b<script>'),))
    body = newest_of(snapshot).answer().json()
    assert json.loads(body)["gpus"][0]["use_mem"] is None
    assert json.loads(body)["gpus"][0]["name"] == '"\n\x1b<script>'
    body.decode("utf-8")
