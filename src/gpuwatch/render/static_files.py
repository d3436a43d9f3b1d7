"""The page's own files, read from the package (also inside a zip), with a hash for their address. Never from a path that a request names."""

from __future__ import annotations

import hashlib
import pkgutil
from functools import lru_cache

CONTENT_TYPES = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "charts.css": "text/css; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "uplot.js": "text/javascript; charset=utf-8",
    "uplot.css": "text/css; charset=utf-8",
    "uplot.LICENSE.txt": "text/plain; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Every file there is; nothing else is served."""


@lru_cache(maxsize=None)
def static_file(name: str) -> tuple[bytes, str, str]:
    """(body, content type, hash of 12 hex digits) of one of CONTENT_TYPES. Raises KeyError for any other name."""
    content_type = CONTENT_TYPES[name]
    body = pkgutil.get_data("gpuwatch.render", f"static/{name}")
    if body is None:
        raise KeyError(name)
    return body, content_type, hashlib.sha256(body).hexdigest()[:12]


def static_url(name: str) -> str:
    """The address of a file, which changes with its bytes, so that browsers may keep it for ever."""
    return f"/static/{name}?v={static_file(name)[2]}"
