"""All hubs that share a database, and their shares of the targets: a page, text, JSON, CSV. Pure."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from typing import Any, Sequence

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.hubs import HubShare
from gpuwatch.render import words
from gpuwatch.render.as_csv import harmless
from gpuwatch.render.html_frame import Frame, page
from gpuwatch.render.html_parts import e
from gpuwatch.render.html_summary import notices_html
from gpuwatch.render.listing import listing

Schema = Any
_TEXT: Schema = {"type": "string"}
_MAYBE: Schema = {"type": ["number", "null"]}
_YES: Schema = {"type": "boolean"}

HUB_FIELDS: tuple[tuple[str, Schema, str], ...] = (
    ("id", _TEXT, "new at each start of the hub"),
    ("name", _TEXT, "host it runs on"),
    ("address", _TEXT, "where its pages are, as it says itself"),
    ("version", _TEXT, "its gpuwatch"),
    ("started_at", {"type": "number"}, "since when it runs"),
    ("seen_at", _MAYBE, "when it last told the others that it is there, by the database's clock; null for a hub that is alone"),
    ("alive", _YES, "false: the others have taken its targets over, or are about to"),
    ("targets", {"type": "integer"}, "how many hosts it polls"),
    ("clock_seconds", _MAYBE, "its clock minus the database's"),
    ("elected", _YES, "it does what one hub does for all: retention"),
    ("is_this", _YES, "it is the hub that tells this"),
)
_HEAD = ("hub", "address", "version", "polls", "state", "seen", "running", "clock", "")
FAST_CLOCK_SECONDS = 1.0
"""From here on a hub's clock is off."""


def hubs_json(hubs: Sequence[HubShare]) -> bytes:
    """``{"hubs": [...]}``."""
    return json.dumps({"hubs": [asdict(hub) for hub in hubs]}, indent=1).encode()


def hubs_csv(hubs: Sequence[HubShare]) -> bytes:
    """The same, one line a hub; names begin with no sign that a spreadsheet takes for a formula."""
    names = [name for name, _, _ in HUB_FIELDS]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    for hub in hubs:
        cells = [getattr(hub, name) for name in names]
        writer.writerow(["" if cell is None else harmless(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue().encode("utf-8", "replace")


def hubs_text(hubs: Sequence[HubShare], now: float) -> bytes:
    """A table for terminals."""
    return listing(_HEAD, [_row(hub, now) for hub in hubs]).encode("utf-8", "replace")


def hubs_page(cluster: ClusterNow, hubs: Sequence[HubShare]) -> str:
    """The page."""
    head = "".join(f'<th scope="col">{e(word.capitalize())}</th>' for word in _HEAD)
    rows = "".join(f"<tr>{_cells(_row(hub, cluster.taken_at))}</tr>" for hub in hubs)
    body = (
        f'<div id="notices">{notices_html(cluster)}</div><div class="head"><h1>Hubs</h1></div>'
        f'<div class="scroll"><table class="list procs"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        '<p class="note">Hubs that share a database divide the hosts; each shows all of them.</p>'
    )
    return page(
        Frame(
            title="Hubs - gpuwatch",
            lab=cluster.title,
            main_html=body,
            read_at=words.clock_seconds(cluster.taken_at, cluster.timezone),
            footer_html=f"<span>Times are {e(words.zone_label(cluster.taken_at, cluster.timezone))}</span>",
            terminal="/hubs?term=true",
            here="hubs",
            css="view-detail",
            sheet=True,
        )
    )


def _cells(row: Sequence[str]) -> str:
    """The cells of a line; on a phone each says what it is."""
    return "".join(f'<td data-of="{word}">{e(cell)}</td>' if word else f"<td>{e(cell)}</td>" for word, cell in zip(_HEAD, row))


def _row(hub: HubShare, now: float) -> list[str]:
    clock = "" if hub.clock_seconds is None or abs(hub.clock_seconds) < FAST_CLOCK_SECONDS else f"off by {hub.clock_seconds:+.1f} s"
    seen = "" if hub.seen_at is None else f"{words.span(max(0.0, now - hub.seen_at))} ago"
    roles = ", ".join(word for word, is_so in (("this one", hub.is_this), ("does retention", hub.elected)) if is_so)
    state = "alive" if hub.alive else "gone"
    return [hub.name, hub.address, hub.version, f"{hub.targets} hosts", state, seen, words.span(max(0.0, now - hub.started_at)), clock, roles]
