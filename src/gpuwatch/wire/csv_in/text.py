"""Bytes of a stranger's file to lines of text, and lines to cells, whatever they hold. Bounded: a file without line ends is cut, not kept.

PowerShell writes UTF-16 with a mark in front; without a mark it is UTF-8, and bytes that are none become U+FFFD.
"""

from __future__ import annotations

import codecs
import csv
from typing import Iterable, Iterator, List, Tuple

from gpuwatch.wire.csv_in.rows import Report, Unreadable

MAX_LINE = 65536
"""Characters of the longest line that is read; the longest real one, a log of all fields of nvidia-smi, has 7,000."""
MAX_COLUMNS = 1000
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def lines(blocks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a file that is read in ``blocks``, without their ends; of a longer one its first MAX_LINE + 1 characters."""
    pending, decoder = "", None
    for block in blocks:
        if decoder is None:
            encoding, skipped = _encoding(block)
            decoder, block = codecs.getincrementaldecoder(encoding)(errors="replace"), block[skipped:]
        complete = (pending + decoder.decode(block)).split("\n")
        pending = complete.pop()[: MAX_LINE + 1]
        for line in complete:
            yield line[: MAX_LINE + 1].rstrip("\r")
    pending += decoder.decode(b"", True) if decoder is not None else ""
    if pending:
        yield pending[: MAX_LINE + 1].rstrip("\r")


def _encoding(block: bytes) -> Tuple[str, int]:
    return next(((encoding, len(mark)) for mark, encoding in _MARKS if block.startswith(mark)), ("utf-8", 0))


def cells_of(all_lines: Iterable[str], report: Report) -> Iterator[Tuple[int, List[str]]]:
    """(line number, cells without the blanks around them) of each line that holds something. Lines that are none are refused."""
    number = 0
    try:
        for number, line in enumerate(all_lines, 1):
            if not line or line.isspace():
                continue
            try:
                cells = split(line)
            except Unreadable as error:
                report.refuse(number, str(error))
                continue
            report.lines = number
            yield number, cells
    finally:
        report.lines = number


def split(line: str) -> List[str]:
    """The cells of one line of CSV, without the blanks around them. Raises Unreadable."""
    if len(line) > MAX_LINE:
        raise Unreadable(f"is longer than {MAX_LINE} characters")
    if "\0" in line:
        raise Unreadable("holds NUL bytes: the disk was full, or the machine went down while it was written")
    if line.count(",") >= MAX_COLUMNS:
        raise Unreadable(f"has more than {MAX_COLUMNS} columns")
    if '"' not in line:
        return [cell.strip() for cell in line.split(",")]
    try:
        found = list(csv.reader((line,), skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise Unreadable(f"has a quotation mark out of place ({error})") from None
    return [cell.strip() for cell in found[0]] if found else []


def shown(text: str) -> str:
    """A stranger's text inside a message: short, and without control characters."""
    return ascii(text[:40]) if not text[:40].isprintable() else f"'{text[:40]}'"
