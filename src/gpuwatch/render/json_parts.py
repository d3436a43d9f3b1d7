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
from gpuwatch.render.gaps import MARK, Gaps

_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False)


class Part(Protocol):
    """A field, or a reading, that holds numbers and facts."""

    def marked(self, value: Any, gaps: Gaps) -> str:
        """The JSON of ``value`` with a mark in place of each number, which is left to ``gaps`` as ``number``'s."""


class Reading:
    """The JSON of a dataclass, without the fields in ``skip``: facts, then numbers, then ``nested`` fields.

    ``written``: how facts that are not plain are written.
    """

    def __init__(
        self, kind: type, *, skip: Sequence[str] = (), written: Mapping[str, Callable[[Any], str]] | None = None, **nested: Part
    ) -> None:
        numbers = [name for name, what, _, _ in describe(kind) if what in ("gauge", "counter")]
        special = dict(written or {})
        plain_facts = [field.name for field in dataclasses.fields(kind) if field.name not in (*skip, *numbers, *nested, *special)]
        self._facts_of = _values_of([*plain_facts, *special])
        self._numbers_of = _values_of(numbers)
        self._writers = (plain,) * len(plain_facts) + tuple(special.values())
        self._nested = tuple(nested.items())
        places = dict.fromkeys(plain_facts, "%s") | dict.fromkeys(numbers, MARK) | dict.fromkeys([*special, *nested], "%s")
        self._form = "{%s}" % ",".join([f'"{name}":{place}' for name, place in places.items()])  # noqa: UP031

    def marked(self, value: Any, gaps: Gaps) -> str:
        """See ``Part``."""
        gaps.leave_each(number, self._numbers_of(value))
        texts = [write(fact) for write, fact in zip(self._writers, self._facts_of(value))]
        texts += [part.marked(getattr(value, name), gaps) for name, part in self._nested]
        return self._form % tuple(texts)

    def text(self, value: Any) -> str:
        """The JSON of one instance."""
        gaps = Gaps()
        return gaps.filled(self.marked(value, gaps))


class Many:
    """A tuple of readings."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def marked(self, value: Iterable[Any], gaps: Gaps) -> str:
        """See ``Part``."""
        return f"[{','.join([self._reading.marked(one, gaps) for one in value])}]"


class Column:
    """A tuple of numbers."""

    def marked(self, value: Sequence[Any], gaps: Gaps) -> str:
        """See ``Part``."""
        gaps.leave_each(number, value)
        return f"[{','.join([MARK] * len(value))}]"


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


def plain(value: Any) -> str:
    """A fact as JSON: by hand what is frequent, since a call of the encoder costs more than all of it."""
    kind = type(value)
    if kind is str:
        return quote(value)
    if value is None:
        return "null"
    if kind is int:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    return _number(value) if kind is float else encoded(value)


def quote(text: str) -> str:
    """A JSON string. What could steer the terminal of somebody who reads it with curl is written as an escape."""
    return _harmless(json.encoder.encode_basestring(text))


def _harmless(text: str) -> str:
    """JSON without letters that steer a terminal: in JSON they can stand in strings alone, so escapes mean the same."""
    if text.isascii() and "\x7f" not in text:
        return text
    return words.HARMFUL.sub(lambda found: json.encoder.encode_basestring_ascii(found.group())[1:-1].replace("\x7f", "\\u007f"), text)


def mapping(values: Mapping[str, str]) -> str:
    """A map of texts as JSON."""
    return "{%s}" % ",".join([f"{quote(key)}:{quote(value)}" for key, value in values.items()])  # noqa: UP031


def encoded(value: Any) -> str:
    """Any JSON-able value. Numbers that JSON does not have become null."""
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
