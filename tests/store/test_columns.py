"""Columns: the form chosen for usual columns is the small one."""

import pytest

from gpuwatch.store.columns import ColumnReader, ColumnWriter


def written(column, times=()):
    writer = ColumnWriter()
    writer.set_times(times)
    writer.add(column)
    return writer.header()["plans"], len(writer.body()), writer


@pytest.mark.parametrize(
    ("column", "plan"),
    [
        ((7,) * 100, "="),
        ((None,) * 100, "="),
        ((312.4,) * 100, "="),
        (tuple(range(10**12, 10**12 + 300, 3)), "di1"),
        ((93, 97, 91, 99, 92, 98) * 20, "vi1"),
        ((312.4, 309.1, 315.0, 308.8, 313.9) * 20, "v11"),
        ((0.1 + 0.2, 0.7, 1 / 3) * 30, "f"),
        ((None, 93, 97, 91, 99) * 20, "nvi1"),
        ((1.5, 2, 1.5, 2.5) * 25, "mv11"),
    ],
)
def test_the_plan_fits_the_column(column, plan):
    assert written(column)[0] == plan


def test_times_lean_on_the_time_of_the_snapshot():
    times = tuple(1_790_000_000_000 + 5003 * n + n % 7 for n in range(100))
    plan, size, _ = written(tuple((time + 1) / 1000 for time in times), times)
    assert (plan, size) == ("t31", 100)


def test_the_reader_wants_as_many_values_as_promised():
    _, _, writer = written((1, 5, 2))
    with pytest.raises(ValueError, match="too early"):
        ColumnReader(writer.header(), b"").next(3)
    reader = ColumnReader(writer.header(), writer.body())
    assert reader.next(3) == [1, 5, 2]
    with pytest.raises(ValueError, match="too early"):
        reader.next(3)
