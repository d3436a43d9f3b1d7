"""What fills texts: numbers by place, and what is kept of a fill for the next one."""

from __future__ import annotations

from functools import partial
from typing import Any, List

from gpuwatch.render.filling import MOST_VAIN, Form, Group, Layout, Pool, getter


def test_numbers_by_place() -> None:
    pool = Pool([10, 11, 12], [None, "now"])
    assert list(pool([2, 0])) == [12, 10]
    assert list(pool([1])) == [11]
    assert list(pool([4, 3])) == ["now", None]
    assert list(pool([4, None, 0])) == ["now", None, 10]
    assert list(pool([])) == []


class Counted:
    """A form of two holes of one function, and how often that was called."""

    def __init__(self, *columns: Any, count: int = 2) -> None:
        self.calls: List[Any] = []
        group = Group.of(columns, count, self.make, len(columns))
        self.form = Form(["<", "|", ">"], Layout((group,), getter([1, 0]), False), [partial(map, self.make)])

    def make(self, *numbers: Any) -> str:
        """Notes that it was called."""
        self.calls.append(numbers)
        return "+".join(map(str, numbers))

    def fill(self, *values: Any, more: Any = (None,)) -> str:
        """The text."""
        return self.form.fill(Pool(values, more))


def test_a_text_is_made_again_when_its_numbers_change() -> None:
    one = Counted((0, 1))
    assert [one.fill(1, 2), one.fill(1, 2), one.fill(1, 2)] == ["<2|1>"] * 3
    assert len(one.calls) == 2
    assert [one.fill(1, 3), one.fill(1, 3), one.fill(1, 2)] == ["<3|1>", "<3|1>", "<2|1>"]
    assert len(one.calls) == 6


def test_what_is_other_at_each_look_is_not_kept() -> None:
    one = Counted((0, 1))
    for look in range(MOST_VAIN + 3):
        assert one.fill(look, 0) == f"<0|{look}>"
    one.calls.clear()
    assert [one.fill(7, 0), one.fill(7, 0)] == ["<0|7>"] * 2
    assert len(one.calls) == 4


def test_nothing_is_kept_of_the_time() -> None:
    for places in ((0, 2), (2, 2)):
        one = Counted(places, count=1)
        assert one.fill(5, more=(None, 1)) == f"<1|{5 if places[0] == 0 else 1}>"
        assert one.fill(5, more=(None, 9)) == f"<9|{5 if places[0] == 0 else 9}>"


def test_forms_of_one_layout_keep_their_own() -> None:
    group = Group.of([(0,)], 1, str, 1)
    layout = Layout((group,), getter([0]), False)
    forms = [Form([name, ""], layout, [partial(map, str)]) for name in "ab"]
    assert [form.fill(Pool([number], [None])) for number in (1, 2) for form in forms] == ["a1", "b1", "a2", "b2"]
