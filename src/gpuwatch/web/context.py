"""What a view function gets: the hub, the request's parameters, and the pages kept ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Hashable, Mapping, Optional, Protocol

from gpuwatch.config.settings import HubSettings
from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.view import ViewOptions
from gpuwatch.render.fragments import Fragments
from gpuwatch.web.params import Params
from gpuwatch.web.replies import Body, Pages, Reply, Streams


class Readings(Protocol):
    """What the web asks of the hub (``hub.service.Hub``)."""

    settings: HubSettings
    store: Any
    """None while the database cannot be opened."""
    timezone: str

    def cluster(self, audience: str = "stranger", *, host: Optional[str] = None, gpu: Optional[str] = None) -> ClusterNow:
        """The cluster now; with ``host`` or ``gpu`` (UUID) that node alone."""

    def health(self) -> str:
        """What of the hub does not do its work, in words; empty = it is well."""

    def version(self) -> int:
        """Changes when the cluster changes; cheap."""


@dataclass(frozen=True)
class Context:
    """One request."""

    hub: Readings
    pages: Pages
    fragments: Fragments
    streams: Streams
    params: Params
    audience: str
    path: Mapping[str, str]
    """The route's variables: name, uuid."""
    url: str

    def options(self) -> ViewOptions:
        """The view's options. Raises UsageError."""
        return self.params.view(self.audience)

    def cluster(self) -> ClusterNow:
        """The cluster now, cut to what the audience may see."""
        return self.hub.cluster(self.audience)

    def kept(self, key: Hashable, content_type: str, render: Callable[[ClusterNow], bytes], **only: str) -> Reply:
        """A body that many readers share: by key, audience and the cluster's version. ``only``: host or gpu, what the key is about."""

        def make() -> Body:
            return Body(render(self.hub.cluster(self.audience, **only)), content_type)

        return Reply(self.pages.get((key, self.audience), self.hub.version(), make))

