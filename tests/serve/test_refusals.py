"""Counting the refused."""

from types import SimpleNamespace

from gpuwatch.serve import refusals
from gpuwatch.serve.refusals import Refusals


def test_counts_by_reason_beginning_with_nothing():
    counted = Refusals(("stale", "replayed"))
    assert counted.counts() == {"stale": 0, "replayed": 0}
    counted.count("stale", "192.0.2.1")
    counted.count("other", "192.0.2.1")
    assert counted.counts() == {"stale": 1, "replayed": 0, "other": 1}


def test_the_log_has_the_first_and_then_a_count(caplog, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(refusals, "time", SimpleNamespace(monotonic=lambda: clock[0]))  # not for all threads of this process
    counted = Refusals()
    for number in range(10_000):
        counted.count("wrong password", f"192.0.2.{number % 250}")
    told = [record.getMessage() for record in caplog.records if record.name == refusals.log.name]
    assert told == ["refused: wrong password 1x; the last one from 192.0.2.0"]
    clock[0] += refusals.TELL_SECONDS
    counted.count("stale", "192.0.2.9")
    assert [record.getMessage() for record in caplog.records if record.name == refusals.log.name][1] == "refused: wrong password 9999x, stale 1x; the last one from 192.0.2.9"
