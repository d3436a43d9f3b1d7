"""Hubs that share a database and its targets, as each of them sees all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class HubShare:
    """One hub and its share of the targets; times in epoch seconds by the database's clock."""

    id: str
    name: str
    """Host it runs on."""
    address: str
    """Where its pages are, as it says itself."""
    version: str
    started_at: float
    seen_at: Optional[float]
    """When it last told the others that it is there; None for a hub that is alone with its database."""
    alive: bool
    """False: the others have taken its targets over, or are about to."""
    targets: int
    """How many machines it polls."""
    clock_seconds: Optional[float] = None
    """Its clock minus the database's; None = not known."""
    elected: bool = False
    """It does what one hub does for all: retention."""
    is_this: bool = False
    """It is the hub that tells this."""
