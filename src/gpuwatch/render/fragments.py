"""A small cache of rendered parts: one text per key and version. Never decides what is fresh: the caller's version does."""

from __future__ import annotations

from typing import Callable, Dict, Hashable, Tuple, TypeVar

Part = TypeVar("Part")


class Fragments:
    """Rendered parts by key. Safe for several threads: at worst a part is made twice."""

    def __init__(self, most: int = 20000) -> None:
        self._parts: Dict[Hashable, Tuple[object, object]] = {}
        self._most = most

    def get(self, key: Hashable, version: object, make: Callable[[], Part]) -> Part:
        """The part of ``key`` as made for ``version``; ``make`` is called when there is none or it is of another version."""
        kept = self._parts.get(key)
        if kept is not None and kept[0] == version:
            return kept[1]  # type: ignore[return-value]
        part = make()
        if kept is None and len(self._parts) >= self._most:
            self._forget_oldest_half()
        self._parts[key] = (version, part)
        return part

    def __len__(self) -> int:
        return len(self._parts)

    def _forget_oldest_half(self) -> None:
        for key in list(self._parts)[: self._most // 2 + 1]:
            self._parts.pop(key, None)
