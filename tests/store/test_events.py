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
