"""The cluster as it was: the right snapshot or none, in words why, commands cut, removed machines, and nothing old shown as current."""

import threading
from dataclasses import replace

import pytest
from tests.hub.readings import GB, busy, gpu, process
from tests.query.history import START, History

from gpuwatch.model.errors import GpuwatchError
from gpuwatch.model.event import Event
from gpuwatch.model.snapshot import CollectorStatus, MigReading
from gpuwatch.query.past import Pasts
from gpuwatch.store import events, machines, snapshots
from gpuwatch.store.memory import Recent

LATER = START + 40 * 86400


@pytest.fixture
def lab(tmp_path):
    made = History(str(tmp_path / "gpuwatch.db"), "dgx-a", "dgx-b")
    yield made
    made.store.close()


def only(now):
    (node,) = now.nodes
    return node


def test_each_node_shows_its_nearest_snapshot_before_the_moment(lab):
    lab.add("dgx-a", *[(5 * n, (busy(0, utilization=50 + n),)) for n in range(10)])
    lab.add("dgx-b", *[(5 * n + 3, (gpu(0, memory_used_bytes=n),)) for n in range(10)])
    for packed in (False, True):
        now = lab.at(START + 22)
        assert (now.at, now.taken_at, now.asked_at, now.kept_since_at) == (START + 22, START + 22, LATER, START)
        first, second = now.nodes
        assert (first.name, second.name) == ("dgx-a", "dgx-b")
        assert first.snapshot.gpus[0].utilization_percent == 54
        assert first.received_at == pytest.approx(START + 20.05)
        assert second.snapshot.gpus[0].memory_used_bytes == 3
        assert [node.status for node in now.nodes] == ["up", "up"]
        assert [node.gpus[0].state.state for node in now.nodes] == ["busy", "free"]
        assert first.gpus[0].reading.processes[0].user == "lisa"
        if not packed:
            lab.pack()


def test_older_than_three_intervals_is_no_reading(lab):
    lab.add("dgx-a", *[(5 * n, (busy(),)) for n in range(10)])
    last = START + 45
    for packed in (False, True):
        assert only(lab.at(last + 15, host="dgx-a")).status == "up"
        node = only(lab.at(last + 15.5, host="dgx-a"))
        assert (node.status, node.snapshot, node.gpus, node.received_at) == ("unseen", None, (), None)
        assert node.error == "No reading at Mon 21 Sep 2026 14:14:20. The last one before is of 14:14."
        if not packed:
            lab.pack()
    far = only(lab.at(last + 20 * 3600, host="dgx-a"))
    assert far.error == "No reading at Tue 22 Sep 2026 10:14:05. The last one before is of Mon 14:14."


def test_the_nodes_own_interval_counts_where_it_is_longer(lab):
    lab.add("dgx-a", (0, (busy(),)), interval_seconds=60.0)
    assert only(lab.at(START + 179, host="dgx-a")).status == "up"
    assert only(lab.at(START + 181, host="dgx-a")).status == "unseen"


def test_thinned_snapshots_are_a_minute_apart(lab):
    lab.add("dgx-a", *[(60 * n, (busy(0, n),)) for n in range(30) if not 15 <= n < 20])
    lab.pack()
    now = lab.at(START + 330, host="dgx-a")
    assert only(now).snapshot.gpus[0].utilization_percent == 5
    assert now.interval_seconds == 60
    assert only(lab.at(START + 60 * 14 + 180, host="dgx-a")).status == "up"
    assert only(lab.at(START + 60 * 14 + 181, host="dgx-a")).status == "unseen"


def test_a_gap_is_not_bridged_by_a_block_of_few_snapshots_far_apart(lab):
    lab.add("dgx-a", *[(3600 * n, (busy(),)) for n in range(6)])
    lab.pack()
    assert only(lab.at(START + 3600 + 180, host="dgx-a")).status == "up"
    assert only(lab.at(START + 3600 + 181, host="dgx-a")).status == "unseen"


def test_before_anything_was_kept(lab):
    lab.add("dgx-a", (0, (busy(),)))
    lab.add("dgx-b", (7200, (busy(),)))
    now = lab.at(START - 60)
    assert now.notices == ("No readings before Mon 21 Sep 2026 14:13:20.",)
    assert [node.error for node in now.nodes] == ["No readings before Mon 21 Sep 2026 14:13:20.", "No readings before Mon 21 Sep 2026 16:13:20."]
    assert lab.at(START).notices == ()
    empty = lab.at(START, host="nobody")
    assert empty.nodes == ()


def test_an_empty_store_says_so(lab):
    now = lab.at(START)
    assert now.notices == ("No readings are kept yet.",)
    assert [node.error for node in now.nodes] == ["No reading at Mon 21 Sep 2026 14:13:20: none of this host is kept."] * 2


def test_what_the_hub_noted_is_told(lab):
    lab.add("dgx-a", *[(5 * n, (busy(),)) for n in range(3)])
    why = "no answer from h1:7080. Next: start gpuwatch node there."
    events.add(lab.store, [Event(START + 70, "node_down", lab.ids["dgx-a"], "dgx-a", why), Event(START + 900, "node_up", lab.ids["dgx-a"], "dgx-a", "")])
    down = only(lab.at(START + 100, host="dgx-a"))
    assert (down.status, down.status_since_at, down.error, down.snapshot) == ("down", START + 70, why, None)
    assert only(lab.at(START + 60, host="dgx-a")).status == "unseen", "not noted yet"
    assert only(lab.at(START + 1000, host="dgx-a")).status == "unseen", "up again, but no reading"
    lab.add("dgx-a", (200, (busy(),)))
    assert only(lab.at(START + 300, host="dgx-a")).status == "unseen", "it had answered since"


def test_strangers_see_no_arguments_of_the_past(lab):
    lab.add("dgx-a", (0, (busy(),)))
    lab.pack()

    def command(audience):
        return only(lab.at(START, audience, host="dgx-a")).gpus[0].reading.processes[0].command

    assert command("stranger") == "train.py"
    assert command("member") == "python train.py --lr 1"
    assert command("stranger") == "train.py"
    lab.latest.display = replace(lab.latest.display, show_arguments=True)
    assert command("stranger") == "python train.py --lr 1"


def test_removed_machines_are_there_while_they_were_watched(lab):
    lab.add("dgx-a", (0, (busy(),)), (100, (busy(),)))
    lab.add("dgx-b", (0, (busy(),)))
    machines.set_present(lab.store, [lab.ids["dgx-a"]], START + 50)
    lab.watch("dgx-a")
    assert [node.name for node in lab.at(START + 4).nodes] == ["dgx-a", "dgx-b"]
    assert [node.name for node in lab.at(START + 102).nodes] == ["dgx-a"]
    assert [node.name for node in lab.at(START - 3600).nodes] == ["dgx-a"], "it was not there yet"
    assert only(lab.at(START + 4, host="dgx-b")).status == "up"


def test_states_of_the_past(lab):
    card = gpu(0, memory_used_bytes=None)
    lost = gpu(1, error="fallen off the bus (Xid 79)", error_since_at=START - 50)
    hot = replace(busy(2), temperature_celsius=99)
    cut = gpu(3, mig_enabled=True, utilization_percent=None, mig=(MigReading("MIG-1", 0, "1g.10gb", 7, 0, 5 * GB, 10 * GB), MigReading("MIG-2", 1, "1g.10gb", 8, 0, 0, 10 * GB)),
              processes=(process(7, gpu_instance=7, compute_instance=0),))
    lab.add("dgx-a", (0, (card, lost, hot, cut)))
    views = only(lab.at(START, host="dgx-a")).gpus
    assert [view.state.state for view in views] == ["unknown", "lost", "busy", "mig"]
    assert "memory" in views[0].state.why.lower()
    assert "Xid 79" in views[1].state.why
    assert views[2].state.marks == ("hot",)
    assert [state.state for state in views[3].mig_states] == ["busy", "free"]
    assert all(view.state.since_at is None for view in views), "the tracker's since is of now"


def test_a_driver_that_was_away(lab):
    lab.add("dgx-a", (0, ()), gpus_missing=True, collectors=(CollectorStatus("nvml", False, "driver/library version mismatch", START - 9),))
    node = only(lab.at(START, host="dgx-a"))
    assert node.status == "error"
    assert node.error.startswith("driver/library version mismatch. Next:")


def test_a_gpu_is_found_where_it_was(lab):
    lab.add("dgx-a", (0, (busy(0),)))
    lab.add("dgx-b", (0, (busy(1),)), (1000, (busy(0),)))
    assert only(lab.at(START + 3, gpu="GPU-00000000")).name == "dgx-a"
    assert only(lab.at(START + 1003, gpu="GPU-00000000")).name == "dgx-b"
    assert lab.at(START + 3, gpu="GPU-nobody").nodes == ()
    lab.now("dgx-b", busy(0))
    gap = only(lab.at(START + 500, gpu="GPU-00000000"))
    assert (gap.name, gap.status) == ("dgx-b", "unseen"), "who has it now says that there was no reading"


def test_damage_is_told_and_costs_only_that_node(lab):
    lab.add("dgx-a", *[(5 * n, (busy(),)) for n in range(10)])
    lab.add("dgx-b", *[(5 * n, (busy(),)) for n in range(10)])
    lab.pack()
    with lab.store.writing():
        lab.store.change("UPDATE block SET data = CAST(substr(data, 1, 40) AS BLOB) WHERE machine_id = ?", (lab.ids["dgx-a"],))
    first, second = lab.at(START + 20).nodes
    assert (first.status, second.status) == ("unseen", "up")
    assert "No reading at" in first.error
    assert "cannot be read" in first.error
    with lab.store.writing():
        lab.store.change("DELETE FROM shape WHERE machine_id = ?", (lab.ids["dgx-b"],))
    lab.store.memory.docs = Recent(1)
    assert "missing" in lab.at(START + 21).nodes[1].error


def test_what_was_found_is_kept_in_bounds(lab, monkeypatch):
    lab.add("dgx-a", *[(5 * n, (busy(),)) for n in range(10)])
    pasts, asked = Pasts(most_bytes=20_000), []
    nearest = snapshots.nearest
    monkeypatch.setattr(snapshots, "nearest", lambda store, machine_id, at, **more: asked.append(at) or nearest(store, machine_id, at, **more))

    def look(at, now=LATER):
        return only(lab.at(at, host="dgx-a", pasts=pasts, now=now))

    assert look(START + 7) is look(START + 7)
    assert len(asked) == 1
    assert look(START + 7, LATER + 1000) is not None
    assert len(asked) == 2, "after minutes it is looked up again"
    for number in range(20):
        look(START + number)
    look(START + 7)
    assert len(asked) == 23, "forgotten: it takes too much"
    recent = START + 46
    assert look(recent, recent + 2) is not look(recent, recent + 3)


def test_many_who_ask_wait_for_each_other_and_too_many_are_refused():
    pasts, inside, go = Pasts(most_waiting=2), threading.Event(), threading.Event()

    def hold():
        with pasts.turn():
            inside.set()
            assert go.wait(60)

    threads = [threading.Thread(target=hold) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert inside.wait(60)
    refused = []
    while not refused:  # until the second thread waits, too
        try:
            if pasts._admitted._value == 0:
                with pasts.turn():
                    pass
        except GpuwatchError as error:
            refused.append(str(error))
    go.set()
    for thread in threads:
        thread.join(60)
    assert refused == ["Too many others look at the past now. Try again in a moment."]
    with pasts.turn():
        pass
