"""The errors that a person sees: one line of what is wrong and one of what to do next. Never a traceback."""

from __future__ import annotations


class GpuwatchError(Exception):
    """Something failed that the person can act on. ``str()`` gives "what is wrong. next step" on one line."""

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(f"{message} {next_step}".strip())
        self.message = message
        self.next_step = next_step


class UsageError(GpuwatchError):
    """The person asked for something that cannot be: a bad flag, setting, hosts file or time."""


class WireError(GpuwatchError):
    """What came over the network is not what was asked for: broken, too large, of another version."""


class StoreError(GpuwatchError):
    """The database could not do what was asked: full, read-only, corrupt, newer than this program."""
