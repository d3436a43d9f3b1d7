"""A sample told by what changed since one that the hub has: places of values, and their new texts. Pure; knows no HTTP.

A node names each sample that it gives; a hub says which one it has, behind the id of the shape (``known_as``). Where the node still has that one too,
the values line of its answer becomes two lines: the places that changed, and the texts there now. Where it has not, the whole line travels once.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections import OrderedDict
from itertools import compress
from operator import ne
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from gpuwatch.model.errors import WireError
from gpuwatch.wire.frame import loads
from gpuwatch.wire.numbers import Number, Numbers, Told, texts_of

MOST_GIVEN = 8
"""Samples that a node remembers, for the hubs that ask it. Each takes some 30 kB."""
_PLUS = "+"
_NAME = re.compile(r"[A-Za-z0-9.]{1,24}")
_IN_PLACES = b"0123456789, \t\r"


def known_as(shape_id: str, name: str) -> str:
    """What a hub says that it has: the shape, and the sample of that name (empty: none)."""
    return f"{shape_id}{_PLUS}{name}" if name else shape_id


def shape_in(known: str) -> str:
    """The shape that a hub says it has."""
    return known.partition(_PLUS)[0]


class _Sample(NamedTuple):
    name: str
    shape_id: str
    line: bytes
    texts: Sequence[bytes]


class Given:
    """The samples that were given last. For all threads of a node's server."""

    def __init__(self, most: int = MOST_GIVEN) -> None:
        self._most = most
        self._prefix = secrets.token_hex(4)
        self._count = 0
        self._samples: OrderedDict[str, _Sample] = OrderedDict()
        self._lock = threading.Lock()

    def answer(self, shape_id: str, line: bytes, known: str) -> Tuple[Dict[str, str], bytes]:
        """(what the header says of the sample, the lines behind the header), for a hub that has ``known``.

        ``line``: the values, a JSON list without blanks; the same object for the same sample.
        """
        with self._lock:
            sample = self._named(shape_id, line)
            base = self._samples.get(known.partition(_PLUS)[2])
        told = _difference(base, sample)
        if base is None or told is None:
            return {"sample": sample.name}, line
        return {"sample": sample.name, "base": base.name}, told

    def _named(self, shape_id: str, line: bytes) -> _Sample:
        last = next(reversed(self._samples.values()), None)
        if last is not None and last.line is line and last.shape_id == shape_id:
            return last
        self._count += 1
        sample = _Sample(f"{self._prefix}.{self._count}", shape_id, line, line[1:-1].split(b","))
        self._samples[sample.name] = sample
        if len(self._samples) > self._most:
            self._samples.popitem(last=False)
        return sample


def _difference(base: Optional[_Sample], sample: _Sample) -> Optional[bytes]:
    """The two lines; None where the whole line is no longer, or the two have nothing in common."""
    if base is None or base.shape_id != sample.shape_id or len(base.texts) != len(sample.texts):
        return None
    differs = list(map(ne, base.texts, sample.texts))
    places = ",".join(map(str, compress(range(len(differs)), differs)))
    told = b"[%s]\n[%s]" % (places.encode(), b",".join(compress(sample.texts, differs)))
    return told if len(told) < len(sample.line) else None


def told_since(before: bytes, line: bytes) -> Optional[bytes]:
    """What changed from one values line to another of the same shape, as two lines; None where the whole line is no longer."""
    return _difference(_Sample("", "", before, before[1:-1].split(b",")), _Sample("", "", line, line[1:-1].split(b",")))


class Read(NamedTuple):
    """A sample as a hub has it. Its lists are shared: never changed."""

    name: str
    """Empty: the node gave it none, so that no answer can build on it."""
    shape_id: str
    texts: List[str]
    """The values as JSON writes them, by place."""
    values: List[Number]
    varying: Set[int]
    """The places that changed in it or in any sample between it and the whole one that all of them build on: the same set for all of these."""


class Reader:
    """Reads the values of nodes' answers. For one thread."""

    def __init__(self) -> None:
        self._numbers, self._told = Numbers(), Told()

    def whole(self, header: Dict[str, object], shape_id: str, line: bytes) -> Read:
        """A whole line. Raises WireError."""
        texts = texts_of(line)
        values = self._numbers.of(texts)
        return Read(_name(header.get("sample")), shape_id, self._numbers.same(texts), values, set())

    def changed(self, header: Dict[str, object], base: Read, lines: bytes) -> Read:
        """What changed since ``base``. Raises WireError."""
        first, _, second = lines.partition(b"\n")
        places, told = _places(first), self._told.of(texts_of(second))
        if len(places) != len(told):
            raise WireError(f"The answer names {len(places)} values that changed and brings {len(told)}.")
        texts, values = base.texts.copy(), base.values.copy()
        try:
            for place, (text, value) in zip(places, told):
                texts[place] = text
                values[place] = value
        except IndexError:
            raise WireError(f"The answer changes the value {max(places)} of {len(values)}.") from None
        base.varying.update(places)
        return Read(_name(header.get("sample")), base.shape_id, texts, values, base.varying)


def _name(name: object) -> str:
    return name if isinstance(name, str) and _NAME.fullmatch(name) else ""


def _places(line: bytes) -> List[int]:
    """Whole numbers of a JSON list, none of them negative. Raises WireError."""
    if line.translate(None, _IN_PLACES) != b"[]":
        raise WireError(f"The answer has a place that is no whole number: {line[:40]!r}.")
    places: List[int] = loads(line)
    return places
