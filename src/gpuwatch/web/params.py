"""Query strings to ViewOptions. Pure. A value that cannot be is refused by name, with what would be right."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo
from functools import lru_cache
from types import MappingProxyType
from typing import Mapping, Optional
from urllib.parse import parse_qsl

from gpuwatch.model.cluster import GPU_STATES
from gpuwatch.model.errors import UsageError
from gpuwatch.model.view import LAYOUTS, SORTS, ViewOptions
from gpuwatch.rules.moments import parse_moment

FORMATS = ("html", "text", "json", "csv")
MAX_TEXT = 200
MAX_QUERY = 4096
"""Longest query string: parsed ones are kept."""
LEAST_WIDTH, MOST_WIDTH = 60, 400
AHEAD_SECONDS = 60.0
"""A moment so far in the future counts as now: clocks of browsers differ."""
_FALSE = ("", "0", "false", "no", "off")


@dataclass(frozen=True, eq=False)
class Params:
    """The parameters of one request; a name given twice counts once, the last. Requests with the same query string share one."""

    values: Mapping[str, str]

    @classmethod
    @lru_cache(maxsize=1024)
    def parse(cls, query_string: str) -> Params:
        """From the raw query string; bytes that are not UTF-8 become U+FFFD. Raises UsageError for more than 50 parameters."""
        if len(query_string) > MAX_QUERY:
            raise UsageError(f"The address has a query of more than {MAX_QUERY} characters.")
        try:
            pairs = parse_qsl(query_string, keep_blank_values=True, errors="replace", max_num_fields=50)
        except ValueError:
            raise UsageError("The address has more than 50 parameters.") from None
        return cls(MappingProxyType(dict(pairs)))

    def text(self, name: str) -> str:
        """A text of at most 200 characters."""
        value = self.values.get(name, "").strip()
        if len(value) > MAX_TEXT:
            raise UsageError(f"{name}= is longer than {MAX_TEXT} characters.")
        return value

    def flag(self, name: str) -> bool:
        """True unless absent, empty, 0, false, no or off."""
        return self.values.get(name, "").strip().lower() not in _FALSE

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number within bounds."""
        value = self.text(name)
        if not value:
            return default
        if not value.isascii() or not value.isdigit() or not least <= int(value) <= most:
            raise UsageError(f"{name}={value[:40]!r} is not a whole number from {least} to {most}.")
        return int(value)

    def negative(self, name: str) -> bool:
        """A whole number below zero is given."""
        sign, digits = self.text(name)[:1], self.text(name)[1:]
        return sign == "-" and digits.isascii() and digits.isdigit() and int(digits) > 0

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """One of ``choices``; the first where the parameter is absent or empty."""
        value = self.text(name)
        if not value:
            return choices[0]
        if value not in choices:
            raise UsageError(f"{name}={value[:40]!r} is not one of {', '.join(choice for choice in dict.fromkeys(choices) if choice)}.")
        return value

    def moment(self, now: float, zone: tzinfo) -> Optional[float]:
        """The past moment that ``at=`` asks about, epoch seconds, to the ms; None where it is absent. Spans before now: to the second."""
        text = self.text("at")
        if not text:
            return None
        at = parse_moment(text, now, zone)
        if at > now + AHEAD_SECONDS:
            raise UsageError(f"at={text[:40]!r} is in the future.", "Without at= you see what is now.")
        return float(int(at)) if text[0] in "-nN" else round(min(at, now), 3)

    @property
    def format(self) -> str:
        """Which twin is asked for: html, text (``term=true``), json or csv."""
        if self.text("format"):
            return self.choice("format", ("html", "text", "json", "csv"))
        return "text" if self.flag("term") else "html"

    @lru_cache(maxsize=1024)
    def view(self, audience: str) -> ViewOptions:
        """The options of a view of the cluster. ``sort=-memory`` sorts downwards."""
        sort = self.text("sort")
        return ViewOptions(
            audience=audience,
            query=self.text("q"),
            host=self.text("host"),
            user=self.text("user"),
            tag=self.text("tag"),
            model=self.text("model"),
            free_only=self.flag("free"),
            state=self.choice("state", ("", *GPU_STATES)),
            sort=Params({"sort": sort.lstrip("-")}).choice("sort", SORTS),
            descending=sort.startswith("-"),
            layout=self.choice("view", LAYOUTS),
            page=self.whole("page", 0, 0, 100000),
            detail=self.flag("detail"),
            width=self.whole("width", 80, LEAST_WIDTH, MOST_WIDTH),
            ascii_only=self.flag("ascii"),
            color=self.flag("color"),
        )
