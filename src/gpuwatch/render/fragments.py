"""A small cache of rendered parts: one text per key and version. Never decides what is fresh: the caller's version does."""

from __future__ import annotations

from typing import Callable, Dict, Hashable, Tuple, TypeVar

Part = TypeVar("Part")

MOST_BYTES = 64 * 1024**2
"""Readers choose widths and colours, and each choice has its own parts."""


class Fragments:
    """Rendered parts by key. Safe for several threads: at worst a part is made twice."""

    def __init__(self, most: int = 100_000, most_bytes: int = MOST_BYTES) -> None:
        self._parts: Dict[Hashable, Tuple[object, object]] = {}
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        """About: threads that meet may count a part twice; forgetting counts anew."""

    def get(self, key: Hashable, version: object, make: Callable[[], Part]) -> Part:
        """The part of ``key`` as made for ``version``; ``make`` is called when there is none or it is of another version."""
        kept = self._parts.get(key)
        if kept is not None and kept[0] == version:
            return kept[1]  # type: ignore[return-value]
        part = make()
        if self._bytes + _size(part) > self._most_bytes or (kept is None and len(self._parts) >= self._most):
            self._forget_oldest_half()
            kept = self._parts.get(key)
        self._bytes += _size(part) - (_size(kept[1]) if kept is not None else 0)
        self._parts[key] = (version, part)
        return part

    def __len__(self) -> int:
        return len(self._parts)

    def _forget_oldest_half(self) -> None:
        for key in list(self._parts)[: len(self._parts) // 2 + 1]:
            self._parts.pop(key, None)
        self._bytes = sum(_size(part) for _, part in list(self._parts.values()))


def _size(part: object) -> int:
    """Bytes of memory, about: of a text, or of what says so itself (``size``)."""
    if isinstance(part, (str, bytes)):
        return len(part)
    size = getattr(part, "size", None)
    return size if isinstance(size, int) else 500
