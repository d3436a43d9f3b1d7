"""Files that a browser sends: how many from one client, the file of a form, and what ``gpuwatch db import --dry-run`` says of it. Keeps nothing."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import threading
import time
from collections import OrderedDict, deque
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterator, Sequence

import bottle

from gpuwatch.boot import self_argv
from gpuwatch.child import Child
from gpuwatch.model.errors import GpuwatchError, UsageError

MOST_PER_SPAN, SPAN_SECONDS = 6, 60.0
"""Uploads of one client in so many seconds."""
MOST_CLIENTS = 4096
LONGEST_SECONDS = 30.0
"""The reading of one file; the command line takes its time."""
GRACE_SECONDS = 5.0
"""For the reader to end after its output: how it ended is told."""
MOST_ANSWER_BYTES = 4 * 1024**2
_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class TooMany(GpuwatchError):
    """This client sends too much."""


class Rate:
    """Few uploads of one client a minute. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._times: OrderedDict[str, Deque[float]] = OrderedDict()

    def count(self, client: str) -> None:
        """Count one. Raises TooMany."""
        now = self._clock()
        with self._lock:
            times = self._times.setdefault(client, deque())
            self._times.move_to_end(client)
            if len(self._times) > MOST_CLIENTS:
                self._times.popitem(last=False)
            while times and times[0] <= now - SPAN_SECONDS:
                times.popleft()
            if len(times) >= MOST_PER_SPAN:
                raise TooMany(f"Only {MOST_PER_SPAN} files a minute are taken from one address.", "Try again in a minute.")
            times.append(now)


def file_of(request: Any, field: str) -> Any:
    """The file of a form, bottle's FileUpload; None where there is none, or the body is no form."""
    try:
        return request.files.get(field)
    except (bottle.HTTPError, ValueError, OSError):  # a form that cannot be taken apart
        return None


def file_name(text: str) -> str:
    """A stranger's file name as one that can be written here, and typed into a shell."""
    return _NAME.sub("-", text.replace("\\", "/").rpartition("/")[2]).strip("-.")[-100:].lstrip("-.") or "file"


@contextmanager
def kept_for_now(upload: Any) -> Iterator[Path]:
    """The file on disk while it is looked at. Raises GpuwatchError where there is no room."""
    folder = Path(tempfile.mkdtemp(prefix="gpuwatch-upload-"))
    try:
        path = folder / file_name(upload.raw_filename)
        try:
            with open(path, "wb") as file:
                shutil.copyfileobj(upload.file, file, 65536)
        except OSError as error:
            raise GpuwatchError(f"The file cannot be kept while it is read: {error.strerror}.", "The hub's folder for temporary files is full?") from None
        yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def dry_run(path: Path, zone: str, options: Sequence[str] = (), seconds: float = LONGEST_SECONDS) -> Dict[str, Any]:
    """What is in the file, as ``store.import_source.told`` says it. In a process of its own: a stranger's file can neither stop nor break the hub.

    Raises UsageError for a file that is not understood, or takes too long.
    """
    child = Child([*self_argv(), "db", "import", "--dry-run", "--json", "--zone", zone, *options, "--", str(path)], MOST_ANSWER_BYTES)
    try:
        line = child.read_line(seconds)
        if line is not None:
            found: Dict[str, Any] = json.loads(line)
            return found
        if not child.output_ended:
            raise UsageError(f"Reading it takes longer than {seconds:.0f} s.", f"On the hub it may take its time: gpuwatch db import --dry-run {path.name}")
        child.wait(GRACE_SECONDS)
        end = child.exit() if child.returncode is not None else None
        words = child.last_words.replace(str(path), path.name).partition("gpuwatch: ")[2]
        raise UsageError(words or f"The file could not be read ({end.words if end else 'no answer'}).")
    finally:
        child.end(GRACE_SECONDS)
        child.close()
