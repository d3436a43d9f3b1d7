"""How a reading becomes JSON: its facts are written, each of its numbers is a gap (``render.gaps``). Pure.

What a dataclass looks like is worked out once, from its fields.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Callable, Protocol

from gpuwatch.model.fields import describe
from gpuwatch.render import words
from gpuwatch.render.gaps import UNTOLD, Gaps, with_marks

_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False)


class Part(Protocol):
    """A field, or a reading, that holds numbers and facts."""

    def document(self, value: Any, gaps: Gaps) -> Any:
        """``value`` as JSON-able data with ``UNTOLD`` in place of each number, which is left to ``gaps`` as ``number``'s."""


class Reading:
    """The JSON of a dataclass, without the fields in ``skip``: facts, then numbers, then ``nested`` fields."""

    def __init__(self, kind: type, *, skip: Sequence[str] = (), **nested: Part) -> None:
        numbers = [name for name, what, _, _ in describe(kind) if what in ("gauge", "counter")]
        facts = [field.name for field in dataclasses.fields(kind) if field.name not in (*skip, *numbers, *nested)]
        self._facts_of = _values_of(facts)
        self._numbers_of = _values_of(numbers)
        self._names = (*facts, *numbers)
        self._untold = (UNTOLD,) * len(numbers)
        self._nested = tuple(nested.items())

    def document(self, value: Any, gaps: Gaps) -> dict[str, Any]:
        """See ``Part``."""
        gaps.leave_each(number, self._numbers_of(value))
        document = dict(zip(self._names, self._facts_of(value) + self._untold))
        for name, part in self._nested:
            document[name] = part.document(getattr(value, name), gaps)
        return document

    def text(self, value: Any) -> str:
        """The JSON of one instance."""
        gaps = Gaps()
        return gaps.filled(marked(self.document(value, gaps)))


class Many:
    """A tuple of readings."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def document(self, value: Iterable[Any], gaps: Gaps) -> list[Any]:
        """See ``Part``."""
        return [self._reading.document(one, gaps) for one in value]


class Maybe:
    """A reading, or None."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def document(self, value: Any, gaps: Gaps) -> Any:
        """See ``Part``."""
        return None if value is None else self._reading.document(value, gaps)


class Texts:
    """A map of texts, which stands behind the numbers."""

    def document(self, value: Mapping[str, str], gaps: Gaps) -> dict[str, str]:
        """See ``Part``."""
        return dict(value)


class Column:
    """A tuple of numbers."""

    def document(self, value: Sequence[Any], gaps: Gaps) -> list[str]:
        """See ``Part``."""
        gaps.leave_each(number, value)
        return [UNTOLD] * len(value)


def _values_of(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """The values of these attributes, always as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda instance: tuple([getattr(instance, name) for name in names])


def number(value: float | None) -> str:
    """A number as JSON: null for None and for what JSON does not have."""
    return str(value) if type(value) is int else _number(value)


@lru_cache(maxsize=8192)
def _number(value: float | None) -> str:
    """Kept, since readings are rounded and come again and again."""
    return repr(value) if value is not None and math.isfinite(value) else "null"


def _harmless(text: str) -> str:
    """JSON without letters that steer a terminal: in JSON they can stand in strings alone, so escapes mean the same."""
    if text.isascii() and "\x7f" not in text:
        return text
    return words.HARMFUL.sub(lambda found: json.encoder.encode_basestring_ascii(found.group())[1:-1].replace("\x7f", "\\u007f"), text)


def marked(document: Any) -> str:
    """A document with ``UNTOLD`` in it as JSON with marks."""
    return with_marks(encoded(document))


def encoded(value: Any) -> str:
    """Any JSON-able value. Numbers that JSON does not have become null; what could steer the terminal of somebody who reads it with curl an escape."""
    try:
        return _harmless(_COMPACT.encode(value))
    except ValueError:
        return _harmless(_COMPACT.encode(finite(value)))


def finite(value: Any) -> Any:
    """The value with None for each number that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    return [finite(part) for part in value] if isinstance(value, (list, tuple)) else value
