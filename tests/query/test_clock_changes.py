"""Both days on which clocks change, in Berlin: 23 and 25 hours, the hour that is not and the one that is there twice, in charts, reports, CSV and text."""

from __future__ import annotations

import csv
import io
from datetime import date

import pytest
from tests.query.lab import Lab
from tests.rules.machine import Machine

from gpuwatch.model.snapshot import GpuReading, ProcessReading, Snapshot
from gpuwatch.model.units import GIB
from gpuwatch.query.reports import fleet_report
from gpuwatch.query.series import many, series
from gpuwatch.query.usage import report
from gpuwatch.render.csv_reports import reports_csv
from gpuwatch.render.csv_series import series_csv
from gpuwatch.render.reports import Rates, Reports, days_of
from gpuwatch.render.text_cells import Look
from gpuwatch.render.text_reports import reports_text

CHANGES = {"2026-03-29": 23, "2026-10-25": 25}
EVENINGS = {"2026-03-29": ("2026-03-28", "2026-03-30"), "2026-10-25": ("2026-10-24", "2026-10-26")}


def made(tmp_path, day):
    """A GPU that lisa holds at 50 %, from the day before to the day after, a reading each ten minutes."""
    lab = Lab(tmp_path / "lab.db", "alpha")
    machine = Machine(1, lab.at(f"{EVENINGS[day][0]}T00:00:00"), 600, trouble=0.0)
    gpu = GpuReading(
        uuid="GPU-1", name="H100", memory_used_bytes=GIB, utilization_percent=50, power_watts=100.0,
        processes=(ProcessReading(pid=1, user="lisa", gpu_memory_bytes=GIB),),
    )  # fmt: skip
    machine.snapshot = lambda: Snapshot(taken_at=machine.at, interval_seconds=600.0, gpus=(gpu,))
    lab.add("alpha", machine, 6 * (24 + CHANGES[day] + 24), packed=6 * (24 + CHANGES[day] + 20), gaps=0.0)
    return lab


@pytest.fixture(scope="module", params=CHANGES)
def night(request, tmp_path_factory):
    """(lab, day, its hours, its begin and end, now)."""
    lab = made(tmp_path_factory.mktemp("night"), request.param)
    begin, end = lab.at(f"{request.param}T00:00:00"), lab.at(f"{EVENINGS[request.param][1]}T00:00:00")
    assert end - begin == CHANGES[request.param] * 3600
    return lab, request.param, CHANGES[request.param], begin, end, end + 86400


def near(value):
    return pytest.approx(value, rel=1e-6)


def test_a_chart_has_as_many_hours_as_the_day(night):
    lab, _, hours, begin, end, now = night
    for about in ({"gpu": "GPU-1"}, {}):
        found = series(lab.store, lab.latest, metric="utilization_percent", **about, start_at=begin, end_at=end, step=3600, now=now)
        assert (len(found.times), found.times[0], found.times[-1]) == (hours, begin, end - 3600)
        assert set(found.mean) == {50.0}, "no gap where clocks change, and nothing twice"
        assert set(found.coverage) == {1.0}


def test_a_user_has_what_the_day_had(night):
    lab, _, hours, begin, end, now = night
    found = many(lab.store, lab.latest, ("held_hours", "memory_gib_hours"), user="lisa", start_at=begin - 86400, end_at=now, now=now)["held_hours"]
    assert found.mean == (near(24), near(hours), near(24))
    assert [later - at for at, later in zip(found.times, found.times[1:])] == [86400, hours * 3600]


def reports(night, by="user"):
    lab, day, *_, now = night
    span = {"first_day": day, "last_day": day, "now": now}
    return Reports(days_of("day", date.fromisoformat(day)), day, report(lab.store, lab.latest, by=by, **span), fleet_report(lab.store, lab.latest, **span), now, Rates())


@pytest.mark.parametrize("by", ["user", "host", "gpu"])
def test_a_report_of_the_day_reconciles(night, by):
    _, day, hours, begin, end, _ = night
    found = reports(night, by)
    total = found.usage.total
    assert (total.held_hours, total.busy_hours, total.measured_hours, total.possible_hours) == (near(hours),) * 4
    assert total.energy_joules == near(100.0 * (end - begin))
    assert found.usage.rows[0].held_hours == near(hours)
    assert found.fleet.downtime[0].down_seconds == 0
    (row, *_), (heads, *_) = _rows(reports_csv(found, "usage"))[1:], _rows(reports_csv(found, "usage"))
    assert float(row[heads.index("held_hours")]) == near(hours)
    assert f"{hours}.0 h held = {hours}.0 h at work + 0 h idle" in reports_text(found, Look(100))


def test_the_heat_map_has_the_hour_twice_or_not_at_all(night):
    _, _, hours, *_ = night
    heat = reports(night).fleet.heat
    assert heat.hours[6] == tuple({(2, 25): 2, (2, 23): 0}.get((hour, hours), 1) for hour in range(24))
    assert heat.mean[6][2] == (50.0 if hours == 25 else None)
    assert heat.coverage == near(1.0)


def test_rows_of_a_csv_are_told_apart_by_their_offset(night):
    lab, day, hours, begin, end, now = night
    found = series(lab.store, lab.latest, metric="power_watts", gpu="GPU-1", start_at=begin, end_at=end, step=3600, now=now)
    heads, *rows = _rows(b"".join(series_csv([found], "Europe/Berlin")))
    times = [row[heads.index("start")] for row in rows]
    assert len(set(times)) == hours
    twos = [at for at in times if at.startswith(f"{day}T02")]
    assert twos == ([f"{day}T02:00:00+02:00", f"{day}T02:00:00+01:00"] if hours == 25 else [])


def _rows(data):
    text = data.decode() if isinstance(data, bytes) else data
    return [row for row in csv.reader(io.StringIO(text)) if row and not row[0].startswith("#")]
