"""A page in Prometheus' text format, read for the few metrics that somebody wants. Pure, and safe against hostile pages.

Every step is linear in the page, which the poller has bounded; what is not wanted costs a look at its first letters. Values that are no
finite number are left out, as are lines that cannot be read; a page with too much of what is wanted is refused, never read halfway.
"""

from __future__ import annotations

import math
import re
from typing import Dict, FrozenSet, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from gpuwatch.model.errors import WireError
from gpuwatch.wire.foreign import LARGEST, Request

MOST_SERIES = 20000
MOST_LABELS = 40
MOST_LINE = 8192
ACCEPT = "text/plain;version=0.0.4"

_MADE_UP_NETWORK = re.compile(r"lo|veth.*|docker\d+|br-[0-9a-f]{12}|virbr\d+(-nic)?|cali.*|flannel.*|cni\d+|tunl0|sit0|ip6tnl0|ifb\d+|dummy\d+")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"([^"\\]*(?:\\.[^"\\]*)*)"[ \t]*(,?)')
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "\\": "\\", '"': '"'}


class Series(NamedTuple):
    """One line of a page."""

    labels: Mapping[str, str]
    value: float


Page = Dict[str, List[Series]]
"""By name of the metric; names without a line are absent."""


def request() -> Request:
    """How every exporter is asked."""
    return Request("GET", "/metrics", None, {"Accept": ACCEPT})


def parse(body: bytes, wanted: FrozenSet[str]) -> Page:
    """The lines of the ``wanted`` metrics. Raises WireError for a page with too many of them."""
    found: Page = {}
    known: Dict[str, Mapping[str, str]] = {}
    for count, (name, rest) in enumerate(_lines(body, wanted)):
        if count >= MOST_SERIES:
            raise WireError(f"The page has more than {MOST_SERIES} lines of the metrics that are read.", "Next: is it the exporter of one machine?")
        series = _series(rest, known)
        if series is not None:
            found.setdefault(name, []).append(series)
    return found


def has_prefix(body: bytes, prefix: str) -> bool:
    """The page has a metric whose name begins so."""
    start = prefix.encode()
    return body.startswith(start) or b"\n" + start in body


def is_network(name: str) -> bool:
    """An interface that leads out of the machine, not one of containers and the kernel's own."""
    return bool(name) and _MADE_UP_NETWORK.fullmatch(name) is None


def _lines(body: bytes, wanted: FrozenSet[str]) -> Iterator[Tuple[str, str]]:
    """(name, rest of the line) of what is wanted."""
    first = {name[:4] for name in wanted}
    for line in body.decode("utf-8", "replace").split("\n"):
        if line[:4] not in first or len(line) > MOST_LINE:
            continue
        match = _NAME.match(line)
        if match is not None and match.group() in wanted:
            yield match.group(), line[match.end() :]


def _series(rest: str, known: Dict[str, Mapping[str, str]]) -> Optional[Series]:
    """``{label="text",...} value [time]``; None for what is none, and for a value that is no finite number.

    ``known``: labels by their text, since a GPU's stand on each of its lines.
    """
    labels: Mapping[str, str] = {}
    at = len(rest) - len(rest.lstrip(" \t"))
    if rest[at : at + 1] == "{":
        written = rest[: rest.rfind("}") + 1]
        if written in known:
            labels, at = known[written], len(written)
        else:
            read: Dict[str, str] = {}
            end = _read_labels(rest, at + 1, read)
            if end is None:
                return None
            if end == len(written):
                known[written] = read
            labels, at = read, end
    words = rest[at:].split(None, 2)
    value = _value(words[0]) if words else None
    return None if value is None else Series(labels, value)


def _read_labels(text: str, at: int, labels: Dict[str, str]) -> Optional[int]:
    """Fill ``labels``; where the line goes on behind the closing brace, None where there is none."""
    for _ in range(MOST_LABELS + 1):
        closing = len(text) - len(text[at:].lstrip(" \t"))
        if text[closing : closing + 1] == "}":
            return closing + 1
        match = _LABEL.match(text, at)
        if match is None:
            return None
        written = match.group(2)
        labels[match.group(1)] = _ESCAPED.sub(lambda one: _ESCAPES.get(one.group(1), one.group()), written) if "\\" in written else written
        at = match.end()
        if not match.group(3) and text[at : at + 1] != "}":
            return None
    return None


def _value(word: str) -> Optional[float]:
    if len(word) > 40 or "_" in word:
        return None
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < LARGEST else None
