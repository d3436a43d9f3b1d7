"""Sizes of bytes and spans of time as numbers, and how people write them in. Text for people is made in ``render``."""

from __future__ import annotations

import re

from gpuwatch.model.errors import UsageError

KIB = 1024
MIB = 1024**2
GIB = 1024**3

_BYTES = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": KIB, "m": MIB, "g": GIB, "t": 1024**4, "kib": KIB, "mib": MIB, "gib": GIB, "tib": 1024**4,
}  # fmt: skip
_SPANS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}


def parse_bytes(text: str) -> int:
    """Bytes from ``20GiB``, ``512 MB``, ``1g`` (binary for k, m, g, t alone) or a bare number. Raises UsageError."""
    return round(_parse(text, _BYTES, "a size such as 20GiB"))


def parse_seconds(text: str) -> float:
    """Seconds from ``0.5``, ``30s``, ``5min``, ``2h``, ``7d``, ``4w``, ``1y``. Raises UsageError."""
    return _parse(text, _SPANS, "a span such as 30s, 5min, 2h or 7d")


def _parse(text: str, units: dict[str, float] | dict[str, int], wanted: str) -> float:
    match = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]{0,3})\s*", str(text), re.ASCII)
    factor = units.get(match.group(2).lower()) if match else None
    if match is None or factor is None:
        raise UsageError(f"{str(text)[:40]!r} is not {wanted}.")
    return float(match.group(1)) * factor
