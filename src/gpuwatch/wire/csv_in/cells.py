"""Single cells to numbers and identities. Pure. What is not reported is None; what is not understood raises Unreadable, never becomes 0."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any, Optional

from gpuwatch.model.units import GIB, KIB, MIB
from gpuwatch.wire.csv_in.rows import Unreadable
from gpuwatch.wire.csv_in.text import shown

MAX_CELL = 80
"""Characters of the longest cell that may hold a number: ``[Requested functionality has been deprecated]`` is one."""
MAX_NAME = 120
LIMIT = 2.0**63
_UNITS = {
    "%": 1.0, "w": 1.0, "mw": 0.001, "mhz": 1.0, "ghz": 1000.0, "c": 1.0, "b": 1.0, "kib": KIB, "mib": MIB, "gib": GIB, "kb": KIB, "mb": MIB,
    "s": 1.0, "ms": 0.001, "us": 1e-6,
}  # fmt: skip
"""``MB`` is what the old programs call MiB."""
_ABSENT = frozenset(("", "-", "--", "n/a", "na", "none", "null", "nan", "err!", "unknown error", "not supported", "unknown"))
_NO_NAME = ("", "-", "N/A", "n/a")
_QUANTITY = re.compile(r"(-?[0-9]{1,25}(?:\.[0-9]{1,25})?(?:e[-+]?[0-9]{1,3})?)\s*([a-z%]{0,4})", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def is_absent(text: str) -> bool:
    """The cell says that there is no value: empty, ``N/A``, or anything in brackets such as ``[Not Supported]`` or ``[Unknown Error]``."""
    return text.lower() in _ABSENT or (text[:1] == "[" and text[-1:] == "]")


def quantity(text: str, factor: float = 1.0) -> Optional[float]:
    """The number of a cell in bytes, percent, watts, MHz or degrees; None = not reported. Raises Unreadable.

    ``factor``: what one is worth where the cell names no unit, as with ``nounits``.
    """
    if len(text) > MAX_CELL:
        raise Unreadable(f"{shown(text)}... is not a number")
    return _quantity(text, factor)


@lru_cache(maxsize=16384)
def _quantity(text: str, factor: float) -> Optional[float]:
    if is_absent(text):
        return None
    match = _QUANTITY.fullmatch(text.lower())
    unit = match.group(2) if match else ""
    if match is None or (unit and unit not in _UNITS):
        raise Unreadable(f"{shown(text)} is not a number")
    value = float(match.group(1)) * (_UNITS[unit] if unit else factor)
    if not math.isfinite(value) or abs(value) >= LIMIT:
        raise Unreadable(f"{shown(text)} is out of range")
    return value


def number(value: Any, factor: float = 1.0) -> Optional[float]:
    """The same of a value that is not always text, as in JSON and databases."""
    if value is None:
        return None
    if isinstance(value, str):
        return quantity(value.strip(), factor)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -LIMIT < value < LIMIT:
        raise Unreadable(f"{shown(str(value)[:40]) if isinstance(value, float) else type(value).__name__} is not a number")
    return value * factor


def whole(value: Any) -> Optional[int]:
    """A whole number of zero or more, such as a pid or an index; None = not reported. Raises Unreadable."""
    found = number(value)
    if found is None:
        return None
    if found < 0 or found != int(found):
        raise Unreadable(f"{shown(str(value))} is not a whole number")
    return int(found)


def metric(text: str, name: str, factor: float = 1.0) -> Optional[float]:
    """``quantity`` of a field of ours, within what it can be. Raises Unreadable."""
    if len(text) > MAX_CELL:
        raise Unreadable(f"{shown(text)}... is not a number")
    return _metric(text, name, factor)


@lru_cache(maxsize=16384)
def _metric(text: str, name: str, factor: float) -> Optional[float]:
    return fitting(name, _quantity(text, factor))


def fitting(name: str, value: Optional[float]) -> Optional[float]:
    """``value``, if a field of ours called ``name`` can have it. Raises Unreadable."""
    if value is None:
        return None
    if value < 0 and not name.endswith("_celsius"):
        raise Unreadable(f"{value:g} is less than 0")
    if value > 100 and name.endswith("_percent") and name != "fan_percent":
        raise Unreadable(f"{value:g} % is more than 100")
    return value


@lru_cache(maxsize=4096)
def name_of(text: str) -> Optional[str]:
    """A name as it may be shown and stored: cut, control characters gone; None where there is none. Somebody may be called ``none``."""
    found = _CONTROL.sub(" ", text[:MAX_NAME]).strip()
    return None if found in _NO_NAME or (found[:1] == "[" and found[-1:] == "]") else found
