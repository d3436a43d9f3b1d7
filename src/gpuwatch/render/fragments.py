"""A small cache of rendered parts: one text per key and version. Never decides what is fresh: the caller's version does."""

from __future__ import annotations

from typing import Any, Callable, Dict, Hashable, List, TypeVar

Part = TypeVar("Part")

MOST_BYTES = 160 * 1024**2
"""All views of 1,000 hosts take about 100 MB for one audience. Readers choose widths and colours, and each choice has its own parts."""


class Fragments:
    """Rendered parts by key. Safe for several threads: at worst a part is made twice."""

    def __init__(self, most: int = 100_000, most_bytes: int = MOST_BYTES) -> None:
        self._kept: Dict[Hashable, List[Any]] = {}
        """By key: version, part, whether it was asked for again, and its bytes."""
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        """About: threads that meet may count a part twice; forgetting counts anew."""
        self._refused = 0
        """How many parts found no room since some were forgotten."""

    def get(self, key: Hashable, version: object, make: Callable[[], Part]) -> Part:
        """The part of ``key`` as made for ``version``; ``make`` is called when there is none or it is of another version."""
        kept = self._kept.get(key)
        if kept is not None and kept[0] == version:
            kept[2] = True
            return kept[1]  # type: ignore[no-any-return]
        part = make()
        size = _size(part)
        if kept is not None and self._kept.pop(key, None) is not None:
            self._bytes -= kept[3]
        if self._has_room(size):
            self._bytes += size
            self._kept[key] = [version, part, kept is not None, size]
        return part

    def __len__(self) -> int:
        return len(self._kept)

    def _has_room(self, size: int) -> bool:
        """Room is made by forgetting what nobody asked for again; that shows only after a while, for views ask for their parts in turn.

        Whoever forgets the oldest at once forgets, in the middle of a large view, just what comes next, and keeps nothing in the end.
        """
        if self._is_room(size):
            return True
        self._refused += 1
        if self._refused < len(self._kept):
            return False
        self._refused = 0
        self._kept = {key: [*kept[:2], False, kept[3]] for key, kept in list(self._kept.items()) if kept[2]}
        self._bytes = sum(kept[3] for kept in list(self._kept.values()))
        return self._is_room(size)

    def _is_room(self, size: int) -> bool:
        return self._bytes + size <= self._most_bytes and len(self._kept) < self._most


def _size(part: object) -> int:
    """Bytes of memory, about: of a text, or of what says so itself (``size``)."""
    if isinstance(part, (str, bytes)):
        return len(part)
    size = getattr(part, "size", None)
    return size if isinstance(size, int) else 500
