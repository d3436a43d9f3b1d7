"""Tables with a fixed head: finding the columns by name, and the loop over their lines that the parsers of such formats share. Pure."""

from __future__ import annotations

from typing import Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from gpuwatch.model.errors import UsageError
from gpuwatch.wire.csv_in.cells import metric
from gpuwatch.wire.csv_in.rows import ImportedRow, Report, Unreadable
from gpuwatch.wire.csv_in.text import cells_of, shown

Cells = Mapping[str, str]
"""One line: column -> cell."""
MakeRows = Callable[[Cells], Iterable[ImportedRow]]


def key_of(cell: str) -> str:
    """A column's name as it is compared: case and blanks do not count."""
    return " ".join(cell.lower().split())


def table_rows(lines: Iterable[str], report: Report, needed: Sequence[str], make: MakeRows) -> Iterator[ImportedRow]:
    """What ``make`` makes of each line below the head; the head may come again. Raises UsageError where the first line is none."""
    head: Optional[List[str]] = None
    for number, cells in cells_of(lines, report):
        if head is None or key_of(cells[0]) == head[0]:
            head = _head(cells, needed)
            continue
        try:
            if len(cells) != len(head):
                raise Unreadable(f"has {len(cells)} columns, the head has {len(head)}: {shown(cells[0])}")
            found = list(make(dict(zip(head, cells))))
        except Unreadable as error:
            report.refuse(number, str(error))
            continue
        report.rows += len(found)
        yield from found


def _head(cells: Sequence[str], needed: Sequence[str]) -> List[str]:
    head = [key_of(cell) for cell in cells]
    missing = [name for name in needed if key_of(name) not in head]
    if missing:
        raise UsageError(f"The first line has no column {', '.join(missing)}.", "Is it another format? See --format.")
    return head


def read_metrics(cells: Cells, columns: Mapping[str, Tuple[str, float]]) -> Dict[str, float]:
    """The numbers of a line; ``columns``: column -> (our field, what one is worth without a unit). Raises Unreadable naming the column."""
    values: Dict[str, float] = {}
    for column, (name, factor) in columns.items():
        try:
            value = metric(cells.get(column, ""), name, factor)
        except Unreadable as error:
            raise Unreadable(f"{column}: {error}") from None
        if value is not None:
            values[name] = value
    return values
