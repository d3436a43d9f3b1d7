"""A JSON list of numbers and nulls as Python numbers, remembering what each text means: the numbers of a fleet come again and again.

Each text is checked when it is first seen, so that a list needs no further look; parsing and checking every list costs three times as much.
Never accepts what JSON does not: no NaN, no leading zeros, nothing nested.
"""

from __future__ import annotations

import re
from typing import Dict, List, Optional, Sequence, Tuple

from gpuwatch.model.errors import WireError
from gpuwatch.wire.frame import loads

LIMIT = 2**63
WIDE = 4000
"""Lists with more values are parsed as usual: a node may make all of them new each time."""
MOST_TEXTS = 50_000
"""Some are never seen again (counters, times): all are forgotten when there are so many."""
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_SPACE = " \t\r\n"
_LONGEST_TEXT = 400
_LONGEST_KEPT = 6
"""Percent, watts, degrees and the like are no longer, and come again and again."""

Number = Optional[float]
_NUMBERS = frozenset((int, float, type(None)))


def texts_of(line: bytes) -> List[str]:
    """What stands between the commas of a JSON list, without blanks, not looked at any further. Raises WireError for what is no list."""
    try:
        text = line.decode("ascii").strip(_SPACE)
    except UnicodeDecodeError:
        raise WireError("The answer is not JSON: its values are not ASCII.") from None
    if text[:1] != "[" or text[-1:] != "]" or len(text) < 2:
        raise WireError("The answer is not JSON: its values are not a list.")
    texts = text[1:-1].split(",")
    if any(map(text.__contains__, _SPACE)):
        texts = [one.strip(_SPACE) for one in texts]
    return texts if len(texts) > 1 or texts[0] else []


class Numbers(Dict[str, Number]):
    """What texts mean. For one thread."""

    def __init__(self) -> None:
        super().__init__()
        self._same: Dict[str, str] = {}

    def read(self, line: bytes) -> List[Number]:
        """The numbers of a JSON list, each of magnitude below LIMIT. Raises WireError."""
        return self.of(texts_of(line))

    def of(self, texts: Sequence[str]) -> List[Number]:
        """What these texts mean, each without blanks around it. Raises WireError as ``read``."""
        if len(texts) > WIDE:
            return checked(loads(f"[{','.join(texts)}]".encode()))
        if len(self) > MOST_TEXTS:
            self.clear()
        return list(map(self.__getitem__, texts))

    def same(self, texts: List[str]) -> List[str]:
        """The same texts, equal ones as one object: who keeps those of a thousand nodes needs a third of the memory."""
        if len(self._same) > MOST_TEXTS:
            self._same.clear()
        return list(map(self._same.setdefault, texts, texts))

    def __missing__(self, text: str) -> Number:
        value = self[text] = _meaning(text)
        return value


class Told(Dict[str, Tuple[str, Number]]):
    """Texts with what they mean, for what changes at each poll: equal ones are the same pair. For one thread.

    Longer texts (counters, times) are forgotten after each list, so that this stays small enough for the processor's caches, and what is kept of a thousand
    nodes is mostly the same objects: to find, copy and let go of objects that lie all over the memory was half of the cost of a poll.
    """

    def __init__(self) -> None:
        super().__init__()
        self._passing: List[str] = []

    def of(self, texts: Sequence[str]) -> Sequence[Tuple[str, Number]]:
        """Each text, without blanks around it, and its number. Raises WireError as ``Numbers.read``."""
        if len(texts) > WIDE:
            return list(zip(texts, checked(loads(f"[{','.join(texts)}]".encode()))))
        if len(self) > MOST_TEXTS:
            self.clear()
        try:
            return list(map(self.__getitem__, texts))
        finally:
            for text in self._passing:
                self.pop(text, None)
            self._passing.clear()

    def __missing__(self, text: str) -> Tuple[str, Number]:
        pair = self[text] = text, _meaning(text)
        if len(text) > _LONGEST_KEPT:
            self._passing.append(text)
        return pair


def checked(values: object) -> List[Number]:
    """A list from a stranger whose every item is None or a number of magnitude below LIMIT. Raises WireError."""
    if not isinstance(values, list):
        raise WireError("The answer's values are not a list.")
    if not _NUMBERS.issuperset(map(type, values)):
        raise WireError("The answer has a value that is not a number.")
    numbers = list(filter(None, values))
    if numbers and not (max(numbers) < LIMIT and min(numbers) > -LIMIT):
        raise WireError("The answer has a number out of range.")
    return values


def _meaning(text: str) -> Number:
    if text == "null":
        return None
    if text.isdigit() and text.isascii() and len(text) < 19 and (text[0] != "0" or len(text) == 1):  # most of them
        return int(text)
    found = _NUMBER.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    if found is None:
        raise WireError(f"The answer has a value that is not a number: {text[:40]!r}.")
    value: float = float(text) if found.group(1) or found.group(2) else int(text)
    if not -LIMIT < value < LIMIT:
        raise WireError("The answer has a number out of range.")
    return value
