"""The sampler: a process of its own that reads a Source at an interval and writes frames to its stdout. Its stdin gives the options, one line.

It alone touches the driver, so it alone hangs or dies with it. It ends when its stdin ends (its node is gone) or on SIGTERM, between two
readings. Nothing but frames may ever reach the pipe: drivers print, so file descriptor 1 is turned to stderr at once.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
import threading
import time
from typing import Any, Dict, List, Optional

from gpuwatch.config.settings import SamplerOptions
from gpuwatch.loops import next_beat
from gpuwatch.model.errors import GpuwatchError
from gpuwatch.model.snapshot import Snapshot
from gpuwatch.model.source import Source, SourceLost
from gpuwatch.node.host_only import HostOnly
from gpuwatch.node.inventory import read_options
from gpuwatch.wire import frame
from gpuwatch.wire.flat import Flattener

LOST = 75
"""Exit code: only a fresh process can go on (sysexits.h: temporary failure)."""
OPTIONS_BYTES = 1024**2
ORPHAN_SECONDS = 10.0
"""A sampler that hangs in the driver after its node is gone ends itself after this."""


def main() -> None:
    """The process: from its options to its exit code."""
    output = os.dup(1)
    os.dup2(2, 1)
    end = End()
    try:
        options = read_options(sys.stdin.buffer.readline(OPTIONS_BYTES))
        end.watch(0)
        code = Sampler(options, output, end).run()
    except BrokenPipeError:  # nobody reads the frames any more
        code = 0
    except GpuwatchError as error:
        print(error, file=sys.stderr)
        code = 1
    raise SystemExit(code)


class End:
    """Tells the sampler when to end. A pipe, not an Event: a signal handler may write to it at any moment without a lock."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._read, select.POLLIN)
        signal.signal(signal.SIGTERM, lambda *_: self.come())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is the node's business

    def come(self) -> None:
        """End at the next pause; from anywhere."""
        os.write(self._write, b"!")

    def wait(self, seconds: float) -> bool:
        """Sleep; True (at once) if it is time to end."""
        return bool(self._poll.poll(max(0.0, seconds) * 1000))

    def watch(self, stdin: int) -> None:
        """End when this file descriptor ends, even if the main thread hangs in the driver by then."""
        threading.Thread(target=self._watch, args=(stdin,), name="stdin", daemon=True).start()

    def _watch(self, stdin: int) -> None:
        while os.read(stdin, 4096):  # not sys.stdin: Python aborts if a thread holds its lock at the end
            pass
        self.come()
        time.sleep(ORPHAN_SECONDS)
        os._exit(0)


class Sampler:
    """Reads, flattens, writes."""

    def __init__(self, options: SamplerOptions, output: int, end: End) -> None:
        self._options = options
        self._output = output
        self._end = end
        self._flattener = Flattener()
        self._encoder = frame.ValuesEncoder()
        self._host = HostOnly(options)
        self._source: Optional[Source] = None
        self._lost: Optional[str] = None
        self._lost_at = 0.0
        self._leave_at: Optional[float] = None

    def run(self) -> int:
        """Sample until the end; the exit code. Raises GpuwatchError if the settings name no source."""
        self._write({"ready": 1}, [])
        due = time.monotonic()
        try:
            while True:
                self._sample(time.time())
                now = time.monotonic()
                due = wake_at = next_beat(due, now, self._options.interval)
                if self._leave_at is not None:
                    if now >= self._leave_at:
                        return LOST
                    wake_at = min(due, self._leave_at)
                if self._end.wait(wake_at - now):
                    return 0
        finally:
            self._close()

    def _sample(self, now: float) -> None:
        snapshot = self._read(now)
        flat = self._flattener.flatten(snapshot)
        header: Dict[str, Any] = {"shape_id": flat.shape_id}
        if flat.shape is not None:
            header["shape"] = flat.shape
        self._write(header, flat.values)

    def _read(self, now: float) -> Snapshot:
        """A snapshot, of the host alone once the source is lost. Only a fresh process gets the source back."""
        if self._lost is None:
            try:
                if self._source is None:
                    self._source = self._make()
                return self._host.fill(self._source.read(now), now)
            except SourceLost as error:
                self._lost = str(error) or "the driver went away"
            except GpuwatchError:
                raise
            except Exception as error:
                self._lost = f"the GPUs cannot be read: {type(error).__name__}: {error}"[:300]
                sys.excepthook(type(error), error, error.__traceback__)
            self._lost_at = now
            self._leave_at = time.monotonic() + self._options.sampler_retry
            self._close()
        return self._host.snapshot(now, self._lost, self._lost_at)

    def _make(self) -> Source:
        module, _, function = self._options.source.partition(":")
        try:
            make = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise GpuwatchError(f"There is no source {self._options.source!r}: {error}.", "Look at the setting source.") from None
        source: Source = make(self._options)
        return source

    def _close(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            try:
                source.close()
            except Exception as error:
                print(f"the source cannot be closed: {error}", file=sys.stderr)

    def _write(self, header: Dict[str, Any], values: List[Any]) -> None:
        data = memoryview(frame.encode(header, self._encoder.encode(values)))
        while data:
            data = data[os.write(self._output, data) :]


if __name__ == "__main__":
    main()
