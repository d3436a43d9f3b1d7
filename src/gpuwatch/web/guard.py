"""Who asks, and may they. Headers that every answer carries. A person who is not allowed in learns nothing."""

from __future__ import annotations

from typing import Mapping

from gpuwatch.web.routes import PERMISSIONS, Route

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def audience() -> str:
    """Who asks. Until accounts exist everybody is a stranger."""
    return "stranger"


def check_routes(routes: tuple[Route, ...]) -> None:
    """Refuse to start with a route that does not say who may use it."""
    for route in routes:
        if route.permission not in PERMISSIONS:
            raise ValueError(f"{route.method} {route.path} has no permission: one of {', '.join(PERMISSIONS)}")
