"""Our own exports, ``/?format=csv`` (``render.as_csv``) and ``gpuwatch db export --what snapshots`` (``render.csv_export``). Pure.

One line a GPU and time, all its numbers, times in epoch seconds.

Columns are found by name, so exports of other versions are read too. Lines of hosts that were down repeat old readings: they carry the old time.
"""

from __future__ import annotations

from typing import Dict, Iterable, Iterator, Tuple

from gpuwatch.model.fields import describe
from gpuwatch.model.snapshot import GpuReading
from gpuwatch.wire.csv_in.cells import name_of, number
from gpuwatch.wire.csv_in.clock import Clock, epoch
from gpuwatch.wire.csv_in.columns import Cells, read_metrics, table_rows
from gpuwatch.wire.csv_in.rows import ImportedRow, Report, Unreadable

COLUMNS = ("host", "received_at", "uuid")
"""Without these a line says nothing."""
TAKEN_AT = "taken_at"
"""Snapshots have this too; it is what orders them."""
_NUMBERS: Dict[str, Tuple[str, float]] = {
    name: (name, 1.0) for name, kind, _, _ in describe(GpuReading) if kind in ("gauge", "counter") and not name.endswith("_read_at")
}
_FORMULA = "=+-@＝＋－＠"


def rows(lines: Iterable[str], report: Report, clock: Clock) -> Iterator[ImportedRow]:
    """The rows of an export, and one for each user on a GPU. Raises UsageError where the first line is no head of it."""

    def make(cells: Cells) -> Iterator[ImportedRow]:
        uuid = name_of(cells["uuid"])
        if uuid is None:  # the line of a host that showed no GPU
            return
        said_at = number(cells.get(TAKEN_AT) or cells["received_at"])
        if said_at is None:
            raise Unreadable("received_at is not there")
        at, machine = epoch(said_at), name_of(_plain(cells["host"])) or ""
        name = name_of(_plain(cells.get("name", "")))
        yield ImportedRow(at, machine, uuid, name, read_metrics(cells, _NUMBERS))
        for user in _plain(cells.get("users", "")).split()[:100]:
            yield ImportedRow(at, machine, uuid, name, {}, name_of(user))

    return table_rows(lines, report, COLUMNS, make)


def _plain(text: str) -> str:
    """Without the mark that keeps a spreadsheet from running it."""
    return text[1:] if text[:1] == "'" and text[1:].lstrip(' "')[:1] in _FORMULA else text


