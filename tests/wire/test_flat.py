"""Round trip of snapshots through shape and values; hostile shapes and values are refused in words."""

import dataclasses
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.model.errors import WireError
from gpuwatch.model.snapshot import (
    CollectorStatus,
    ContainerRef,
    DiskReading,
    GpuReading,
    HostReading,
    MigReading,
    ProcessReading,
    Snapshot,
    XidEvent,
)
from gpuwatch.wire import frame
from gpuwatch.wire.flat import Flattener, Shape, shape_id


def sample(**changes):
    process = ProcessReading(
        pid=7, started_at=1.5, user="lisa", name="python", command="python train.py", container=ContainerRef("docker", "ab"),
        gpu_memory_bytes=2**30, sm_percent=None, cpu_percent=99.5,
    )
    gpu = GpuReading(
        uuid="GPU-1", index=0, name="H100", memory_used_bytes=2**30, utilization_percent=97, power_watts=301.5,
        missing={"fan_percent": "not supported"}, mig=(MigReading(uuid="MIG-1", memory_used_bytes=5),), processes=(process,),
    )
    lost = GpuReading(uuid="GPU-2", index=1, error="lost", error_since_at=12.0)
    host = HostReading(ips=(("eth0", "10.0.0.1"),), cores_percent=(1, 2.5, None), disks=(DiskReading("/", used_bytes=1),), cpu_percent=3)
    snapshot = Snapshot(
        taken_at=1790000000.25, hostname="dgx-a", version="1", host=host, gpus=(gpu, lost),
        collectors=(CollectorStatus("nvml", duration_seconds=0.25),), xids=(XidEvent(5.0, 79, "0000:01:00.0"),),
    )
    return dataclasses.replace(snapshot, **changes)


def through_json(flat):
    return Shape.parse(json.loads(json.dumps(flat.shape))), json.loads(frame.encode_values(flat.values))


def test_a_snapshot_comes_back_equal():
    snapshot = sample()
    shape, values = through_json(Flattener().flatten(snapshot))
    assert shape.build(shape.check(values)) == snapshot


def test_the_shape_travels_only_when_a_fact_changes():
    flattener = Flattener()
    first = flattener.flatten(sample())
    again = flattener.flatten(sample(taken_at=1790000004.0))
    other = flattener.flatten(sample(hostname="dgx-b"))
    assert first.shape is not None
    assert again.shape is None
    assert again.shape_id == first.shape_id
    assert other.shape is not None
    assert other.shape_id != first.shape_id


def test_places_tell_where_a_gpus_numbers_stand():
    shape, values = through_json(Flattener().flatten(sample()))
    first, lost = shape.places().gpus
    assert values[first.utilization_percent] == 97
    assert values[lost.utilization_percent] is None
    assert [facts.get("error") for facts in shape.gpu_facts()] == [None, "lost"]


def test_the_outline_is_the_places_without_processes():
    shape, _ = through_json(Flattener().flatten(sample()))
    places, outline = shape.places(), shape.outline()
    assert any(gpu.processes for gpu in places.gpus)
    counted = tuple(replace(gpu, processes=(None,) * len(gpu.processes)) for gpu in places.gpus)
    assert outline == replace(places, gpus=counted)


def test_the_id_is_the_hash_of_the_shape():
    flat = Flattener().flatten(sample())
    shape, _ = through_json(flat)
    assert shape.id == flat.shape_id == shape_id(flat.shape)


def test_a_hub_of_another_version_finds_each_number_by_name():
    flat = Flattener().flatten(sample())
    doc = json.loads(json.dumps(flat.shape))
    doc["fields"]["CollectorStatus"].append("heat_of_the_future")
    shape = Shape.parse(doc)
    values = list(flat.values)
    values.append(42)  # the one collector's new number is the last value, before no others
    assert shape.build(shape.check(values)) == sample()


@pytest.mark.parametrize(
    ("values", "words"),
    [([1], "1 values where"), ("x", "no values"), (None, "no values")],
)
def test_wrong_values_are_refused(values, words):
    shape, _ = through_json(Flattener().flatten(sample()))
    with pytest.raises(WireError, match=words):
        shape.check(values)


@pytest.mark.parametrize("bad", ["1", True, [], 2**70, -(2**70), 1e300])
def test_a_wrong_value_is_refused(bad):
    shape, values = through_json(Flattener().flatten(sample()))
    values[3] = bad
    with pytest.raises(WireError):
        shape.check(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hostname": 5}, r"Snapshot.hostname = '5' is not a text"),
        ({"gpus": [{"index": "zero"}]}, "GpuReading.index"),
        ({"gpus": [{"missing": {"a": 1}}]}, "GpuReading.missing"),
        ({"gpus": {}}, "gpus is not a list"),
        ({"gpus": [3]}, "GpuReading is not an object"),
        ({"host": {"cores_percent": -1}}, "cores_percent is not a count"),
        ({"host": {"ips": [["a"]]}}, "HostReading.ips"),
        ({"host": {"disks": [{}] * 20001}}, "20001 disks in one list"),
        ({"host": {"disks": [{}] * 3000, "networks": [{}] * 3000}}, "more than 5000"),
    ],
)
def test_a_hostile_shape_is_refused_in_words(change, words):
    doc = json.loads(json.dumps(Flattener().flatten(sample()).shape))
    doc["facts"].update(change)
    with pytest.raises(WireError, match=words):
        Shape.parse(doc)


def test_another_schema_is_named():
    doc = dict(Flattener().flatten(sample()).shape, schema=99)
    with pytest.raises(WireError, match="schema is 99"):
        Shape.parse(doc)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(JSON, JSON)
def test_no_shape_of_a_stranger_raises_anything_but_wire_errors(facts, fields):
    try:
        Shape.parse({"schema": 1, "facts": facts, "fields": fields})
    except WireError as error:
        assert str(error)


@given(st.binary(max_size=200))
def test_no_frame_of_a_stranger_raises_anything_but_wire_errors(body):
    try:
        header, values = frame.decode(body)
    except WireError as error:
        assert str(error)
    else:
        assert isinstance(header, dict)
        assert isinstance(values, bytes)


def test_frames_round_trip_and_refuse_nan():
    assert frame.decode(frame.encode({"a": 1}, b"[1,null]")) == ({"a": 1}, b"[1,null]")
    with pytest.raises(WireError, match="NaN is not a number"):
        frame.loads(b"[NaN]")
    with pytest.raises(WireError, match=r"not a gpuwatch frame \(it starts with '<html> {2}'\)"):
        frame.decode(b"<html>\0\x1b")
    with pytest.raises(WireError):
        frame.loads(b"[" * 100000)


def hostile(change):
    doc = json.loads(json.dumps(Flattener().flatten(sample()).shape))
    change(doc)
    return doc


def nested(levels):
    return [] if levels == 0 else [nested(levels - 1)]


HOSTILE = {
    "long field name": lambda doc: doc["fields"]["GpuReading"].append("x" * 5000),
    "deep": lambda doc: doc["facts"].update(later=nested(200)),
    "many GPUs": lambda doc: doc["facts"].update(gpus=[{}] * 5000),
    "many slices": lambda doc: doc["facts"]["gpus"][0].update(mig=[{}] * 5000),
    "many processes": lambda doc: doc["facts"]["gpus"][0].update(processes=[{}] * 5000),
    "many Xids": lambda doc: doc["facts"].update(xids=[{}] * 5000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_shapes_that_only_cost_are_refused(name):
    with pytest.raises(WireError):
        Shape.parse(hostile(HOSTILE[name]))


def test_a_number_with_the_name_of_a_fact_does_not_take_its_place():
    shape = Shape.parse(hostile(lambda doc: doc["fields"].update(GpuReading=["missing", "uuid", "processes", "power_watts"])))
    first, second = shape.build(list(range(shape.count))).gpus
    assert (first.uuid, second.uuid, dict(second.missing)) == ("GPU-1", "GPU-2", {})
    assert first.power_watts is not None


@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        ((GpuReading(uuid="GPU-1"), GpuReading(uuid="GPU-1", index=1)), "two GPUs or slices of the UUID 'GPU-1'"),
        ((GpuReading(uuid="GPU-1"), GpuReading(uuid="GPU-1", index=1, error="lost")), "two GPUs or slices of the UUID 'GPU-1'"),
        ((GpuReading(uuid="GPU-1", mig=(MigReading("MIG-1"), MigReading("MIG-1", 1))),), "two GPUs or slices of the UUID 'MIG-1'"),
        ((GpuReading(uuid="GPU-1"), GpuReading(index=3)), "GPU 3 of the answer has no UUID"),
        ((GpuReading(error="lost"),), "GPU 0 of the answer has no UUID"),
    ],
)
def test_gpus_that_cannot_be_told_apart_are_refused(gpus, words):
    flat = Flattener().flatten(Snapshot(taken_at=1.0, hostname="a", gpus=gpus))
    with pytest.raises(WireError, match=words):
        Shape.parse(flat.shape)


def test_gpus_and_slices_that_can_be_told_apart_are_taken():
    slices = (MigReading("MIG-1"), MigReading("MIG-2", 1))
    gpus = (GpuReading(uuid="GPU-1", mig=slices), GpuReading(uuid="GPU-2", index=1, error="lost"), GpuReading(uuid="pci-0000:01:00.0", index=1))
    snapshot = Snapshot(taken_at=1.0, hostname="a", gpus=gpus)
    flat = Flattener().flatten(snapshot)
    assert Shape.parse(flat.shape).build(flat.values) == snapshot
