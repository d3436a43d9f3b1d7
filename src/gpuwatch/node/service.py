"""A node from start to end: password, sampler, server, signals. Must never read the driver itself: the sampler does."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence

from gpuwatch.boot import self_argv
from gpuwatch.config.checks import is_loopback
from gpuwatch.config.load import state_dir
from gpuwatch.config.settings import DEFAULT_PASSWORD, NodeSettings, SamplerOptions
from gpuwatch.loops import Loop, Stop
from gpuwatch.model.errors import GpuwatchError, UsageError
from gpuwatch.node.app import MAX_BODY_BYTES, NodeApp
from gpuwatch.node.inventory import Inventory, boot_id
from gpuwatch.node.newest import Newest
from gpuwatch.node.pushing import Pushing
from gpuwatch.node.ring import Ring
from gpuwatch.node.supervisor import Supervisor
from gpuwatch.serve.http import CertificateFiles, Server

log = logging.getLogger(__name__)

END_SECONDS = 8.0
"""For the sampler to end by itself when the node ends."""


def check_password(settings: NodeSettings) -> str:
    """The password in force. None configured means the documented default, on loopback alone. Raises UsageError with the line to add."""
    if settings.password:
        if settings.password == DEFAULT_PASSWORD:
            log.warning("the password is %s, which everybody knows: choose another once seed 002's hub is gone", DEFAULT_PASSWORD)
        return settings.password
    if is_loopback(settings.host):
        return DEFAULT_PASSWORD
    raise UsageError(
        f"No password is configured, and {settings.host or '0.0.0.0'} can be reached from other machines.",
        'Add password = "..." to the settings file, or set GPUWATCH_PASSWORD, or name a --password-file; or listen on --host 127.0.0.1 alone.',
    )


def _listening(settings: NodeSettings) -> NodeSettings:
    """A node that pushes needs nobody to ask it: without a password it answers this machine alone."""
    if not settings.push or settings.password or is_loopback(settings.host):
        return settings
    log.info("no password is configured: this node pushes, and answers this machine alone")
    return replace(settings, host="127.0.0.1")


def sampler_options(settings: NodeSettings) -> SamplerOptions:
    """What the sampler needs to know of the settings; never the password."""
    return SamplerOptions(
        name=settings.name or socket.gethostname(),
        interval=settings.interval,
        status_age=settings.status_age,
        health_age=settings.health_age,
        identity_age=settings.identity_age,
        source=settings.source,
        source_argument=settings.source_argument,
        root=settings.root,
        sampler_retry=settings.sampler_retry,
    )


def run(
    settings: NodeSettings,
    stop: Optional[threading.Event] = None,
    sampler_argv: Optional[Sequence[str]] = None,
    announce: Callable[[str], object] = print,
) -> None:
    """Serve until ``stop`` is set or SIGTERM or SIGINT comes, which sets ``stop`` too. ``announce`` gets one line with the address.

    Raises GpuwatchError (password, address) before anything is started.
    """
    settings = _listening(settings)
    password = check_password(settings)
    newest = Newest(_zone(settings))
    pushing = Pushing(settings, newest) if settings.push else None
    ring = Ring()
    newest.listen(ring.add)
    app = NodeApp(
        newest, password, hostname=settings.name or socket.gethostname(), metrics_open=settings.metrics_open, plain_password=settings.plain_password,
        public_status=settings.public_status, ring=ring,
    )  # fmt: skip
    tls = CertificateFiles.of(settings.tls_cert, settings.tls_key)
    server = Server(
        app, settings.host, settings.port, settings.threads, not settings.no_access_log, MAX_BODY_BYTES, tls=tls, trusted_proxies=settings.trusted_proxies
    )  # fmt: skip
    end = stop or threading.Event()
    options = sampler_options(settings)
    inventory = Inventory(inventory_path(settings), boot_id(settings.root))
    supervisor = Supervisor(settings, newest, inventory, options, sampler_argv or [*self_argv(), "_sampler"])
    ending = Stop()
    watch = Loop("sampler", supervisor.run_once, 0.0, ending).start()
    if pushing is not None:
        pushing.start(ending)
    Loop("end", lambda _: _close_at(end, server), 0.0, end).start()
    if settings.ends_with_stdin:
        Loop("stdin", lambda _: _end_with_input(end), 0.0, end).start()
    handlers = _on_signals(server.close)
    try:
        announce(f"gpuwatch node {options.name} answers on {server.url}get-status every {settings.interval:g} s. Ctrl-C ends it.")
        server.run()
    finally:
        log.info("ending")
        ending.set()
        supervisor.interrupt()
        watch.join(5.0)
        supervisor.close(END_SECONDS)
        if pushing is not None:
            pushing.close()
        end.set()
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _close_at(end: threading.Event, server: Server) -> None:
    end.wait()
    server.close()


def _end_with_input(end: threading.Event) -> None:
    """Whoever started this node holds the other end of the pipe: when it is gone, however that came, the pipe ends."""
    if not os.read(0, 4096):  # not sys.stdin: Python aborts if a thread holds its lock at the end
        end.set()


def _on_signals(close: Callable[[], None]) -> Dict[int, Any]:
    """SIGTERM and SIGINT call ``close``; the handlers that were there before. Only the main thread may set them."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, lambda *_: close()) for number in (signal.SIGTERM, signal.SIGINT)}


def inventory_path(settings: NodeSettings) -> Optional[Path]:
    """Where the GPUs of this boot are kept; None (and a warning) where nothing can be."""
    try:
        return state_dir(settings) / "inventory.json"
    except GpuwatchError as error:
        log.warning("%s GPUs that get lost are forgotten when the node restarts.", error)
        return None


def _zone(settings: NodeSettings) -> Any:
    """The zone of seed 002's ``last_update``; None = this machine's."""
    if not settings.timezone:
        return None
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(settings.timezone)
    except (KeyError, ValueError, OSError):
        raise UsageError(f"timezone: {settings.timezone!r} is not a time zone.", "Write a name such as Europe/Berlin or UTC.") from None
