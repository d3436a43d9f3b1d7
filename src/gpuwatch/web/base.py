"""The path under which a proxy shows the hub (``base_path``): taken off what is asked, put before every link of what is answered.

Renderers know one root, ``/``. What they wrote is changed here once for each body, not for each reader. Text of strangers stays as it is: in a
page their quotes are escaped, so none of it looks like an attribute.
"""

from __future__ import annotations

import re
from typing import Any, Iterable

from gpuwatch.model.errors import UsageError
from gpuwatch.serve.wsgi import App
from gpuwatch.web.replies import HTML, Body

_BASE = re.compile(r"(/[A-Za-z0-9._~-]+)*")
ATTRIBUTES = ("href", "src", "action", "formaction", "data-live", "data-path", "data-src", "data-page", "data-root")
"""Attributes of pages that hold an address of ours; they are written with double quotes, and the address begins with one slash."""


def checked(text: str) -> str:
    """``/gpuwatch``, or empty for none. Raises UsageError."""
    base = text.strip().rstrip("/")
    if not _BASE.fullmatch(base) or "/." in base:
        raise UsageError(f"base_path: {text[:60]!r} is not a path.", 'Write such as "/gpuwatch".')
    return base


class Base:
    """Puts the base path where it belongs."""

    def __init__(self, path: str) -> None:
        """``path`` as ``checked`` gives it."""
        self.path = path
        pairs = [(f' {name}="/', f' {name}="{path}/') for name in ATTRIBUTES] + [(">curl 'HUB/", f">curl 'HUB{path}/")]
        self._page = [(old.encode(), new.encode()) for old, new in pairs]
        self._json = [(old.replace('"', '\\"').encode(), new.replace('"', '\\"').encode()) for old, new in pairs]

    def body(self, body: Body, is_live: bool) -> Body:
        """The body with its links under the base; the same object as long as the body is the same. ``is_live``: JSON that holds parts of a page."""
        if not self.path or not (is_live or body.content_type == HTML):
            return body
        if body.based is None:
            data = body.data
            for old, new in self._json if is_live else self._page:
                data = data.replace(old, new)
            body.based = Body(data, body.content_type)
        return body.based

    def words(self, step: str) -> str:
        """A next step with its address under the base: `` at /`` is how such steps name one."""
        return step.replace(" at /", f" at {self.path}/")

    def location(self, address: str) -> str:
        """An address of ours for a Location header."""
        return self.path + address if address.startswith("/") else address


def mounted(app: App, path: str) -> App:
    """The app also under ``path``; a proxy may take it off itself, so it answers without it too."""
    if not path:
        return app

    def under(environ: Any, start_response: Any) -> Iterable[bytes]:
        asked = environ.get("PATH_INFO", "")
        if asked == path:
            start_response("308 Permanent Redirect", [("Location", f"{path}/"), ("Content-Length", "0")])
            return []
        if asked.startswith(path + "/"):
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = path, asked[len(path) :]
        return app(environ, start_response)

    return under
