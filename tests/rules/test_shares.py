"""Rendezvous hashing: the same everywhere, even, and a hub that goes moves nothing but its own share."""

from gpuwatch.rules.shares import owner_of, owners_of

IDS = [f"{number:032x}" for number in range(3000)]


def test_shares_are_even():
    owners = list(owners_of(IDS, ["a", "b", "c"]).values())
    assert all(850 < owners.count(hub) < 1150 for hub in "abc")


def test_a_hub_that_goes_moves_only_its_own():
    before, after = owners_of(IDS, ["a", "b", "c"]), owners_of(IDS, ["c", "a"])
    assert {id for id in IDS if before[id] != after[id]} == {id for id in IDS if before[id] == "b"}


def test_no_hub():
    assert owner_of(IDS[0], []) == ""
