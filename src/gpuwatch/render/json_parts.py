"""How a reading becomes JSON: its numbers are taken out, its facts become a text with a mark for each number. Pure.

Facts rarely change, so such a text, as a template, serves many polls; filling it in costs a fraction of writing everything anew.
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

_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False)

NUMBER = "\0"
"""Stands for a number. JSON never has this letter: in its texts it is written as an escape."""

SLOW = ("health", "identity")
"""Groups of numbers that are read so rarely that they count as facts."""

Numbers = list[Any]
Facts = tuple[Any, ...]


class Part(Protocol):
    """A field, or a reading, that holds numbers and facts."""

    def apart(self, value: Any, numbers: Numbers) -> Any:
        """Append the numbers of ``value``, in the order of the JSON; return what else there is, to be compared."""

    def marked(self, facts: Any) -> str:
        """JSON with NUMBER in place of each number, made from what ``apart`` returned."""


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
        self._form = "{%s}" % ",".join([f'"{name}":{"%s" if numbers.get(name, True) else NUMBER}' for name in names])  # noqa: UP031

    def apart(self, value: Any, numbers: Numbers) -> Facts:
        """See ``Part``."""
        numbers += self._numbers_of(value)
        if not self._nested:
            return self._facts_of(value)
        return (self._facts_of(value), *[part.apart(getattr(value, name), numbers) for name, part in self._nested])

    def marked(self, facts: Facts) -> str:
        """See ``Part``."""
        own, *inner = facts if self._nested else (facts,)
        texts = [write(value) for write, value in zip(self._writers, own)]
        texts += [part.marked(value) for (_, part), value in zip(self._nested, inner)]
        return self._form % tuple(texts)

    def text(self, value: Any) -> str:
        """The JSON of one instance."""
        numbers: Numbers = []
        facts = self.apart(value, numbers)
        return template(self.marked(facts)) % tuple(written(numbers))


class Many:
    """A tuple of readings."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def apart(self, value: Iterable[Any], numbers: Numbers) -> Facts:
        """See ``Part``."""
        return tuple([self._reading.apart(one, numbers) for one in value])

    def marked(self, facts: Facts) -> str:
        """See ``Part``."""
        return f"[{','.join(map(self._reading.marked, facts))}]"


class Column:
    """A tuple of numbers."""

    def apart(self, value: Sequence[Any], numbers: Numbers) -> int:
        """See ``Part``."""
        numbers += value
        return len(value)

    def marked(self, facts: int) -> str:
        """See ``Part``."""
        return f"[{','.join([NUMBER] * facts)}]"


def _values_of(names: Sequence[str]) -> Callable[[Any], Facts]:
    """The values of these attributes, always as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda instance: tuple([getattr(instance, name) for name in names])


def template(marked: str) -> str:
    """A format for the numbers of ``written``."""
    return marked.replace("%", "%%").replace(NUMBER, "%s")


def written(numbers: Iterable[Any]) -> list[Any]:
    """Numbers as ``%s`` writes them into JSON: null for None and for what JSON does not have."""
    return [value if type(value) is int else _number(value) for value in numbers]


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
