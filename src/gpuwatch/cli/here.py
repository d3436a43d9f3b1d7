"""The cluster as ``status`` and ``pick`` see it: this machine, read once in a sampler process, or a hub, or a hub's database."""

from __future__ import annotations

import time
from dataclasses import replace

from gpuwatch.config.load import timezone_name
from gpuwatch.config.settings import HubSettings, NodeSettings
from gpuwatch.model.cluster import ClusterNow, NodeState, Target
from gpuwatch.model.errors import GpuwatchError, UsageError, WireError

FIRST_PAUSE_SECONDS = 0.4
"""Between the two samples: CPU shares and SM activity need two."""


def this_machine(settings: NodeSettings, audience: str = "admin") -> ClusterNow:
    """This machine's GPUs now. Who can run the command can see all arguments anyway. Raises GpuwatchError if the driver hangs."""
    from gpuwatch.node.once import read_once
    from gpuwatch.query.cluster import cluster
    from gpuwatch.query.latest import Display, Latest
    from gpuwatch.wire.flat import Flattener, Shape

    snapshot = read_once(settings, FIRST_PAUSE_SECONDS)
    flat = Flattener().flatten(snapshot)
    assert flat.shape is not None
    now = time.time()
    latest = Latest(display=Display(timezone=timezone_name(settings), interval_seconds=settings.interval))
    latest.set_targets([(Target(snapshot.hostname or "localhost", "127.0.0.1", 0), "0" * 32)], now)
    latest.accept(snapshot.hostname or "localhost", Shape.parse(flat.shape), flat.values, received_at=now, clock_skew_seconds=None)
    return cluster(latest, now, audience)


def from_database(settings: HubSettings, audience: str = "admin") -> ClusterNow:
    """What the hub's database holds last of each host; marked as old where it is."""
    from gpuwatch.hub.restore import latest_from_store
    from gpuwatch.query.cluster import cluster
    from gpuwatch.store.database import open_store

    store = open_store(settings.database, create=False, read_only=True)
    try:
        now = time.time()
        found = cluster(latest_from_store(store, settings, timezone_name(settings), now), now, audience)
        return replace(found, nodes=tuple(_kept(node) for node in found.nodes))
    finally:
        store.close()


def _kept(node: NodeState) -> NodeState:
    """A node as the database has it: nobody was asked, so nothing is said of answers."""
    if node.snapshot is None:
        return replace(node, status_since_at=None, error="The database holds no reading of it.")
    return NodeState(
        node.target, node.machine_id, node.status, node.status_since_at, "This is the last reading in the database; nobody was asked.",
        node.snapshot, node.received_at, node.clock_skew_seconds, node.gpus, node.version, restored=node.restored,
    )  # fmt: skip


def ask_hub(url: str, path: str, deadline_seconds: float = 10.0) -> bytes:
    """The body of a hub's answer. Raises GpuwatchError in words."""
    from gpuwatch.wire.http import UNTRUSTED, fetch, parse_url

    base = url.rstrip("/") if "://" in url else f"http://{url.rstrip('/')}"
    try:
        parse_url(base)
    except WireError as error:
        raise UsageError(f"--hub: {error.message}", error.next_step) from None
    try:
        reply = fetch(base + path, deadline_seconds=deadline_seconds, max_bytes=64 * 1024**2)
    except WireError as error:
        if UNTRUSTED not in error.message:
            raise
        raise WireError(error.message, "Next: name a file with its certificate, or with that of its authority: SSL_CERT_FILE=FILE gpuwatch ...") from None
    is_page = reply.headers.get("content-type", "").startswith("text/html")  # a hub tells no page to who asks so
    if 300 <= reply.status < 400:
        there = "".join(one for one in reply.headers.get("location", "")[:200] if one.isprintable()) or "elsewhere"
        raise GpuwatchError(f"{base} answered {reply.status}, a redirect to {there}; redirects are not followed.", "Give --hub the address that it leads to.")
    if is_page:
        raise GpuwatchError(f"{base} answered {reply.status} with a web page: no gpuwatch hub.", "Give --hub the address of the hub's front page, with its path: https://host/gpuwatch")
    if reply.status != 200:
        raise GpuwatchError(f"The hub at {base} answered {reply.status}: {reply.body[:200].decode('utf-8', 'replace').strip()}")
    return reply.body
