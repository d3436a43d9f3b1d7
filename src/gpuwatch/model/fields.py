"""How a field of a reading says what it is: its help, its kind and how old it may grow. Never reads anything itself.

``fact``: text, identity, or anything that changes rarely; travels once, in a snapshot's *shape*.
``gauge`` and ``counter``: numbers (or None = not reported) that change from sample to sample; travel in the flat list of *values*.
``nested``: a reading, or a tuple of readings, or a tuple of numbers, inside a reading.

Groups say how often a field is read: ``live`` at each sample, ``status``, ``health`` and ``identity`` at most as old as the settings
``status_age``, ``health_age`` and ``identity_age`` say.
"""

from __future__ import annotations

import dataclasses
from typing import Any

GROUPS = ("live", "status", "health", "identity")


def fact(help: str, default: Any = None, *, group: str = "identity") -> Any:
    """A dataclass field that is text or identity; ``help`` is one line for people."""
    return _field("fact", help, default, group)


def gauge(help: str, default: Any = None, *, group: str = "live") -> Any:
    """A dataclass field that is a number which goes up and down, or None for not reported."""
    return _field("gauge", help, default, group)


def counter(help: str, default: Any = None, *, group: str = "live") -> Any:
    """A dataclass field that is a number which only grows (until a restart), or None for not reported."""
    return _field("counter", help, default, group)


def nested(help: str, default: Any = (), *, group: str = "live") -> Any:
    """A dataclass field that holds further readings, or a tuple of numbers."""
    return _field("nested", help, default, group)


def _field(kind: str, help: str, default: Any, group: str) -> Any:
    metadata = {"kind": kind, "help": help, "group": group}
    if isinstance(default, (dict, list)):
        return dataclasses.field(default_factory=type(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def describe(reading: type) -> tuple[tuple[str, str, str, str], ...]:
    """(name, kind, help, group) of every field of a reading's class, in order."""
    return tuple(
        (f.name, f.metadata["kind"], f.metadata["help"], f.metadata["group"])
        for f in dataclasses.fields(reading)
        if "kind" in f.metadata
    )
