"""The cluster as one sees it at one time: targets, the state of each node and of each GPU. Pure data, no input or output."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Hashable, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.snapshot import GpuReading, Number, Snapshot

NODE_STATUSES = ("up", "stale", "down", "error", "unseen")
"""up: fresh readings; stale: none for 3 intervals; down: none for 60 s; error: answers, but not with readings; unseen: never answered."""

GPU_STATES = ("free", "busy", "idle", "reserved", "mig", "lost", "stale", "down", "unknown")
"""One a GPU, the worst wins (ui.md section 4). ``unknown``: the values that would decide are not reported."""


SSH = ("ssh", "ssh+copy")
"""Schemes of targets that are read through ssh. Their port 0 means: as ssh's own configuration says."""
SENDING = ("push", "vesta", "worker")
"""Schemes of targets that the hub never asks: gpuwatch nodes that push, senders of seed 004, workers of seed 001. They are enrolled, not in the hosts file."""


@dataclass(frozen=True)
class Target:
    """One line of the hosts file, or an enrolled machine. Its name is its identity in every view. Never carries the secret, only where it is."""

    name: str
    host: str
    port: int
    scheme: str = "http"
    tags: Tuple[str, ...] = ()
    password_file: Optional[str] = None
    interval_seconds: Optional[float] = None
    line: int = 0
    user: Optional[str] = None
    """Who to log in as (ssh; exporters by https); None = as ssh's own configuration says, and as nobody."""
    pin: str = ""
    """``sha256:`` and 64 hex digits of the certificate that it must show (https); empty = any that an authority vouches for."""
    ca_file: str = ""
    """PEM file of the authorities of its certificate (https); empty = the system's."""

    @property
    def by_tls(self) -> bool:
        """It is asked by TLS."""
        return self.scheme.endswith("https")

    @property
    def sends(self) -> bool:
        """It sends by itself and is never asked."""
        return self.scheme in SENDING

    @property
    def address(self) -> str:
        """``host:port``, IPv6 in brackets; ``ssh://user@host`` with the port where one is written; ``push://host`` of one that sends."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.scheme in SSH:
            return f"ssh://{f'{self.user}@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"
        return f"{self.scheme}://{host}" if self.sends else f"{host}:{self.port}"


@dataclass(frozen=True)
class GpuState:
    """What a GPU is doing, since when and why; computed once, in ``query``."""

    state: str
    """One of GPU_STATES."""
    since_at: Optional[float]
    """Since when the row's state holds; None = unknown."""
    at_least: bool = False
    """The state may hold for longer: the hub began to look at ``since_at``."""
    why: str = ""
    """One sentence where the state needs one (lost, unknown)."""
    marks: Tuple[str, ...] = ()
    """``hot``, ``throttled: thermal (hardware)``: warnings on top of the state."""
    no_work_since_at: Optional[float] = None
    """Since when utilization is at most the idle threshold (idle and free GPUs)."""
    was: str = ""
    """The state at the last reading, where ``state`` is stale or down; empty otherwise."""


@dataclass(frozen=True)
class GpuView:
    """A GPU's reading and its state, as every view shows it."""

    host: str
    reading: GpuReading
    state: GpuState
    mig_states: Tuple[GpuState, ...] = ()
    """State of each slice, parallel to ``reading.mig``."""
    recent_utilization: Tuple[Optional[float], ...] = ()
    """Mean utilization of the last 6 h in 36 columns of 10 minutes, oldest first; None = gap."""


class Parts(NamedTuple):
    """A snapshot taken apart: what all samples of its shape share, and this sample's numbers. For renderers that fill in templates."""

    key: Hashable
    """The same as long as no fact changes; what is made of facts alone may be kept under it."""
    places: Callable[[], Snapshot]
    """The facts, with each number's place in place of the number."""
    outline: Callable[[], Snapshot]
    """The same with None in place of each process, which costs half: nobody's commands are in it."""
    values: Sequence[Number]
    """The numbers by place."""
    texts: Callable[[], Sequence[str]]
    """The numbers by place, as JSON writes them."""


@dataclass(frozen=True)
class NodeState:
    """The newest snapshot of a target and how the target is doing."""

    target: Target
    machine_id: str
    status: str
    """One of NODE_STATUSES."""
    status_since_at: Optional[float]
    error: Optional[str] = None
    """Why there are no fresh readings, in words, with the next step."""
    snapshot: Optional[Snapshot] = None
    """The newest snapshot, also when it is old."""
    received_at: Optional[float] = None
    """When the hub got the snapshot, by the hub's clock."""
    clock_skew_seconds: Optional[float] = None
    """The node's clock minus the hub's; None = not measured."""
    gpus: Tuple[GpuView, ...] = ()
    version: int = 0
    """Changes whenever anything else of this NodeState changes. Key of rendered fragments."""
    parts: Optional[Parts] = field(default=None, compare=False, repr=False)
    """The snapshot again, for those who need not have it built; None where nobody took it apart."""
    restored: bool = False
    """The snapshot is from before this hub began, and none came since."""

    @property
    def states(self) -> Tuple[Tuple[GpuState, Tuple[GpuState, ...]], ...]:
        """State of each GPU and of its slices, parallel to ``gpus``."""
        return tuple([(view.state, view.mig_states) for view in self.gpus])

    @property
    def recent_utilization(self) -> Tuple[Tuple[Optional[float], ...], ...]:
        """That of each GPU, parallel to ``gpus``."""
        return tuple([view.recent_utilization for view in self.gpus])

    @property
    def name(self) -> str:
        """The target's name."""
        return self.target.name


@dataclass(frozen=True)
class ClusterNow:
    """Every target of the hosts file, in its order."""

    taken_at: float
    nodes: Tuple[NodeState, ...]
    interval_seconds: float = 5.0
    title: str = ""
    """Name of the lab."""
    timezone: str = "UTC"
    simulated: bool = False
    """Some node's GPUs are simulated: pages say so."""
    notices: Tuple[str, ...] = ()
    """Trouble of the hub itself: full disk, bad lines of the hosts file."""
    version: int = 0
    """Changes when any node's version, the order, or a notice changes."""
    audience: str = "stranger"
    """Who this was made for: commands are already cut to what they may see."""
    idle_memory_bytes: float = 100e6
    """Memory held from which a GPU without work counts as idle."""
    idle_utilization_percent: float = 1.0
    """Utilization up to which there is no work."""
    idle_after_seconds: float = 1800.0
    """How long there is no work until a GPU counts as idle."""
    at: Optional[float] = None
    """The past moment that was asked about, and what ``taken_at`` is then; None = now."""
    asked_at: Optional[float] = None
    """When the past was asked about."""
    kept_since_at: Optional[float] = None
    """With ``at``: before this there are no readings; None = nothing is kept yet."""
