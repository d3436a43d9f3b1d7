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
