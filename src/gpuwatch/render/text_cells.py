"""Cells of text tables: width on a terminal, cutting, padding, bars and colour. Pure; nothing that leaves ``plain`` can steer a terminal.

Every name that a stranger chose goes through ``plain`` (or ``left``, ``right``, ``wrap``, which call it) before it stands in a line.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import NamedTuple

from gpuwatch.model.view import ViewOptions
from gpuwatch.render import words

LEAST_WIDTH, GREATEST_WIDTH = 60, 400
MARKS_A_LETTER = 2
"""More combining marks than this would paint over the lines above and below."""

FREE, IDLE, BROKEN, ALARM, HELD, DIM, BOLD = "1;37;44", "30;43", "1;37;41", "1;31", "33", "2", "1"
"""ANSI of the chips; with foreground and background, so that they read on dark and light terminals."""

CHIPS = {"free": FREE, "idle": IDLE, "lost": BROKEN, "down": BROKEN, "error": BROKEN}


class Look(NamedTuple):
    """How a text view is to look. A tuple, since it is part of the key of each cached piece."""

    width: int = 80
    ascii_only: bool = False
    color: bool = False

    @classmethod
    def of(cls, options: ViewOptions) -> Look:
        """The look that the options ask for; the width is kept within 60 to 400 columns."""
        return cls(min(max(options.width, LEAST_WIDTH), GREATEST_WIDTH), options.ascii_only, options.color)

    @property
    def ellipsis(self) -> str:
        """What stands where a text was cut."""
        return ".." if self.ascii_only else "…"

    def left(self, text: str | None, columns: int) -> str:
        """The text, cut or filled up to so many columns."""
        text = text or ""
        if _is_simple(text):
            return _cut(text, columns, self.ellipsis).ljust(columns)
        return _left(text, columns, self.ascii_only, self.ellipsis)

    def right(self, text: str | None, columns: int) -> str:
        """As ``left``, with the blanks in front."""
        shown = _cut(plain(text, self.ascii_only), columns, self.ellipsis)
        return " " * (columns - width(shown)) + shown

    def cut(self, text: str | None, columns: int, ellipsis: str = "") -> str:
        """The text, at most so many columns wide."""
        text = text or ""
        shown = text if _is_simple(text) else plain(text, self.ascii_only)
        return _cut(shown, columns, ellipsis or self.ellipsis)

    def wrap(self, text: str | None, columns: int) -> list[str]:
        """The text in lines of at most so many columns, broken between words where that is possible. At least one line."""
        return _wrap(plain(text, self.ascii_only), columns)

    def paint(self, text: str, ansi: str) -> str:
        """The text in a colour, where colour is asked for."""
        return f"\x1b[{ansi}m{text}\x1b[0m" if self.color and ansi and text else text

    def around(self, ansi: str) -> tuple[str, str]:
        """What ``paint`` puts before and after a text."""
        return (f"\x1b[{ansi}m", "\x1b[0m") if self.color and ansi else ("", "")

    def final(self, text: str) -> str:
        """Lines as they leave: pure ASCII where that is asked for."""
        return text.translate(_ASCII_SIGNS).encode("ascii", "replace").decode("ascii") if self.ascii_only else text


def _is_simple(text: str) -> bool:
    """``plain`` would leave the text as it is, and its length is its width."""
    return text.isascii() and text.isprintable()


_ASCII_SIGNS = {ord(sign): other for sign, other in zip("─│┌┐└┘├°…", "-|+++++ .")}


@lru_cache(maxsize=4096)
def plain(text: str | None, ascii_only: bool = False) -> str:
    """The text without anything whose width terminals disagree on, or that could steer one; pure ASCII if asked for."""
    shown = words.clean(text)
    if shown.isascii():
        return shown
    return _as_ascii(shown) if ascii_only else _countable(shown)


def _as_ascii(text: str) -> str:
    signs = text.translate(_ASCII_SIGNS)
    letters = (unicodedata.normalize("NFKD", letter) for letter in signs if not unicodedata.combining(letter))
    return "".join("".join(part for part in parts if part.isascii() and part.isprintable()) or "?" for parts in letters)


def _countable(text: str) -> str:
    """Keep what takes one or two columns by itself, and few combining marks; drop joiners, selectors and the like."""
    kept: list[str] = []
    marks = 0
    for letter in unicodedata.normalize("NFC", text):
        category = unicodedata.category(letter)
        if category in ("Cf", "Mc") or letter in _DISPUTED:
            continue
        letter = {"Cn": "?", "Co": "?", "Zs": " "}.get(category, letter)
        if _columns(letter) > 0:
            kept.append(letter)
            marks = 0
        elif category in ("Mn", "Me") and kept and marks < MARKS_A_LETTER:
            kept.append(letter)
            marks += 1
    shown = "".join(kept)
    return shown if _whole_width(shown) == width(shown) else _as_ascii(shown)


_DISPUTED = frozenset(
    map(
        chr,
        (0x20E3, *range(0xFE00, 0xFE10), *range(0x1F1E6, 0x1F200), *range(0x1F3FB, 0x1F400), *range(0xE0100, 0xE01F0)),
    )
)
"""Key caps, selectors, flags, skin tones: their width depends on what stands beside them."""


@lru_cache(maxsize=4096)
def _columns(letter: str) -> int:
    from wcwidth import wcwidth  # here: importing it takes longer than most commands, and most names are ASCII

    return int(wcwidth(letter))


def _whole_width(text: str) -> int:
    from wcwidth import wcswidth

    return int(wcswidth(text))


def width(text: str) -> int:
    """Columns that a text from ``plain`` takes on a terminal."""
    return len(text) if text.isascii() else sum(max(0, _columns(letter)) for letter in text)


def _cut(text: str, columns: int, ellipsis: str) -> str:
    if width(text) <= columns:
        return text
    if columns <= len(ellipsis):
        return ellipsis[: max(0, columns)]
    kept, used, room = [], 0, columns - len(ellipsis)
    if text.isascii():
        return text[:room] + ellipsis
    for letter in text:
        used += max(0, _columns(letter))
        if used > room:
            break
        kept.append(letter)
    return "".join(kept) + ellipsis


@lru_cache(maxsize=4096)
def _left(text: str, columns: int, ascii_only: bool, ellipsis: str) -> str:
    shown = _cut(plain(text, ascii_only), columns, ellipsis)
    return shown + " " * (columns - width(shown))


def _wrap(text: str, columns: int) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        while width(word) > columns:
            head = _cut(word, columns - (width(line) + 1 if line else 0), "")
            if head and line:
                line = f"{line} {head}"
            elif head:
                line = head
            word = word[len(head) :]
            lines.append(line)
            line = ""
        joined = f"{line} {word}" if line else word
        if width(joined) > columns:
            lines.append(line)
            joined = word
        line = joined
    return [*lines, line] if line or not lines else lines


def bar(percent: float | None, columns: int, full: str = "#", empty: str = "-") -> str:
    """A bar from 0 to 100 percent; dots for None. From 1 percent on, something shows."""
    if percent is None:
        return (" ." * columns)[:columns]
    filled = round(percent * columns / 100) or int(percent >= 1)
    if not 0 <= filled <= columns:
        filled = 0 if filled < 0 else columns
    return full * filled + empty * (columns - filled)
