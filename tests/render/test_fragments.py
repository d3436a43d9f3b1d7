"""The cache of rendered parts."""

from __future__ import annotations

from gpuwatch.render.fragments import Fragments


def test_a_part_is_made_once_per_version():
    made: list[int] = []

    def make() -> str:
        made.append(1)
        return f"part {len(made)}"

    fragments = Fragments()
    assert fragments.get("a", 1, make) == "part 1"
    assert fragments.get("a", 1, make) == "part 1"
    assert fragments.get("a", 2, make) == "part 2"
    assert fragments.get("b", 2, make) == "part 3"
    assert len(fragments) == 2


def test_it_never_grows_beyond_its_limit():
    fragments = Fragments(most=10)
    for number in range(100):
        fragments.get(number, 1, str)
        assert len(fragments) <= 10
    assert fragments.get(99, 1, lambda: "made anew") == ""
    assert fragments.get(0, 1, lambda: "made anew") == "made anew"


def test_parts_are_bounded_in_bytes():
    fragments = Fragments(most_bytes=10_000)
    for number in range(1000):
        fragments.get(("text", number), 1, lambda: "x" * 1000)
    assert len(fragments) <= 10
    for version in range(100):
        fragments.get("one", version, lambda: "x" * 1000)
    assert 1 <= len(fragments) <= 10


def test_a_part_says_its_size_itself():
    class Form:
        size = 4000

    fragments = Fragments(most_bytes=10_000)
    for number in range(10):
        fragments.get(number, 1, Form)
    assert len(fragments) <= 2


def test_views_that_take_more_than_there_is_are_kept_in_part():
    """A large view asks for its parts in turn: what is kept of it stays, whatever is asked for next."""
    fragments = Fragments(most_bytes=80_000)
    made: list[int] = []

    def look(number: int) -> str:
        made.append(number)
        return "x" * 1000

    for _ in range(20):
        made.clear()
        for number in range(100):
            fragments.get(number, 1, lambda number=number: look(number))
    assert len(made) == 20
    assert len(fragments) == 80


def test_what_nobody_asks_for_again_makes_room():
    fragments = Fragments(most_bytes=100_000)
    for number in range(100):
        fragments.get(("old width", number), 1, lambda: "x" * 1000)
    made: list[int] = []

    def look(number: int) -> str:
        made.append(number)
        return "x" * 1000

    for _ in range(10):
        made.clear()
        for number in range(80):
            fragments.get(("new width", number), 1, lambda number=number: look(number))
    assert made == []
    assert len(fragments) <= 100


def test_a_part_that_grows_is_counted_anew():
    fragments = Fragments(most_bytes=10_000)
    for number in range(9):
        fragments.get(number, 1, lambda: "x" * 1000)
    for version in range(2, 5):
        for number in range(9):
            assert len(fragments.get(number, version, lambda: "x" * 3000)) == 3000
    assert 1 <= len(fragments) <= 3
