"""What a node needs to push, made from its settings and run: spool, connection, and their two threads. Must never stop the node from sampling."""

from __future__ import annotations

import logging
import socket
import threading
from pathlib import Path
from typing import Optional

from gpuwatch.config.hosts import checked_pin
from gpuwatch.config.load import read_secret, state_dir
from gpuwatch.config.settings import NodeSettings
from gpuwatch.loops import Loop
from gpuwatch.model.errors import GpuwatchError, UsageError, WireError
from gpuwatch.node.newest import Newest
from gpuwatch.node.push import Pusher
from gpuwatch.node.spool import Spool
from gpuwatch.wire.http import Trust
from gpuwatch.wire.kept import KeptConnection

log = logging.getLogger(__name__)
SPOOL_FOLDER = "spool"
SPOOL_BEAT_SECONDS = 1.0
END_SECONDS = 3.0


class Pushing:
    """``start``, and at the end ``close``."""

    def __init__(self, settings: NodeSettings, newest: Newest) -> None:
        """Raises UsageError for a URL that is none."""
        self._settings = settings
        self._said = ""
        """What was wrong with ``enroll_file`` when it was last looked at."""
        folder = _folder(settings)
        try:
            trust = Trust(checked_pin(settings.push_pin, "push_pin:") if settings.push_pin else "", settings.push_ca)
            connection = KeptConnection(settings.push, program="gpuwatch hub", trust=trust)
        except WireError as error:
            raise UsageError(f"push: {error}", "Write the hub's address: https://hub:7070") from None
        self._spool = Spool(folder / SPOOL_FOLDER if folder is not None else None, settings.push_spool)
        self._pusher = Pusher(
            connection, newest, self._spool, name=settings.name or socket.gethostname(), code=self._code, folder=folder, interval_seconds=settings.interval
        )
        newest.listen(self._pusher.sampled)
        self._loops: list[Loop] = []

    def start(self, stop: threading.Event) -> None:
        """Begin to push."""
        push = Loop("push", self._pusher.run_once, max(0.5, min(1.0, self._settings.interval / 2)), stop)
        spool = Loop("spool", self._keep, SPOOL_BEAT_SECONDS, stop)

        def wake() -> None:
            push.wake()
            if self._pusher.away.is_set():  # each sample is on the disk at once
                spool.wake()

        self._pusher.wake = wake
        self._loops = [push.start(), spool.start()]

    def close(self) -> None:
        """After ``stop`` was set: what was not pushed goes to the disk."""
        self._pusher.close()
        for loop in self._loops:
            loop.join(END_SECONDS)
        self._spool.close()

    def _keep(self, now: float) -> None:
        """The spool's beat: what waits longer than usual goes to the disk."""
        if self._pusher.away.is_set() or self._spool.is_behind(3 * self._settings.interval):
            self._spool.flush()
        self._spool.reserve()

    def _code(self) -> str:
        """The one-time code, from its file if there is one. A file that cannot be read is said once enrolling fails."""
        if self._settings.enroll_file:
            try:
                code, self._said = read_secret(self._settings.enroll_file), ""
                return code
            except UsageError as error:
                if str(error) != self._said:  # asked at each refusal of the key
                    log.warning("enroll_file: %s", error)
                self._said = str(error)
        return self._settings.enroll


def _folder(settings: NodeSettings) -> Optional[Path]:
    try:
        return state_dir(settings)
    except GpuwatchError as error:
        log.warning("%s The key for pushing is forgotten when the node ends, and what waits for the hub waits in memory.", error)
        return None
