"""A series is what all samples give, wherever they lie: in rollups, in parts that wait, in the journal. Gaps stay gaps."""

from __future__ import annotations

import pytest
from tests.query.lab import Lab
from tests.rules.brute import add
from tests.rules.machine import Machine

from gpuwatch.model.errors import UsageError
from gpuwatch.model.series import Bucket, Digest
from gpuwatch.query import tail
from gpuwatch.query.series import STEPS, many, series
from gpuwatch.query.subjects import NoSuch
from gpuwatch.store.chunks import UNITS


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("lab") / "lab.db", "alpha", "beta", "gone")
    lab.add("alpha", Machine(1, lab.at("2026-11-20T23:11:13"), 20, name="a"), 700, packed=640)
    lab.add("beta", Machine(2, lab.at("2026-11-20T23:31:00"), 60, name="b"), 90, packed=80)
    return lab


def wanted(minutes, metric, begin, step):
    """Buckets by step, and seconds covered."""
    buckets, covered = {}, {}
    for minute in minutes.values():
        at = minute.start_at // step * step
        if metric in minute.metrics:
            buckets.setdefault(at, Bucket()).merge(minute.metrics[metric])
        covered[at] = covered.get(at, 0) + minute.covered_seconds
    return buckets, covered


def assert_is(found, minutes, now, cards=1):
    buckets, covered = wanted(minutes, found.metric, found.times[0], found.step_seconds)
    off = UNITS[found.metric]
    for at, low, mean, high, count, coverage in zip(found.times, found.minimum, found.mean, found.maximum, found.count, found.coverage):
        bucket = buckets.get(at)
        if bucket is None:
            assert (low, mean, high, count, coverage) == (None, None, None, 0, 0.0)
            continue
        assert count == bucket.count
        assert bucket.minimum - max(1, off) <= low <= bucket.minimum + off  # extremes are rounded outwards
        assert bucket.maximum - off <= high <= bucket.maximum + max(1, off)
        assert mean == pytest.approx(bucket.mean, abs=off)
        length = min(at + found.step_seconds, now) - at
        assert coverage == pytest.approx(min(1.0, covered[at] / length / cards), abs=0.01)
    assert any(found.count)
    assert set(buckets) <= set(found.times)


@pytest.mark.parametrize("step", [60, 120, 900, 1800, 3600, 7200])
@pytest.mark.parametrize("metric", ["utilization_percent", "memory_used_bytes", "power_watts", "temperature_celsius", "throttled_percent"])
def test_a_gpu_is_what_its_samples_say(lab, metric, step):
    now = lab.end_at("alpha") + 20
    found = series(lab.store, lab.latest, metric=metric, gpu="GPU-a1", start_at=lab.at("2026-11-20T22:00:00"), end_at=now, step=step, now=now)
    assert (found.host, found.gpu, found.step_seconds) == ("alpha", "GPU-a1", step)
    assert found.tier_seconds == max(tier for tier in (60, 900, 3600) if tier <= step)
    assert_is(found, lab.digest("alpha").minutes["GPU-a1"], now)
    assert found.kept_since_at == lab.all["alpha"][0].at // found.tier_seconds * found.tier_seconds


@pytest.mark.parametrize(("about", "metric", "subject"), [
    ({"host": "alpha"}, "cpu_percent", ""), ({"host": "alpha"}, "disk_used_percent", ""), ({"host": "beta"}, "load_1m", ""),
    ({"host": "alpha", "gpu": "2"}, "power_watts", "GPU-a2"), ({"gpu": "MIG-b1"}, "utilization_percent", "MIG-b1"),
])  # fmt: skip
def test_hosts_and_slices_and_gpus_by_number(lab, about, metric, subject):
    name = "beta" if "beta" in about.values() or subject.startswith("MIG-b") else "alpha"
    now = lab.end_at(name) + 60
    found = series(lab.store, lab.latest, metric=metric, **about, start_at=lab.at("2026-11-20T22:00:00"), end_at=now, step=60, now=now)
    assert (found.host, found.gpu) == (name, subject)
    assert_is(found, lab.digest(name).minutes[subject], now)


def test_a_metric_of_gpus_of_a_host_is_over_all_of_them(lab):
    now = lab.end_at("alpha") + 20
    found = series(lab.store, lab.latest, metric="power_watts", host="alpha", start_at=lab.at("2026-11-20T23:00:00"), end_at=now, step=900, now=now)
    both = Digest()
    for uuid, minutes in lab.digest("alpha").minutes.items():
        if uuid.startswith("GPU-"):
            both = add(both, Digest(minutes={"all": minutes}), 0)
    assert_is(found, both.minutes["all"], now, cards=4)


@pytest.mark.parametrize("large", [False, True])
def test_the_fleet_is_all_that_was_read(lab, large, monkeypatch):
    """In a large lab what is packed, and it says so."""
    monkeypatch.setattr(tail, "MOST_WAITING", 10 if large else 1500)
    now = lab.end_at("alpha")
    packed = add(lab.digest("alpha", 640), lab.digest("beta", 80), 0) if large else add(lab.digest("alpha"), lab.digest("beta"), 0)
    found = series(lab.store, lab.latest, metric="held_percent", start_at=lab.at("2026-11-20T22:00:00"), end_at=now, step=3600, now=now)
    first = min(lab.all["alpha"][640].at, lab.all["beta"][80].at)
    assert found.counted_until_at == (pytest.approx(first, abs=0.001) if large else None)
    buckets, _ = wanted(packed.fleet, "held_percent", 0, 3600)
    assert {at: count for at, count in zip(found.times, found.count) if count} == {at: pytest.approx(one.count, abs=4) for at, one in buckets.items()}
    assert [mean for mean in found.mean if mean is not None] == [pytest.approx(one.mean, abs=1) for one in buckets.values()]
    assert all(0 <= share <= 1 for share in found.coverage)


def test_several_metrics_are_the_same_as_one_by_one(lab):
    now = lab.end_at("alpha")
    about = {"gpu": "GPU-a0", "start_at": lab.at("2026-11-20T23:00:00"), "end_at": now, "step": 300, "now": now}
    both = many(lab.store, lab.latest, ("utilization_percent", "power_watts"), **about)
    assert both == {metric: series(lab.store, lab.latest, metric=metric, **about) for metric in ("utilization_percent", "power_watts")}


@pytest.mark.parametrize(("seconds", "points"), [(3600, 10), (86400, 100), (30 * 86400, 4000), (365 * 86400, 370), (20 * 365 * 86400, 50), (300, 1)])
def test_never_more_points_than_asked_for(lab, seconds, points):
    end_at = lab.end_at("alpha") + 17
    found = series(lab.store, lab.latest, metric="power_watts", gpu="GPU-a1", start_at=end_at - seconds, end_at=end_at, step=60, points=points, now=end_at)
    assert 1 <= len(found.times) <= points
    assert found.step_seconds % found.tier_seconds == 0
    assert found.times[0] <= end_at - seconds < end_at <= found.times[-1] + found.step_seconds
    assert found.step_seconds in STEPS or found.step_seconds % STEPS[-1] == 0


def test_a_step_is_rounded_up_to_whole_intervals(lab):
    end_at = lab.end_at("alpha")
    for asked, step, tier in ((0, 60, 60), (61, 120, 60), (899, 900, 60), (1000, 1800, 900), (3599, 3600, 900), (5000, 7200, 3600)):
        found = series(lab.store, lab.latest, metric="power_watts", gpu="GPU-a1", start_at=end_at - 7200, end_at=end_at, step=asked, now=end_at)
        assert (found.step_seconds, found.tier_seconds) == (step, tier)


def test_where_nothing_is_kept_everything_is_a_gap(lab):
    about = {"start_at": 1000.0, "end_at": 9000.0, "now": 9000.0}
    found = series(lab.store, lab.latest, metric="cpu_percent", host="gone", **about)
    assert set(found.mean) == {None}
    assert found.kept_since_at is None
    found = series(lab.store, lab.latest, metric="cpu_percent", host="alpha", **about)
    assert set(found.mean) == {None}
    assert found.kept_since_at == lab.all["alpha"][0].at // 60 * 60


def test_a_user_s_days(lab):
    packed = lab.all["alpha"][:640]
    now = lab.end_at("alpha")
    found = series(lab.store, lab.latest, metric="held_hours", user="lisa", start_at=lab.at("2026-11-19T12:00:00"), end_at=now, now=now)
    assert list(found.times) == [lab.at(f"2026-11-{day}T00:00:00") for day in (19, 20, 21)]
    assert found.mean[0] is None
    assert found.mean[1] > 0
    assert found.mean[2] > 0
    assert 0 < found.coverage[1] < found.coverage[2] < 1
    one = series(lab.store, lab.latest, metric="held_hours", user="lisa", host="alpha", gpu="1", start_at=packed[0].at, end_at=now, now=now)
    assert 0 < one.mean[0] <= found.mean[1]
    nobody = series(lab.store, lab.latest, metric="held_hours", user="nobody", start_at=packed[0].at, end_at=now, now=now)
    assert nobody.mean == (0.0, 0.0)


@pytest.mark.parametrize(("about", "error"), [
    ({"metric": "cpu_percent", "gpu": "GPU-a1"}, UsageError), ({"metric": "power_watts", "gpu": "MIG-a1"}, UsageError),
    ({"metric": "held_percent", "host": "alpha"}, UsageError), ({"metric": "power_watts", "user": "lisa"}, UsageError),
    ({"metric": "x' OR 1=1"}, UsageError), ({"metric": "power_watts", "gpu": "GPU-none"}, NoSuch),
    ({"metric": "power_watts", "host": "none"}, NoSuch), ({"metric": "power_watts", "host": "alpha", "gpu": "9"}, NoSuch),
    ({"metric": "power_watts", "host": "gone", "gpu": "0"}, NoSuch),
])  # fmt: skip
def test_what_there_is_not_is_said(lab, about, error):
    with pytest.raises(error):
        series(lab.store, lab.latest, start_at=0.0, end_at=1000.0, now=1000.0, **about)


@pytest.mark.parametrize("span", [(5.0, 5.0), (9.0, 5.0), (-1.0, 5.0), (0.0, 1e12), (float("nan"), 5.0)])
def test_a_span_that_is_none(lab, span):
    with pytest.raises(UsageError):
        series(lab.store, lab.latest, metric="power_watts", start_at=span[0], end_at=span[1], now=5.0)
