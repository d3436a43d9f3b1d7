"""The layout of the snapshot's dataclasses, computed once from their fields: which are facts, which are values, what nests in what.

Facts are JSON-able (text, numbers, bool, lists of pairs, text maps, ContainerRef); each has a reader that checks hostile input.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from operator import attrgetter, itemgetter
from typing import Any, Callable, Mapping

from gpuwatch.model import snapshot as model
from gpuwatch.model.errors import WireError

MAX_TEXT = 2000
MAX_ITEMS = 5000
"""Most readings in one snapshot, processes included. A node may bring a new shape with each poll, and parsing it keeps the others waiting."""
MAX_NAME = 100
"""Longest name of a field."""
MAX_OF: Mapping[str, int] = {"gpus": 128, "mig": 64, "processes": 4096, "xids": 64}
"""Most readings in one list: far more than any machine has. Views look at each process for each slice."""
MAX_DEPTH = 16
"""Deepest nesting of a shape; of this version it has five levels."""

Reader = Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError("is not a text of at most 2000 characters")
    return value.encode("utf-8", "replace").decode() if not value.isascii() else value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is not true or false")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise ValueError("is not a whole number")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or abs(value) >= 2**63:
        raise ValueError("is not a number")
    return value


def _text_map(value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict) or len(value) > 500:
        raise ValueError("is not a map of texts")
    return {_text(key): _text(item) for key, item in value.items()}


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list) or len(value) > 500:
        raise ValueError("is not a list of pairs")
    return tuple((_text(first), _text(second)) for first, second in value)


def _container(value: Any) -> model.ContainerRef:
    if not isinstance(value, dict):
        raise ValueError("is not a container")
    optional = {key: _text(value[key]) for key in ("name", "pod") if value.get(key) is not None}
    return model.ContainerRef(runtime=_text(value.get("runtime", "")), id=_text(value.get("id", "")), **optional)


_READERS: Mapping[str, Reader] = {
    "str": _text,
    "bool": _flag,
    "int": _integer,
    "float": _number,
    "Mapping[str, str]": _text_map,
    "Tuple[Tuple[str, str], ...]": _pairs,
    "ContainerRef": _container,
}


def read_fact(owner: str, name: str, annotation: str, value: Any) -> Any:
    """A fact from a stranger, checked against its field's annotation. Raises WireError naming field and value."""
    optional = annotation.endswith(" | None")
    if value is None and optional:
        return None
    try:
        return _READERS[annotation[: -len(" | None")] if optional else annotation](value)
    except (ValueError, TypeError) as error:
        raise WireError(f"{owner}.{name} = {str(value)[:60]!r} {error}.") from None


def write_fact(value: Any) -> Any:
    """A fact as JSON-able data."""
    if isinstance(value, model.ContainerRef):
        return {key: item for key, item in vars(value).items() if item is not None}
    if isinstance(value, tuple):
        return [list(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


@dataclasses.dataclass(frozen=True)
class Nested:
    """A field that holds one reading, many readings, or many numbers."""

    name: str
    kind: str
    layout: Layout | None
    """None for numbers."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """One dataclass of readings."""

    cls: type
    facts: tuple[tuple[str, str, Any], ...]
    """(name, annotation, default) in order."""
    values: tuple[str, ...]
    nested: tuple[Nested, ...]
    get_facts: Callable[[Any], tuple[Any, ...]]
    get_values: Callable[[Any], tuple[Any, ...]]
    get_nested: Callable[[Any], tuple[Any, ...]]
    pick: tuple[Callable[[Any], tuple[Any, ...]], ...]
    """The same three (values, facts, nested) from the dict of a reading that is exactly of this class: half the time."""

    @property
    def name(self) -> str:
        """Name of the dataclass."""
        return self.cls.__name__


@functools.lru_cache(maxsize=None)
def layout_of(cls: type) -> Layout:
    """The layout of a dataclass of readings."""
    kinds: dict[str, list[Any]] = {"fact": [], "value": [], "nested": []}
    for field in dataclasses.fields(cls):
        kind = field.metadata["kind"]
        if kind == "fact":
            kinds["fact"].append((field.name, str(field.type), _default(field)))
        elif kind == "nested":
            kinds["nested"].append(_nested(field))
        else:
            kinds["value"].append(field.name)
    facts, values, nests = tuple(kinds["fact"]), tuple(kinds["value"]), tuple(kinds["nested"])
    names = values, [name for name, _, _ in facts], [nested.name for nested in nests]
    get_values, get_facts, get_nested = (_getter(of_kind, attrgetter) for of_kind in names)
    pick = tuple(_getter(of_kind, itemgetter) for of_kind in names)
    return Layout(cls, facts, values, nests, get_facts, get_values, get_nested, pick)


def _default(field: dataclasses.Field[Any]) -> Any:
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def _nested(field: dataclasses.Field[Any]) -> Nested:
    many = re.fullmatch(r"Tuple\[(\w+), \.\.\.\]", str(field.type))
    if many is None:
        return Nested(field.name, "one", layout_of(getattr(model, str(field.type))))
    if many.group(1) == "Number":
        return Nested(field.name, "numbers", None)
    return Nested(field.name, "many", layout_of(getattr(model, many.group(1))))


def _getter(names: Any, make: Callable[..., Any]) -> Callable[[Any], tuple[Any, ...]]:
    """``make`` (attrgetter or itemgetter) for these names, giving a tuple however many there are."""
    if not names:
        return lambda _: ()
    getter: Callable[[Any], Any] = make(*names)
    return getter if len(names) > 1 else lambda item: (getter(item),)


SNAPSHOT = layout_of(model.Snapshot)
