"""Usage as CSV (RFC 4180): one line a row of the report. Pure; what is not known is empty, never 0."""

from __future__ import annotations

from typing import Iterator

from gpuwatch.model.series import UsageReport
from gpuwatch.render.csv_series import cell
from gpuwatch.render.json_usage import ROW_FIELDS, row_doc

USAGE_COLUMNS = (
    ("first_day", "first day of the report, YYYY-MM-DD in the hub's time zone"),
    ("last_day", "its last day, included"),
    ("by", "what the rows are by"),
    *ROW_FIELDS,
)
"""(column, what it holds); units stand in the names."""


def usage_csv(report: UsageReport) -> Iterator[bytes]:
    """The lines of a report, some hundreds a piece; the first line holds the names of the columns. The total is the sum of the rows (not by tag)."""
    yield (",".join(name for name, _ in USAGE_COLUMNS) + "\r\n").encode()
    head = f"{report.first_day},{report.last_day},{cell(report.by)}"
    for first in range(0, len(report.rows), 500):
        lines = [f"{head},{','.join(map(cell, row_doc(row).values()))}\r\n" for row in report.rows[first : first + 500]]
        yield "".join(lines).encode("utf-8", "replace")
