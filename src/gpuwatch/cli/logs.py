"""Where the log goes: stderr, or a file that is opened anew on SIGHUP (so that logrotate may move it away).

Without a log file SIGHUP means what it means for every program, that the terminal is gone, and ends this one like SIGTERM.
"""

from __future__ import annotations

import logging
import signal
import sys
from logging.handlers import WatchedFileHandler
from typing import Any

from gpuwatch.config.settings import CommonSettings
from gpuwatch.model.errors import UsageError

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FORMAT = "%(asctime)s %(levelname)s %(message)s"


class _OneLine(logging.Formatter):
    """Nobody from outside may forge a line of the log: control characters of a message are shown, not obeyed; lines of a trace are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return _shown(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return "\n".join(f"  | {_shown(line)}" for line in super().formatException(ei).split("\n"))


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def set_up(settings: CommonSettings) -> None:
    """Send the log where the settings say. Raises UsageError for a level or file that cannot be."""
    level = LEVELS.get(settings.log_level.lower())
    if level is None:
        raise UsageError(f"--log-level: {settings.log_level[:40]!r} is not one of {', '.join(LEVELS)}.")
    handler = _handler(settings.log_file)
    handler.setFormatter(_OneLine(FORMAT))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    if isinstance(handler, WatchedFileHandler):
        signal.signal(signal.SIGHUP, lambda *_: _open_anew(handler))
    elif signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # ignored from the start: nohup
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))  # the terminal was closed


def _open_anew(handler: WatchedFileHandler) -> None:
    handler.acquire()  # another thread may be in the middle of a line
    try:
        handler.reopenIfNeeded()
    finally:
        handler.release()


def _handler(path: str) -> Any:
    if not path:
        return logging.StreamHandler(sys.stderr)
    try:
        return WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"--log-file: {path} cannot be written: {error.strerror}.") from None
