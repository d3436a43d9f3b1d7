"""Who sends by itself: names, states, epochs; the same on both databases."""

import pytest

from gpuwatch.model.errors import UsageError
from gpuwatch.store import enrolled, machines

NOW = 1_790_000_000.0


def add(store, name="gpu7", kind="push", **more):
    return enrolled.add(store, kind=kind, name=name, address="10.0.0.7", now=NOW, **more)


def test_what_is_enrolled_is_found_by_id_name_and_secret(store):
    made = add(store, secret="s" * 64, detail='{"worker": 1}', state=enrolled.WAITING)
    assert enrolled.find(store, made.id) == enrolled.named(store, "gpu7") == enrolled.of_secret(store, "push", "s" * 64) == made
    assert enrolled.require(store, "gpu7") == enrolled.require(store, made.id) == made
    assert enrolled.list_all(store) == enrolled.list_all(store, "push") == [made]
    assert enrolled.list_all(store, "vesta") == []
    assert enrolled.of_secret(store, "vesta", "s" * 64) is None
    assert (made.state, made.created_at, made.seen_at, made.first_address) == ("waiting", NOW, None, "10.0.0.7")
    with pytest.raises(UsageError, match="enroll list"):
        enrolled.require(store, "gpu8")


def test_one_without_a_secret_is_not_found_by_an_empty_one(store):
    add(store)
    assert enrolled.of_secret(store, "push", "") is None


def test_a_name_that_is_taken_gets_a_suffix(store, machine):
    assert [add(store, name).name for name in ("a", "a", "a", "a-2")] == ["a", "a-2", "a-3", "a-2-2"]
    assert add(store, "gpu01").name == "gpu01-2"  # a machine is called so
    assert add(store, "gpu01", may_take={"gpu01"}).name == "gpu01"
    assert add(store, "gpu01", may_take={"gpu01"}).name == "gpu01-3"
    assert add(store, "b", taken={"b", "b-2"}).name == "b-3"
    assert add(store, "import:x").name == "import-x-2"
    assert len(add(store, "n" * 200, taken={"n" * 200}).name) <= 200


def test_what_changes_is_told_by_the_epoch_and_nothing_else_is(store):
    made = add(store)
    seen = [enrolled.epoch(store)]
    for change in (
        lambda: enrolled.change(store, made.id, state=enrolled.WAITING),
        lambda: enrolled.change(store, made.id, secret="x", detail="{}", name="other"),
        lambda: enrolled.remove(store, made.id),
    ):
        assert change()
        seen.append(enrolled.epoch(store))
    assert len(set(seen)) == 4
    assert not enrolled.change(store, made.id, state="x")
    assert not enrolled.remove(store, made.id)
    again = add(store)
    before = enrolled.epoch(store)
    enrolled.touch(store, [(again.id, "10.0.0.8", NOW + 1.5)])
    assert enrolled.epoch(store) == before
    assert enrolled.find(store, again.id) == again._replace(last_address="10.0.0.8", seen_at=NOW + 1.5)


def test_a_machine_that_is_renamed_or_merged_stays_the_one_that_sends(store):
    made = add(store)
    machine_id = machines.ensure(store, "gpu7", "10.0.0.7")
    other = machines.ensure(store, "other", "10.0.0.8")
    waiting = add(store, "soon")
    with pytest.raises(UsageError, match="already"):
        machines.rename(store, machine_id, waiting.name)
    machines.rename(store, machine_id, "dgx-7")
    assert enrolled.require(store, made.id).name == "dgx-7"
    machines.merge(store, machine_id, other)
    assert enrolled.require(store, made.id).name == "other"


def test_a_foreign_one_makes_way_with_its_past(store):
    made = add(store, "gpu1", kind="vesta")
    machine_id = machines.ensure(store, "gpu1", "10.0.0.7")
    assert enrolled.make_way(store, made.id, {"gpu1", "gpu1-2"}) == "gpu1-3"
    assert enrolled.require(store, made.id).name == machines.find(store, machine_id).name == "gpu1-3"
    assert machines.ensure(store, "gpu1", "10.0.0.1") != machine_id
    assert enrolled.make_way(store, "nobody", set()) == ""


def test_how_far_pushes_are_stored_only_grows_and_goes_with_the_node(store):
    ids = [add(store, f"n{number}").id for number in range(3)]
    with store.writing():
        enrolled.set_pushed(store, {ids[0]: 5, ids[1]: 2**52})
        enrolled.set_pushed(store, {ids[0]: 3})
    assert enrolled.pushed(store, [*ids, *(str(number) for number in range(1200))]) == {ids[0]: 5, ids[1]: 2**52}
    enrolled.remove(store, ids[0])
    assert enrolled.pushed(store, ids) == {ids[1]: 2**52}
    assert enrolled.pushed(store, []) == {}
