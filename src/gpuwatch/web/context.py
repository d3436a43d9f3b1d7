"""What a view function gets: the hub, the request's parameters, and the pages kept ready."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from email.utils import formatdate
from functools import cached_property
from typing import Any, Callable, Hashable, Mapping, Optional, Protocol, Tuple

from gpuwatch.config.settings import HubSettings
from gpuwatch.hub.enrolment import Enrolment
from gpuwatch.hub.guesses import Guesses
from gpuwatch.hub.old_systems import GpuNumbers
from gpuwatch.hub.pushes import Pushes
from gpuwatch.hub.vesta import VestaSenders
from gpuwatch.hub.workers import Workers
from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.errors import GpuwatchError
from gpuwatch.model.hubs import HubShare
from gpuwatch.model.view import ViewOptions
from gpuwatch.query.changes import change
from gpuwatch.query.latest import Latest
from gpuwatch.query.past import Pasts, cluster_at
from gpuwatch.query.tail import Tails
from gpuwatch.render import words
from gpuwatch.render.fragments import Fragments
from gpuwatch.web.ahead import Ahead
from gpuwatch.web.params import Params
from gpuwatch.web.replies import Body, Pages, Reply, Streams
from gpuwatch.web.uploads import Rate

CHANGES = ("", "before", "after")
"""``change=``: from ``at=`` to the change of processes before or after it."""


class Readings(Protocol):
    """What the web asks of the hub (``hub.service.Hub``)."""

    settings: HubSettings
    store: Any
    """None while the database cannot be opened."""
    timezone: str
    latest: Latest
    pushes: Pushes
    enrolment: Enrolment
    vesta: VestaSenders
    workers: Workers
    gpu_numbers: GpuNumbers
    guesses: Guesses

    def cluster(self, audience: str = "stranger", *, host: Optional[str] = None, gpu: Optional[str] = None) -> ClusterNow:
        """The cluster now; with ``host`` or ``gpu`` (UUID) that node alone."""

    def health(self) -> str:
        """What of the hub does not do its work, in words; empty = it is well."""

    def hubs(self) -> Tuple[HubShare, ...]:
        """All hubs that share the database, this one among them."""

    def version(self) -> int:
        """Changes when the cluster changes; cheap."""


@dataclass(frozen=True)
class Context:
    """One request."""

    hub: Readings
    pages: Pages
    """Of the present, or of the past: bodies of the past do not push those of now out."""
    fragments: Fragments
    """Shared by the pages of now; those of the past have their own each."""
    streams: Streams
    pasts: Pasts
    params: Params
    audience: str
    path: Mapping[str, str]
    """The route's variables: name, uuid."""
    url: str
    now: float
    """When the request came, epoch seconds."""
    ahead: Ahead = field(default_factory=Ahead)
    """Makes slow bodies before they are asked for again."""
    uploads: Rate = field(default_factory=Rate)
    """How many files this client sent."""

    @property
    def base_path(self) -> str:
        """Before the hub's addresses in texts; empty for none. Pages and headers get it in ``web.base``."""
        return self.hub.settings.base_path.strip().rstrip("/")

    @property
    def at(self) -> Optional[float]:
        """The past moment asked about, epoch seconds; None = now. With ``change=before|after`` that of the change. Raises UsageError, StoreError."""
        return self._at if "at" in self.params.values else None  # most requests ask about now, and are short

    @cached_property
    def _at(self) -> Optional[float]:
        at = self._asked_at
        return at if self._change is None else self._change

    @cached_property
    def _asked_at(self) -> Optional[float]:
        return self.params.moment(self.now, words.zone_of(self.hub.timezone))

    @cached_property
    def _change(self) -> Optional[float]:
        """The moment before or after ``at=`` at which a process of what the path names began or ended; None = not asked for, or there is none."""
        way = self.params.choice("change", CHANGES)
        if not way or self._asked_at is None or self.hub.store is None:
            return None
        tails = self.fragments.get("tails", 0, Tails)
        host, gpu = self.path.get("name", ""), self.path.get("uuid", "")
        return change(self.hub.store, self.hub.latest, self._asked_at, self.now, later=way == "after", host=host, gpu=gpu, tails=tails)

    @property
    def _no_change(self) -> str:
        """What a page says whose next change was asked for in vain."""
        way = self.params.choice("change", CHANGES)
        if not way or self._asked_at is None or self._change is not None:
            return ""
        return f"No process is known to have begun or ended {way} {words.date_time(self._asked_at, self.hub.timezone)}."

    def options(self) -> ViewOptions:
        """The view's options. Raises UsageError."""
        options = self.params.view(self.audience)
        return options if self.at is None else replace(options, at=self.at, moment=words.moment(self.at, self.hub.timezone))

    def cluster(self, **only: str) -> ClusterNow:
        """The cluster now, or at the moment asked about, cut to what the audience may see. ``only``: host or gpu."""
        if self.at is None:
            return self.hub.cluster(self.audience, **only)
        if self.hub.store is None:
            raise GpuwatchError("The database is not open, so there is no past to look at.", "The page of now says why.")
        found = cluster_at(self.hub.store, self.hub.latest, self.at, self.now, self.audience, pasts=self.pasts, **only)
        return replace(found, notices=(*found.notices, self._no_change)) if self._no_change else found

    def kept(self, key: Hashable, content_type: str, render: Callable[[ClusterNow], bytes], **only: str) -> Reply:
        """A body that many readers share: by key, audience, and the cluster's version or the moment. ``only``: what the key is about."""

        def make() -> Body:
            return Body(render(self.cluster(**only)), content_type)

        if self.at is None:
            return Reply(self.pages.get((key, self.audience), self.hub.version(), make))
        return Reply(self.pages.get((key, self.audience, self.at, self._no_change), 0, make), headers=self.dated())

    def dated(self) -> Mapping[str, str]:
        """The header that marks an answer as one of the past (RFC 7089); none for an answer of now."""
        return {} if self.at is None else {"Memento-Datetime": formatdate(self.at, usegmt=True)}

