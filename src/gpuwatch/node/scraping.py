"""What a node says to Prometheus: its metrics, and whether a scraper gave the password. Pure; knows no HTTP status."""

from __future__ import annotations

import base64
import binascii
from typing import Mapping, Optional

from gpuwatch.node.newest import Answer
from gpuwatch.render import as_prometheus


def password_in(authorization: str) -> Optional[str]:
    """The password of an Authorization header: that of ``Basic`` whatever the user, or the token of ``Bearer``. None = there is none."""
    scheme, _, given = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return _text(given.strip().encode("latin-1", "replace"))
    if scheme.lower() != "basic":
        return None
    try:
        pair = base64.b64decode(given.strip().encode("latin-1", "replace"), validate=True)
    except (binascii.Error, ValueError):
        return None
    _, colon, password = _text(pair).partition(":")
    return password if colon else None


def _text(given: bytes) -> str:
    """WSGI hands headers over as Latin-1; what clients mean is UTF-8."""
    return given.decode("utf-8", "surrogateescape")


def metrics(answer: Optional[Answer], hostname: str, *, processes: bool, openmetrics: bool, refused: Mapping[str, int]) -> bytes:
    """All metrics of this machine; no numbers where the readings are not fresh. ``refused``: how many were, by reason."""
    fresh = answer is not None and not (answer.trouble is not None and answer.trouble.stale)
    snapshot = answer.sample.snapshot() if answer is not None and fresh else None
    name = (snapshot.hostname if snapshot is not None else "") or hostname
    return as_prometheus.node_metrics(snapshot, name, processes=processes, openmetrics=openmetrics, refused=refused).encode("utf-8", "replace")
