"""Making readings fast. A frozen dataclass of 66 fields sets each through ``object.__setattr__``, which costs more than asking the driver."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Mapping, Type, TypeVar

Reading = TypeVar("Reading")


def defaults(made: Type[Any]) -> Dict[str, Any]:
    """Every field of a reading's class with its default: what ``build`` starts from."""
    return {field.name: getattr(made(), field.name) for field in dataclasses.fields(made)}


def build(made: Type[Reading], values: Mapping[str, Any], /, **more: Any) -> Reading:
    """A reading of all fields: ``values`` (made from ``defaults``, so that none is missing) and what changed. Equal to what its class makes."""
    reading = object.__new__(made)
    reading.__dict__.update(values, **more)
    return reading
