"""The demo's past: written as live data is, until now, with progress; nothing of it is half done."""

import time
from zoneinfo import ZoneInfo

import pytest

from gpuwatch.cli import demo_history
from gpuwatch.cli.demo_history import Past, fill, midnight_before
from gpuwatch.config.load import load
from gpuwatch.config.settings import HubSettings
from gpuwatch.hub.restore import from_row
from gpuwatch.query.latest import Display, Latest
from gpuwatch.query.usage import report
from gpuwatch.store import events, machines, rollups, snapshots, states
from gpuwatch.store.database import open_store

HOUR = 3600.0
UTC = ZoneInfo("UTC")


def pasts(now, down=()):
    midnight_at = midnight_before(now, UTC)
    return [Past("dgx-a", f"2xh100:life:37:{midnight_at:.0f}"), Past("old-1", f"1xgtx1080ti:life:4:{midnight_at:.0f}", down)]


@pytest.fixture
def settings(tmp_path):
    return load(HubSettings, "hub", {"database": f"sqlite:///{tmp_path / 'hub.db'}"})


def test_the_past_is_packed_digested_and_reaches_until_now(settings, capsys):
    began = time.time()
    down = (began - 4 * HOUR, began - 2.5 * HOUR)
    fill(settings, UTC, pasts(began, [down]), 6 * HOUR)
    assert "simulating 0.25 days" in capsys.readouterr().err
    store = open_store(settings.database)
    rows = {machine.name: machine for machine in machines.list_all(store)}
    assert {name: row.created_at <= began - 6 * HOUR for name, row in rows.items()} == {"dgx-a": True, "old-1": True}
    entries = list(snapshots.read(store, rows["dgx-a"].id))
    assert 360 <= len(entries) <= 363
    assert began - 60 <= entries[-1].taken_at_ms / 1000 <= time.time()
    assert {later.taken_at_ms - earlier.taken_at_ms for earlier, later in zip(entries, entries[1:])} == {60_000}
    assert store.rows("SELECT count(*) FROM snapshot_journal") == [(2,)], "the newest of each stays there"
    assert store.rows("SELECT min(digested) FROM block") == [(1,)]
    away = [entry.taken_at_ms / 1000 for entry in snapshots.read(store, rows["old-1"].id)]
    assert not [at for at in away if down[0] <= at < down[1]]
    assert 268 <= len(away) <= 273
    assert [event.kind for event in events.newest(store, 10, rows["old-1"].id)] == ["node_up", "node_down"]
    covered = rollups.read(store, rollups.FLEET, rollups.HOST, 3600, began - 6 * HOUR, began)
    assert sum(covered.covered_seconds()) > 3 * 4 * HOUR
    first = time.strftime("%Y-%m-%d", time.gmtime(began - 86400))
    found = report(store, Latest(None, Display(5.0, "x", "UTC")), first_day=first, last_day=time.strftime("%Y-%m-%d", time.gmtime(began)), now=time.time())
    assert 2 * 5.9 + 4.3 < found.total.measured_hours < 2 * 6.1 + 4.7
    store.close()


def test_a_ctrl_c_leaves_whole_blocks(settings, monkeypatch):
    began, turns = time.time(), []

    def interrupted(machine_id, kinds=None, **more):
        turns.append(machine_id)
        if len(turns) == 5:
            raise KeyboardInterrupt
        return original(machine_id, kinds, **more)

    original = demo_history.packing.pack_machine
    monkeypatch.setattr(demo_history.packing, "pack_machine", lambda store, machine_id, count, digester: interrupted(store, machine_id, count=count, digester=digester))
    with pytest.raises(KeyboardInterrupt):
        fill(settings, UTC, pasts(began), 30 * 86400)
    store = open_store(settings.database)
    assert store.rows("SELECT count(*), min(digested) FROM block") == [(4, 1)]
    store.close()


def test_midnight_is_the_lab_s():
    assert midnight_before(1_795_350_000.0, UTC) == 1_795_305_600.0
    assert midnight_before(1_795_350_000.0, ZoneInfo("Asia/Tokyo")) == 1_795_273_200.0


def test_the_hub_begins_with_what_it_would_have_noted(settings):
    began = time.time()
    fill(settings, UTC, pasts(began), 8 * HOUR)
    store = open_store(settings.database)
    dgx = next(machine.id for machine in machines.list_all(store) if machine.name == "dgx-a")
    rows = [from_row(row) for row in states.load(store).values()]
    store.close()
    assert len(rows) == 3
    assert all(began - 8 * HOUR - 60 <= row.since_at < time.time() for row in rows)
    for row in rows:
        if row.machine_id == dgx:  # the old card tells no utilization
            assert len(row.recent) == 35
            assert None not in row.recent
