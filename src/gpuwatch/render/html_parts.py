"""The smallest parts of every page: escaping, addresses, shapes, bars. Pure; nothing here knows a cluster.

The pages run under ``default-src 'self'``: no ``style=``, no inline script, no ``on...=``. Text from outside goes through ``e`` only.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from html import escape
from typing import NamedTuple, Optional, Sequence, Tuple
from urllib.parse import quote, urlencode

from gpuwatch.model.view import ViewOptions
from gpuwatch.render import words


def e(text: Optional[str]) -> str:
    """Text as it may stand in an element or in a quoted attribute: cleaned of control characters, then escaped."""
    return escape(words.clean(text), quote=True)


def json_block(data: object) -> str:
    """JSON for ``<script type="application/json">``: nothing in it can end the element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# ---- addresses


def host_url(name: str) -> str:
    """The page of a host."""
    return f"/hosts/{quote(words.clean(name), safe='')}"


def gpu_url(uuid: str) -> str:
    """The page of a GPU."""
    return f"/gpus/{quote(words.clean(uuid), safe='')}"


def query_pairs(options: ViewOptions, **changes: object) -> list[Tuple[str, str]]:
    """The GET parameters that give these options, with some changed; the page starts anew unless it is among the changes."""
    values: dict[str, object] = {
        "q": options.query, "host": options.host, "user": options.user, "tag": options.tag, "model": options.model,
        "free": "true" if options.free_only else "", "state": options.state,
        "sort": ("-" if options.descending else "") + options.sort, "view": options.layout,
        "at": options.moment or ("" if options.at is None else f"{options.at:.3f}"),
    }  # fmt: skip
    if values["sort"] == "hosts":
        values["sort"] = ""
    values.update(changes)
    return [(name, words.clean(str(value))) for name, value in values.items() if value]


def link(options: ViewOptions, **changes: object) -> str:
    """An address of the cluster page, escaped for an attribute: these options with some changed."""
    pairs = query_pairs(options, **changes)
    return escape(f"/?{urlencode(pairs, safe=':')}" if pairs else "/", quote=True)


def plain_link(**values: str) -> str:
    """An address of the cluster page with just these parameters, escaped for an attribute."""
    return escape("/?" + urlencode([(name, words.clean(value)) for name, value in values.items()]), quote=True)


_ODD = re.compile(r"[^A-Za-z0-9.\-]")


def anchor(name: str) -> str:
    """A name as part of an element's id: different names give different ids, and no id needs escaping."""
    return _ODD.sub(lambda found: f"_{ord(found.group()):x}_", name)


def host_id(name: str) -> str:
    """The id of a host's rows."""
    return f"h-{anchor(name)}"


def gpu_id(host: str, index: int) -> str:
    """The id of a GPU's row."""
    return f"g-{anchor(host)}~{index}"


# ---- shapes

_SHAPES = {
    "free": '<circle cx="6" cy="6" r="4.4"/>',
    "busy": '<circle cx="6" cy="6" r="4.6" class="solid"/>',
    "idle": '<path d="M3.6 1.6v8.8M8.4 1.6v8.8" stroke-width="3"/>',
    "reserved": '<path d="M6 1.3 10.7 6 6 10.7 1.3 6z"/>',
    "down": '<path d="m2 2 8 8m0-8-8 8" stroke-width="2.4"/>',
    "warn": '<path d="M6 1 11.3 10.9H.7z" class="solid"/>',
    "stale": '<circle cx="6" cy="6" r="4.4" stroke-dasharray="1.9 1.9"/>',
    "unknown": '<path d="M3.5 4.1C3.6 2.6 4.6 1.8 6 1.8s2.5.9 2.5 2.2C8.5 5.8 6 5.8 6 7.6M6 9.2v1.7" stroke-width="1.8"/>',
    "ok": '<path d="m2 6.5 2.8 2.8L10 3.3" stroke-width="1.8"/>',
}

SPRITE = (
    '<svg class="sprite" width="0" height="0" aria-hidden="true" focusable="false"><defs>'
    + "".join(f'<symbol id="i-{name}" viewBox="0 0 12 12">{shape}</symbol>' for name, shape in _SHAPES.items())
    + '<pattern id="gap" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<path d="M0 0v4" class="gapline"/></pattern></defs></svg>'
)
"""Once on each page; ``icon`` refers to it."""

_ICONS = {name: f'<svg class="ic" aria-hidden="true"><use href="#i-{name}"/></svg>' for name in _SHAPES}


def icon(name: str) -> str:
    """One of the shapes: free, busy, idle, reserved, down, warn, stale, unknown, ok."""
    return _ICONS[name]


# ---- values


def not_reported(reason: Optional[str] = None, short: bool = False) -> str:
    """The dashed box; why, stands in its title. Never a number."""
    told = f"not reported: {reason}" if reason else "not reported"
    if short:
        return f'<span class="nr" title="{e(told)}"><span aria-hidden="true">n/r</span><span class="sr">not reported</span></span>'
    return f'<span class="nr" title="{e(told)}">not reported</span>'


def meter(value: float, most: float, kind: str = "") -> str:
    """A bar from 0 to ``most``. Its number stands beside it, so that it is hidden from screen readers."""
    css = f' class="{kind}"' if kind else ""
    return f'<meter{css} min="0" max="{most:.6g}" value="{min(max(value, 0.0), most):.6g}" aria-hidden="true"></meter>'


def sparkline(columns: Sequence[Optional[float]], width: int = 1, height: int = 18) -> str:
    """Percentages over time, oldest first; None is a hatched gap without a value. Empty where there is nothing to show.

    ``width`` of a column and ``height`` are in the drawing's own units; the style sheet stretches it.
    """
    if not columns:
        return ""
    line = _closed_columns(tuple(columns[:-1]), width, height).then(columns[-1], width, height)
    if not line.any_value:
        return ""
    whole = len(columns) * width
    return (
        f'<svg class="spark" viewBox="0 0 {whole} {height}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="{line.path}h{line.run}V{height}"/>{line.gaps}{line.open_gap(height)}<path class="base" d="M0 {height - 0.5}h{whole}"/></svg>'
    )


class _Line(NamedTuple):
    """A sparkline up to some column."""

    path: str
    level: float
    """Height of the last column, from above."""
    run: int = 0
    """Width of the columns of that height."""
    gaps: str = ""
    at: int = 0
    gap_from: Optional[int] = None
    any_value: bool = False

    def then(self, value: Optional[float], width: int, height: int) -> _Line:
        """The line with one more column."""
        level = float(height) if value is None else round(height * (1 - min(max(value, 0.0), 100.0) / 100), 1)
        path, run, gaps, gap_from = self.path, self.run, self.gaps, self.gap_from
        if level != self.level:
            path, run = f"{path}h{run}V{level:g}" if run else f"{path}V{level:g}", 0
        if value is None:
            gap_from = self.at if gap_from is None else gap_from
        elif gap_from is not None:
            gaps, gap_from = gaps + self.open_gap(height), None
        return _Line(path, level, run + width, gaps, self.at + width, gap_from, self.any_value or value is not None)

    def open_gap(self, height: int) -> str:
        """The gap that reaches to the end."""
        if self.gap_from is None:
            return ""
        return f'<rect x="{self.gap_from}" width="{self.at - self.gap_from}" height="{height}" fill="url(#gap)"/>'


@lru_cache(maxsize=4096)
def _closed_columns(columns: Tuple[Optional[float], ...], width: int, height: int) -> _Line:
    """All but the newest column stay as they are for ten minutes."""
    line = _Line(f"M0 {height}", float(height))
    for value in columns:
        line = line.then(value, width, height)
    return line
