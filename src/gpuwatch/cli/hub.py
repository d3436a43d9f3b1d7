"""``gpuwatch hub``: gather all nodes of a hosts file and show them."""

from __future__ import annotations

import ctypes
import gc
import signal
import sys
from typing import Any, Callable, Optional

import click

from gpuwatch.cli import logs
from gpuwatch.cli.options import settings_options
from gpuwatch.config.checks import is_loopback
from gpuwatch.config.load import load
from gpuwatch.config.settings import HubSettings
from gpuwatch.loops import Loop, Stop
from gpuwatch.model.errors import UsageError

SWITCH_SECONDS = 0.0005
STOP_SECONDS = 5.0
M_ARENA_MAX, M_MMAP_THRESHOLD = -8, -3
"""malloc.h"""


@click.command("hub")
@settings_options(HubSettings)
def command(**flags: Any) -> None:
    """Gather all nodes of a hosts file and show them: page, text for curl, JSON.

    \b
    A line of the hosts file:  [name=]address [tags=a,b] [every=10s] [password_file=F]
    With TLS:                  https://address [pin=sha256:... | ca=F]
    For example:               dgx-a tags=train
                               gpu[01-16] tags=vision
                               ssh+copy://ops@gpu20
    """
    settings = load(HubSettings, "hub", flags)
    logs.set_up(settings)
    serve(settings)


def _require_hosts(path: str) -> None:
    """At the start a missing file is a wrong path, or a first try. Later the hub goes on with the hosts it knows. An empty one is fine."""
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise UsageError(
            f"The hosts file {path} cannot be read: {error.strerror}.", "Write it, one host a line (such as: dgx-a tags=train), or name another: --hosts FILE."
        ) from None


def serve(settings: HubSettings, ready: Optional[Callable[[Any, str], None]] = None) -> None:
    """Run a hub and its HTTP face until SIGTERM or SIGINT. ``ready`` gets the hub and its URL once it answers.

    Raises GpuwatchError for an address, hosts file or time zone that cannot be.
    """
    from gpuwatch.hub.service import Hub
    from gpuwatch.render.fragments import Fragments
    from gpuwatch.serve.http import CertificateFiles, Server
    from gpuwatch.serve.uploads import UploadLimits
    from gpuwatch.web.app import make_app
    from gpuwatch.web.base import checked
    from gpuwatch.web.metrics import FORMS_BEAT_SECONDS, FormsAhead
    from gpuwatch.web.push_lines import BEAT_SECONDS, PushLines
    from gpuwatch.web.routes import ROUTES

    _keep_memory_small()
    hub = Hub(settings)
    _require_hosts(settings.hosts)
    base = checked(settings.base_path)
    uploads = UploadLimits(tuple({way + route.path: None for route in ROUTES if route.upload for way in ("", base)}), settings.upload_max_bytes)
    tls, lines = CertificateFiles.of(settings.tls_cert, settings.tls_key), PushLines(hub, base)
    fragments = Fragments()
    server = Server(
        make_app(hub, fragments), settings.host, settings.port, settings.threads, not settings.no_access_log,
        uploads=uploads, tls=tls, trusted_proxies=settings.trusted_proxies, taker=lines,
    )  # fmt: skip
    stop = Stop()
    pushing = Loop("push reader", lines.run_once, BEAT_SECONDS, stop)
    forms = Loop("forms", FormsAhead(hub, fragments).run_once, FORMS_BEAT_SECONDS, stop)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.close())
    hub.start()
    hub.watch(pushing.start())
    forms.start()
    _calm_collector()
    # a poll gives up the interpreter at each system call; while a page is rendered it must get it back soon
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        (ready or _announce)(hub, server.url.rstrip("/") + base + "/")
        server.run()
    finally:
        stop.set()
        pushing.join(STOP_SECONDS)
        lines.close()
        hub.stop()


def _calm_collector() -> None:
    """Readings are freed by their reference counts; scanning all of them for cycles, as Python does by default, cost more than rendering them.

    Cycles (of exceptions, of asyncio) are still found, only later.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


def _keep_memory_small() -> None:
    """Bodies of megabytes come and go in many threads: give them back to the system at once, from few pools (glibc's mallopt; else nothing)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_ARENA_MAX, 2)
    mallopt(M_MMAP_THRESHOLD, 256 * 1024)


def _announce(hub: Any, url: str) -> None:
    settings = hub.settings
    click.echo(f"gpuwatch hub shows {settings.hosts} on {url}  (curl '{url}?term=true'). Ctrl-C ends it.")
    arguments = "whole command lines" if settings.show_arguments else "names of programs without their arguments"
    if is_loopback(settings.host):
        click.echo(
            "Only this machine can reach it. To open it to the network: --host 0.0.0.0, or host = \"0.0.0.0\" under [hub] in the settings file. "
            f"Strangers then see hosts, GPUs, states, users and {arguments}."
        )
    else:
        click.echo(f"Whoever reaches {settings.host}:{settings.port} sees hosts, GPUs, states, users and {arguments}.")
