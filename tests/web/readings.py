"""The hub as web's tests about time need it: settings, a store that a ``tests.query.lab.Lab`` filled, and the cluster shortly after its last reading."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

import bottle

from gpuwatch.config.settings import HubSettings
from gpuwatch.query.cluster import cluster
from gpuwatch.web.app import ANSWER, _answer
from gpuwatch.web.base import Base
from gpuwatch.web.replies import Reply


class Readings:
    """What views read of a hub."""

    settings = HubSettings()
    timezone = "Europe/Berlin"

    def __init__(self, lab):
        self.lab, self.store, self.latest = lab, lab.store, lab.latest

    def cluster(self, audience="stranger", *, host=None, gpu=None):
        return cluster(self.latest, self.lab.end_at("alpha") + 5, audience, host=host, gpu=gpu)

    def health(self):
        return ""

    def version(self):
        return self.latest.version


class Sent(NamedTuple):
    """What a reply becomes."""

    status: int
    headers: Mapping[str, str]
    body: Any
    """bytes, or pieces of them."""


def sent(reply: Reply) -> Sent:
    """The answer to the request that bottle holds."""
    body = _answer(reply, Base(""))
    if isinstance(body, bottle.HTTPResponse):
        return Sent(body.status_code, body.headers, body.body)
    line, headers = bottle.request.environ[ANSWER]
    return Sent(int(line.split()[0]), dict(headers), body)
