from gpuwatch.model.event import Event
from gpuwatch.store import events, machines


def test_newest_first_of_one_or_all(store, machine):
    other = machines.ensure(store, "gpu02", "b")
    kept = [Event(100.5 + n, "xid", (machine, other)[n % 2], "gpu01", f"number {n}", "GPU-1" if n else None) for n in range(6)]
    events.add(store, kept)
    assert events.newest(store, 4) == kept[:1:-1]
    assert events.newest(store, 10, machine) == [kept[4], kept[2], kept[0]]


def test_events_of_one_moment_keep_their_order(store, machine):
    kept = [Event(1.0, "xid", machine, "gpu01", str(n)) for n in range(3)]
    events.add(store, kept)
    assert [event.message for event in events.newest(store, 2)] == ["2", "1"]


def test_the_last_of_some_kinds_before_a_time(store, machine):
    kinds = ("node_down", "xid", "node_up", "node_down")
    events.add(store, [Event(100.0 * n, kind, machine, "gpu01", str(n)) for n, kind in enumerate(kinds)])
    assert events.last_of(store, machine, ("node_down", "node_up"), 299.9).message == "2"
    assert events.last_of(store, machine, ("node_down",), 299.9).message == "0"
    assert events.last_of(store, machine, ("node_down",), 300.0).message == "3"
    assert events.last_of(store, machine, ("gpu_lost",), 300.0) is None
    assert events.last_of(store, machine, ("node_down",), -1.0) is None
