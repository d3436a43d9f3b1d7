"""Readings that are tuples: facts shared by all samples of a shape, and a slice of its values. Made by ``flat``, seen as model dataclasses.

A hub of 1,000 nodes makes 30,000 readings for one look at the cluster. Filling 55 attributes of each costs 0.12 ms a host; joining two
tuples costs a tenth of it. Each class here is a subclass of a model dataclass whose attributes are places in the tuple.
"""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from functools import lru_cache
from typing import Any, Dict, Sequence, Tuple

from gpuwatch.wire.layout import layout_of

MOST_PLACES = 600
"""Facts, values and nested readings of one reading; a stranger may name 500 values."""


@lru_cache(maxsize=256)
def reading_class(cls: type, names: Tuple[str, ...]) -> Any:
    """A subclass of the dataclass ``cls`` over (its facts in order, values called ``names``, its nested readings); at most MOST_PLACES.

    Names of another version that this one does not know have a place but no attribute; values that are not named are the class's default.
    """
    layout = layout_of(cls)
    facts, nested = [name for name, _, _ in layout.facts], [one.name for one in layout.nested]
    numbers = [name if name in layout.values else "" for name in names]  # a stranger may call a number by the name of a fact
    accessors = _accessors()
    members: Dict[str, Any] = {name: accessors[place] for place, name in enumerate((*facts, *numbers, *nested)) if name}
    members.update(__slots__=(), __eq__=_equal, __ne__=_unequal, __hash__=cls.__hash__, __new__=_plain(cls), __doc__=cls.__doc__)
    return type(cls.__name__, (cls, tuple), members)


@lru_cache(maxsize=None)
def _accessors() -> Sequence[Any]:
    """Descriptors of the places of a tuple that read at C speed: those that the standard library gives a named tuple."""
    make: Any = namedtuple
    names = [f"f{place}" for place in range(MOST_PLACES)]
    named = make("Places", names)
    return [vars(named)[name] for name in names]


def _plain(parent: Any) -> Any:
    """``dataclasses.replace`` calls the class with field names: what it makes is the plain dataclass."""
    return lambda _, *arguments, **fields: parent(*arguments, **fields)


def _fields(reading: Any) -> Sequence[Any]:
    return [getattr(reading, field.name) for field in dataclasses.fields(reading)]


def _equal(self: Any, other: Any) -> Any:
    if self is other:
        return True
    parent = type(self).__mro__[1]
    return _fields(self) == _fields(other) if isinstance(other, parent) else NotImplemented


def _unequal(self: Any, other: Any) -> Any:
    equal = _equal(self, other)
    return equal if equal is NotImplemented else not equal
