"""The hub as web's tests about time need it: settings, a store that a ``tests.query.lab.Lab`` filled, and the cluster shortly after its last reading."""

from __future__ import annotations

from gpuwatch.config.settings import HubSettings
from gpuwatch.query.cluster import cluster


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
