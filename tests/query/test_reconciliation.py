"""A simulated month through the real store, and its report, against a count that looks at each kept snapshot on its own.

The count below shares no code with digests, rollups or reports: it reads the raw snapshots back and adds up what each of them says.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from gpuwatch.config.settings import SamplerOptions
from gpuwatch.model.cluster import Target
from gpuwatch.query.latest import Display, Latest
from gpuwatch.query.usage import BY, report
from gpuwatch.rules.limits import Limits
from gpuwatch.sim.source import make
from gpuwatch.store import machines, packing, snapshots
from gpuwatch.store.database import open_store
from gpuwatch.store.digests import Digester
from gpuwatch.store.snapshots import JournalEntry
from gpuwatch.wire.flat import Flattener, Shape
from gpuwatch.wire.numbers import texts_of

ZONE = ZoneInfo("Europe/Berlin")
SPACING = 1800
MONTH = ("2026-10-10", "2026-11-08")
"""30 days, one of them of 25 hours."""
PERIODS = {"month": MONTH, "week of the clock change": ("2026-10-19", "2026-10-25"), "one day": ("2026-11-03", "2026-11-03")}
NODES = {"alpha": "1xh100+1xgtx1080ti:life-lost:1", "beta": "mig:life:2"}
SUMS = ("held", "busy", "idle", "unknown", "memory_gib", "joules")


def moment(day, hour=0.0):
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), ZONE).timestamp() + hour * 3600


def is_away(name, at):
    """Beta is down for an afternoon, alpha misses a single reading."""
    afternoon = moment("2026-10-28", 13) <= at < moment("2026-10-28", 18.2)
    return (name == "beta" and afternoon) or (name == "alpha" and moment("2026-10-22", 9) <= at < moment("2026-10-22", 9.4))


def disturbed(snapshot, number):
    """What real machines do: processes that nobody can see, users that are not told, values that are not reported."""
    if number % 7 == 3:
        gpu = snapshot.gpus[0]
        if number % 2:
            gpu = replace(gpu, processes=tuple(replace(one, user=None) for one in gpu.processes))
        else:
            gpu = replace(gpu, processes=())
        snapshot = replace(snapshot, gpus=(gpu, *snapshot.gpus[1:]))
    if number % 11 == 5 and snapshot.gpus[-1].error is None:
        gpu = replace(snapshot.gpus[-1], utilization_percent=None, energy_joules=None)
        if number % 3 == 0:
            gpu = replace(gpu, memory_used_bytes=None, power_watts=None)
        snapshot = replace(snapshot, gpus=(*snapshot.gpus[:-1], gpu))
    return snapshot


class Lab:
    """The store, filled as a hub fills it: journal, then blocks with what follows from them; the newest stays in the journal."""

    def __init__(self, path):
        self.store = open_store(str(path))
        self.begin_at, self.end_at = moment(MONTH[0]) + 437, moment(MONTH[1], 24)
        self.ids = machines.ensure_all(self.store, dict.fromkeys(NODES, "h"), now=self.begin_at)
        self.latest = Latest(Limits(), Display(5.0, "Lab", "Europe/Berlin"))
        self.latest.set_targets([(Target(name, "h", 7080, tags=("all",)), self.ids[name]) for name in NODES], self.begin_at)
        for name, argument in NODES.items():
            self._fill(name, argument)
        self.kept = {name: self._kept(machine_id) for name, machine_id in self.ids.items()}

    def _kept(self, machine_id):
        """(time in ms, snapshot) of each raw snapshot, by time."""
        shapes, found = {}, []
        for entry in snapshots.read(self.store, machine_id):
            if entry.shape_id not in shapes:
                shapes[entry.shape_id] = Shape.parse(snapshots.shape(self.store, machine_id, entry.shape_id))
            found.append((entry.taken_at_ms, shapes[entry.shape_id].build(entry.values)))
        return found

    def _fill(self, name, argument):
        source = make(SamplerOptions(name, float(SPACING), 60.0, 60.0, 60.0, "", f"{argument}:{moment('2026-11-06'):.0f}"))
        flattener, digester, machine_id = Flattener(), Digester(Limits(), ZONE), self.ids[name]
        shape, docs, waiting = None, {}, []
        for number, at in enumerate(range(int(self.begin_at), int(self.end_at), SPACING)):
            if is_away(name, at):
                continue
            flat = flattener.flatten(disturbed(source.read(at), number))
            if flat.shape is not None:
                shape = docs[machine_id, flat.shape_id] = flat.shape
            waiting.append(JournalEntry(machine_id, at * 1000, at * 1000 + 5, flat.shape_id, texts_of(json.dumps(flat.values).encode())))
            if len(waiting) == 12:
                self._pack(waiting, docs, digester)
                waiting = []
        self._pack(waiting, docs, digester)
        while packing.pack_machine(self.store, machine_id, 12, digester=digester):
            pass
        self.latest.accept(name, Shape.parse(shape), flat.values, received_at=float(at))

    def _pack(self, waiting, docs, digester):
        snapshots.append(self.store, waiting, docs)
        packing.pack_machine(self.store, waiting[0].machine_id, 12, digester=digester)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("month") / "hub.db")


# ---- the count


def counted(lab, first_day, last_day):
    """(sums by user, sums by (host, GPU)) over the period. Seconds, GiB-seconds and joules."""
    begin, end = moment(first_day), moment((date.fromisoformat(last_day) + timedelta(days=1)).isoformat())
    users, gpus = defaultdict(lambda: dict.fromkeys(SUMS, 0.0)), defaultdict(lambda: dict.fromkeys((*SUMS, "measured", "nobody"), 0.0))
    for name, kept in lab.kept.items():
        for (at_ms, now), (next_ms, following) in zip(kept, [*kept[1:], (kept[-1][0] + 1000 * SPACING, None)]):  # the newest: for an interval
            seconds = (next_ms - at_ms) / 1000
            is_gap = seconds > 3 * SPACING
            seconds = SPACING if is_gap else seconds
            at = at_ms / 1000
            inside = max(0.0, min(at + seconds, end) - max(at, begin))
            if inside:
                for gpu in now.gpus:
                    later = None if is_gap or following is None else next((one for one in following.gpus if one.uuid == gpu.uuid), None)
                    count_gpu(name, gpu, later, seconds, inside / seconds, users, gpus)
    return users, gpus


def count_gpu(host, gpu, later, seconds, share, users, gpus):
    if gpu.error is not None:
        return
    joules = (gpu.power_watts or 0.0) * seconds
    if later is not None and gpu.energy_joules is not None and later.energy_joules is not None and later.energy_joules >= gpu.energy_joules:
        joules = later.energy_joules - gpu.energy_joules
    if gpu.mig_enabled:
        rest = 1.0
        for part in gpu.mig:
            weight = part.memory_total_bytes / gpu.memory_total_bytes
            rest -= weight
            on_it = [one for one in gpu.processes if one.gpu_instance == part.gpu_instance]
            count_one(host, part.uuid, on_it, (part.memory_used_bytes, part.sm_activity_percent), (seconds, weight, joules * weight, share), users, gpus)
        gpus[host, gpu.uuid]["joules"] += joules * rest * share
        return
    count_one(host, gpu.uuid, gpu.processes, (gpu.memory_used_bytes, gpu.utilization_percent), (seconds, 1.0, joules, share), users, gpus)


def count_one(host, uuid, processes, readings, amounts, users, gpus):
    (memory, utilization), (seconds, weight, joules, share) = readings, amounts
    works = utilization is not None and utilization > 1
    held = bool(processes) or works or (memory is not None and memory >= 100e6)
    sums = gpus[host, uuid]
    sums["joules"] += joules * share
    if held or memory is not None:
        sums["measured"] += seconds * weight * share
    if not held:
        return
    names = sorted({one.user for one in processes if one.user})
    kind = "unknown" if utilization is None else "busy" if works else "idle"
    for name in ("held", kind, *(["nobody"] if not names else [])):
        sums[name] += seconds * weight * share
    sums["memory_gib"] += (memory or 0) * seconds * share / 2**30
    for user in names:
        users[user]["held"] += seconds * weight * share / len(names)
        users[user][kind] += seconds * weight * share / len(names)
        users[user]["joules"] += joules * share / len(names)
        users[user]["memory_gib"] += sum(one.gpu_memory_bytes or 0 for one in processes if one.user == user) * seconds * share / 2**30


# ---- the report is the count


def near(value):
    return pytest.approx(value, rel=1e-9, abs=1e-6)


def check(row, sums):
    hours = {"held": row.held_hours, "busy": row.busy_hours, "idle": row.idle_hours, "unknown": row.unknown_hours}
    assert {name: near(value * 3600) for name, value in hours.items()} == {name: sums[name] for name in hours}
    assert row.memory_gib_hours * 3600 == near(sums["memory_gib"])
    assert row.energy_joules == near(sums["joules"])


def added(rows):
    return {name: sum(row[name] for row in rows) for name in (*SUMS, "measured", "nobody")}


@pytest.fixture(scope="module", params=PERIODS)
def period(request, lab):
    return (*PERIODS[request.param], *counted(lab, *PERIODS[request.param]))


def asked(lab, period, by):
    return report(lab.store, lab.latest, first_day=period[0], last_day=period[1], by=by, now=lab.end_at)


def test_something_of_everything_happened(lab):
    users, gpus = counted(lab, *MONTH)
    total = added(gpus.values())
    assert len(users) >= 5
    assert all(total[name] > 3600 for name in ("busy", "idle", "unknown", "nobody", "joules", "memory_gib"))
    assert lab.store.rows("SELECT count(*) FROM block WHERE digested = 0") == [(0,)]


def test_total_and_users(lab, period):
    _, _, users, gpus = period
    found, total = asked(lab, period, "user"), added(gpus.values())
    check(found.total, total)
    assert found.total.measured_hours * 3600 == near(total["measured"])
    assert found.total.unattributed_hours * 3600 == near(total["nobody"])
    assert found.total.held_hours == near(found.total.busy_hours + found.total.idle_hours + found.total.unknown_hours)
    rows = {row.key: row for row in found.rows}
    assert set(rows) == {*users, ""}
    for user, sums in users.items():
        check(rows[user], sums)
    assert rows[""].held_hours == near(found.total.unattributed_hours)
    assert sum(row.held_hours for row in found.rows) == near(found.total.held_hours)
    assert sum(row.energy_joules for row in found.rows) == near(found.total.energy_joules)


def test_gpus_hosts_models_and_tags(lab, period):
    _, _, _, gpus = period
    rows = {row.key: row for row in asked(lab, period, "gpu").rows}
    for (_, uuid), sums in gpus.items():
        check(rows[uuid], sums)
        assert rows[uuid].measured_hours * 3600 == near(sums["measured"])
    for row in asked(lab, period, "host").rows:
        check(row, added([sums for (host, _), sums in gpus.items() if host == row.key]))
    total = added(gpus.values())
    for by in BY:
        found = asked(lab, period, by)
        check(found.total, total)
        if by != "user":
            assert sum(row.held_hours for row in found.rows) == near(found.total.held_hours)
            assert sum(row.unattributed_hours for row in found.rows) == near(found.total.unattributed_hours)
