"""Steps from change to change of the processes: each one once, forwards and backwards, whatever is packed and whatever still waits."""

from __future__ import annotations

import pytest
from tests.query.lab import Lab
from tests.rules.machine import Machine

from gpuwatch.query.changes import SEEN_SECONDS, change
from gpuwatch.query.subjects import NoSuch
from gpuwatch.query.tail import Tails


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("lab") / "lab.db", "alpha", "beta", "silent")
    lab.add("alpha", Machine(1, lab.at("2026-10-24T21:11:13"), 20, name="a"), 150, packed=120)
    lab.add("beta", Machine(2, lab.at("2026-10-24T21:31:00"), 60, name="b"), 60, packed=45)
    return lab


def wanted(lab, hosts, gpu=""):
    """In ms: of each begin and end the first reading from then on, else itself."""
    found = set()
    for name in hosts:
        now = lab.end_at(name)  # what is there at the newest reading has not ended
        readings = [round(one.at * 1000) for one in lab.all[name]]
        for one in lab.digest(name).intervals:
            for at in (one.start_at, one.end_at):
                if (not gpu or one.gpu_uuid == gpu) and round(at * 1000) <= round(now * 1000):
                    at_ms = round(at * 1000)
                    found.add(next((seen for seen in readings if at_ms <= seen <= at_ms + 1000 * SEEN_SECONDS), at_ms))
    return sorted(found)


def walk(lab, at, now, **about):
    found, tails = [], Tails()
    while at is not None and len(found) < 2000:
        at = change(lab.store, lab.latest, at, now, tails=tails, **about)
        found += [round(at * 1000)] if at is not None else []
    return found


@pytest.mark.parametrize(("hosts", "about"), [
    (("alpha", "beta"), {}), (("alpha",), {"host": "alpha"}), (("beta",), {"host": "beta"}), (("alpha",), {"gpu": "GPU-a0"}),
])  # fmt: skip
def test_each_change_is_met_once_in_both_directions(lab, hosts, about):
    now = max(lab.end_at(name) for name in hosts)
    expected = wanted(lab, hosts, about.get("gpu", ""))
    assert len(expected) > 12
    assert about.get("gpu") or any(at > lab.all[hosts[0]][-12].at * 1000 for at in expected)  # some of them still wait in the journal
    assert walk(lab, 1.0, now, later=True, **about) == expected
    assert walk(lab, now + 0.5, now, later=False, **about) == expected[::-1]


def test_from_a_moment_between_two(lab):
    now = lab.end_at("alpha")
    expected = wanted(lab, ("alpha",))
    middle = expected[10] / 1000 + 0.5
    assert change(lab.store, lab.latest, middle, now, later=False, host="alpha") == expected[10] / 1000
    assert change(lab.store, lab.latest, middle, now, later=True, host="alpha") == expected[11] / 1000


def test_where_there_is_none(lab):
    assert change(lab.store, lab.latest, lab.at("2026-10-01T00:00:00"), lab.end_at("alpha"), later=False) is None
    assert change(lab.store, lab.latest, lab.end_at("alpha"), lab.end_at("alpha"), later=True, host="silent") is None
    with pytest.raises(NoSuch):
        change(lab.store, lab.latest, 1.0, 2.0, later=True, host="nobody")
