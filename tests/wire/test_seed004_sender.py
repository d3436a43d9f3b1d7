"""Seed 004's senders: recorded bodies as snapshots, answers byte for byte, and whatever a stranger may send instead."""

from __future__ import annotations

import json
from zoneinfo import ZoneInfo

import pytest
from tests.captures.read import exchange

from gpuwatch.model.cluster import NodeState, Target
from gpuwatch.model.errors import WireError
from gpuwatch.model.units import MIB
from gpuwatch.wire.flat import Flattener, Shape
from gpuwatch.wire.legacy import seed004, seed004_sender

ZONE = ZoneInfo("Europe/Berlin")
NOW = 1795303500.0
ID = "ab" * 16


def snapshot(doc, name="vm"):
    return seed004_sender.snapshot(doc, name, NOW, ZONE)


def gpu(**fields):
    return {"gpu:0": {"device_num": 0, "uuid": "GPU-1", "gpu_name": "A", "processes": [], **fields}}


# ---- answers


@pytest.mark.parametrize("name", ["004_register", "004v030_register"])
def test_register_is_answered_as_recorded(name):
    recorded = exchange(name).response
    assert seed004_sender.registered(recorded.json["id"], recorded.json["register_name"]) == recorded.body
    assert recorded.headers["content-type"] == seed004_sender.CONTENT_TYPE


def test_other_answers_are_as_recorded():
    assert seed004_sender.stored() == exchange("004_update").response.body == exchange("004v030_update").response.body
    assert seed004_sender.forbidden() == exchange("004_register_bad_token").response.body == exchange("004_update_None_bad_token").response.body
    assert seed004_sender.unknown_host() == exchange("004_update_unknown_hash").response.body
    assert seed004_sender.invalid_notification() == b'{"status": "ERROR", "status_code": 400, "info": "you need a valid json data"}'
    assert seed004_sender.element(None) == b'{"element": "", "found": false}'


def test_a_new_id_is_hex_of_128_random_bits_without_zeros_in_front():
    ids = {seed004_sender.new_id() for _ in range(2000)}
    assert len(ids) == 2000
    assert all(id == f"{int(id, 16):x}" for id in ids)
    assert {len(id) for id in ids} >= {31, 32}


# ---- readings


def test_the_recorded_body_is_a_snapshot():
    doc = seed004_sender.parse(exchange("004_update").request.body)
    made = snapshot(doc)
    assert (made.taken_at, made.hostname, made.interval_seconds) == (NOW, "vm", 60.0)
    first, second = made.gpus
    assert (first.uuid, first.index, first.name) == ("GPU-11111111-2222-3333-4444-555555555555", 0, "NVIDIA GeForce RTX 3090")
    assert (first.temperature_celsius, first.utilization_percent) == (41, 37)
    assert (first.memory_total_bytes, first.memory_free_bytes, first.memory_used_bytes) == (24576 * MIB, 22528 * MIB, 2048 * MIB)
    (process,) = first.processes
    assert (process.pid, process.user, process.name, process.gpu_memory_bytes, process.command) == (19949, "root", "python", 1024 * MIB, None)
    assert (second.index, second.processes, second.utilization_percent) == (1, (), 0)
    assert second.missing == dict.fromkeys(("mig_enabled", "power_watts", "fan_percent"), "not told by vesta's sender")
    assert [part.name for part in made.collectors] == ["vesta's sender"]


@pytest.mark.parametrize("name", ["004_update", "004v030_update"])
def test_what_was_sent_comes_out_again_in_the_old_form(name):
    """Through the hub's own form of a snapshot, and its /states/: the same values, the GPU's own time of the node's clock included."""
    sent = json.loads(exchange(name).request.body)
    made = snapshot(seed004_sender.parse(exchange(name).request.body))
    flat = Flattener().flatten(made)
    shape = Shape.parse(flat.shape)
    node = NodeState(Target("vm", "10.0.0.1", 0, "vesta"), ID, "up", NOW, snapshot=shape.build(shape.check(flat.values)), received_at=NOW)
    got = seed004.newest(node, "Europe/Berlin")["gpu_data"]
    assert set(got) == set(sent)
    for key, wanted in sent.items():
        for field in ("device_num", "temperature", "total_memory", "available_memory", "used_memory", "gpu_volatile"):
            assert got[key][field] == str(wanted[field]), (key, field)
        assert (got[key]["uuid"], got[key]["gpu_name"], got[key]["timestamp"]) == (wanted["uuid"], wanted["gpu_name"], wanted["timestamp"])
        assert got[key]["processes"] == [{**one, "used_memory": str(one["used_memory"])} for one in wanted["processes"]]


def test_what_is_not_told_is_none_with_a_reason_never_zero():
    made = snapshot(gpu(temperature="[N/A]", used_memory=None, gpu_volatile="[Not Supported]", total_memory="24576", timestamp="soon"))
    (one,) = made.gpus
    assert (one.temperature_celsius, one.memory_used_bytes, one.utilization_percent, one.memory_free_bytes) == (None, None, None, None)
    assert (one.memory_total_bytes, one.live_read_at, one.power_watts) == (24576 * MIB, None, None)
    assert set(one.missing) >= {"temperature_celsius", "memory_used_bytes", "utilization_percent", "memory_free_bytes"}


def test_values_that_cannot_be_are_not_believed():
    (one,) = snapshot(gpu(gpu_volatile=250, used_memory=-5, temperature=True, total_memory=1e300)).gpus
    assert (one.utilization_percent, one.memory_used_bytes, one.temperature_celsius, one.memory_total_bytes) == (None, None, None, None)
    assert "250 % is more than 100" in one.missing["utilization_percent"]


def test_a_process_that_is_none_makes_the_list_not_whole():
    (one,) = snapshot(gpu(processes=[{"pid": "7", "name": "x"}, "y", {"pid": "no"}, {"pid": -1}])).gpus
    assert [process.pid for process in one.processes] == [7]
    assert one.processes[0].gpu_memory_bytes is None
    assert one.missing["processes"] == seed004_sender.CUT_SHORT
    (bare,) = snapshot({"gpu:0": {"device_num": 0, "uuid": "GPU-1"}}).gpus
    assert (bare.processes, bare.missing["processes"]) == ((), "not reported by the sender")


def test_gpus_without_uuid_and_twins_have_one_identity_each():
    made = snapshot({"a": {"device_num": 3}, "b": {"uuid": "GPU-1"}, "c": {"uuid": "GPU-1", "device_num": 9}, "d": {}})
    assert sorted(one.uuid for one in made.gpus) == ["GPU-1", "no-uuid:vm:3"]
    Shape.parse(Flattener().flatten(made).shape)


def test_uuids_tell_machines_apart():
    assert seed004_sender.uuids(seed004_sender.parse(exchange("004_update").request.body)) == {
        "GPU-11111111-2222-3333-4444-555555555555", "GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    }  # fmt: skip
    assert seed004_sender.uuids({"a": {"uuid": 5}, "b": {}}) == frozenset()


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"null", b'{"gpu:0": 1}', b"{" * 5000, b'{"gpu:0": {"temperature": NaN}}', b"\xff", b'{"a": [1]}'])
def test_what_is_no_body_of_a_sender_is_refused(body):
    with pytest.raises(WireError):
        seed004_sender.parse(body)


def test_the_most_that_is_taken_still_fits_the_hubs_own_form():
    process = {"pid": 1, "name": "p" * 500, "user": "\x00\u202e\ud800", "used_memory": "x"}
    doc = {f"gpu:{place}": {"device_num": place, "uuid": f"U{place}", "gpu_name": "n\n" * 400, "processes": [process] * 40} for place in range(128)}
    made = snapshot(seed004_sender.parse(json.dumps(doc).encode()))
    assert len(made.gpus) == 128
    assert sum(len(one.processes) for one in made.gpus) == seed004_sender.MOST_ALL_PROCESSES
    flat = Flattener().flatten(made)
    json.dumps(flat.shape).encode("utf-8")
    shape = Shape.parse(flat.shape)
    assert len(shape.check(flat.values)) == shape.count
    with pytest.raises(WireError, match="128 GPUs"):
        seed004_sender.parse(json.dumps({str(place): {} for place in range(129)}).encode())


@pytest.mark.parametrize(
    ("body", "valid"), [(b'{"text": "hi", "to": "u"}', True), (b"{}", False), (b'{"text": 1, "to": "u"}', False), (b"no", False), (b"[]", False)]
)
def test_what_is_a_notification(body, valid):
    assert seed004_sender.is_notification(body) is valid
