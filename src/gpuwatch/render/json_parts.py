"""How a reading becomes JSON: its numbers are taken out, its facts become a template with a ``%s`` for each number. Pure.

Facts rarely change, so a template serves many polls, and filling it in costs a fraction of writing everything anew.
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

_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False)
_quote = json.encoder.encode_basestring

SLOW = ("health", "identity")
"""Groups of numbers that are read so rarely that they count as facts."""

Numbers = list[Any]
Facts = tuple[Any, ...]


class Part(Protocol):
    """A field, or a reading, that holds numbers and facts."""

    def apart(self, value: Any, numbers: Numbers) -> Any:
        """Append the numbers of ``value``, in the order of the template; return what else there is, to be compared."""

    def template(self, facts: Any) -> str:
        """JSON with ``%s`` in place of each number, made from what ``apart`` returned."""


class Reading:
    """The JSON of a dataclass, without the fields in ``skip``: facts, then numbers, then ``nested`` fields.

    ``written``: how facts that are not plain are written.
    """

    def __init__(
        self, kind: type, *, skip: Sequence[str] = (), written: Mapping[str, Callable[[Any], str]] | None = None, **nested: Part
    ) -> None:
        numbers = {name: group in SLOW for name, what, _, group in describe(kind) if what in ("gauge", "counter")}
        special = dict(written or {})
        plain_facts = [field.name for field in dataclasses.fields(kind) if field.name not in (*skip, *numbers, *nested, *special)]
        plain_facts += [name for name, slow in numbers.items() if slow]
        self._facts_of = _values_of([*plain_facts, *special])
        self._numbers_of = _values_of([name for name, slow in numbers.items() if not slow])
        self._writers = (plain,) * len(plain_facts) + tuple(special.values())
        self._nested = tuple(nested.items())
        names = [name for name in plain_facts if name not in numbers] + [*numbers, *special, *nested]
        marks = [f'"{name}":{"%s" if numbers.get(name, True) else "%%s"}' for name in names]
        self._form = "{%s}" % ",".join(marks)  # noqa: UP031

    def apart(self, value: Any, numbers: Numbers) -> Facts:
        """See ``Part``."""
        numbers += self._numbers_of(value)
        if not self._nested:
            return self._facts_of(value)
        return (self._facts_of(value), *[part.apart(getattr(value, name), numbers) for name, part in self._nested])

    def template(self, facts: Facts) -> str:
        """See ``Part``."""
        own, *inner = facts if self._nested else (facts,)
        texts = [write(value).replace("%", "%%") for write, value in zip(self._writers, own)]
        texts += [part.template(value) for (_, part), value in zip(self._nested, inner)]
        return self._form % tuple(texts)

    def text(self, value: Any) -> str:
        """The JSON of one instance."""
        numbers: Numbers = []
        return filled(self.template(self.apart(value, numbers)), numbers)


class Many:
    """A tuple of readings."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def apart(self, value: Iterable[Any], numbers: Numbers) -> Facts:
        """See ``Part``."""
        return tuple([self._reading.apart(one, numbers) for one in value])

    def template(self, facts: Facts) -> str:
        """See ``Part``."""
        return f"[{','.join(map(self._reading.template, facts))}]"


class Column:
    """A tuple of numbers."""

    def apart(self, value: Sequence[Any], numbers: Numbers) -> int:
        """See ``Part``."""
        numbers += value
        return len(value)

    def template(self, facts: int) -> str:
        """See ``Part``."""
        return f"[{','.join(['%s'] * facts)}]"


def _values_of(names: Sequence[str]) -> Callable[[Any], Facts]:
    """The values of these attributes, always as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda instance: tuple([getattr(instance, name) for name in names])


def filled(template: str, numbers: Sequence[Any]) -> str:
    """The template with its numbers; null for None and for what is no JSON number."""
    return template % tuple(written(numbers))


def written(numbers: Iterable[Any]) -> list[Any]:
    """Numbers as ``%s`` writes them into JSON."""
    return [value if type(value) is int else _number(value) for value in numbers]


@lru_cache(maxsize=8192)
def _number(value: float | None) -> str:
    """Kept, since readings are rounded and come again and again."""
    return repr(value) if value is not None and math.isfinite(value) else "null"


def escaped(text: str) -> str:
    """Text as it must stand in a template."""
    return text.replace("%", "%%")


def plain(value: Any) -> str:
    """A fact as JSON: by hand what is frequent, since a call of the encoder costs more than all of it."""
    if type(value) is str:
        return _quote(value)
    if value is None:
        return "null"
    if type(value) in (int, float):
        return repr(value) if math.isfinite(value) else "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return encoded(value) if value or not isinstance(value, tuple) else "[]"


def mapping(values: Mapping[str, str]) -> str:
    """A map of texts as JSON."""
    return "{%s}" % ",".join([f"{_quote(key)}:{_quote(value)}" for key, value in values.items()])  # noqa: UP031


def encoded(value: Any) -> str:
    """Any JSON-able value. Numbers that JSON does not have become null."""
    try:
        return _COMPACT.encode(value)
    except ValueError:
        return _COMPACT.encode(finite(value))


def finite(value: Any) -> Any:
    """The value with None for each number that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    return [finite(part) for part in value] if isinstance(value, (list, tuple)) else value
