"""``format=`` of /api/v1/cluster and of a host: ours, gpustat's, nvidia-smi's; others are refused by name."""

from __future__ import annotations

import json

import bottle
import pytest
from tests.web.readings import sent
from tests.web.test_metrics import Hub

from gpuwatch.model.errors import UsageError
from gpuwatch.query.past import Pasts
from gpuwatch.render.fragments import Fragments
from gpuwatch.web import formats
from gpuwatch.web.app import NotFound
from gpuwatch.web.context import Context
from gpuwatch.web.params import Params
from gpuwatch.web.replies import Pages, Streams


class OneHub(Hub):
    def cluster(self, audience="stranger", *, host=None, gpu=None):
        now = super().cluster(audience)
        return now if host is None else type(now)(now.taken_at, tuple(node for node in now.nodes if node.name == host))


@pytest.fixture
def ask():
    hub, shared = OneHub(), (Pages(), Fragments(), Streams(1), Pasts())

    def ask(view, query="", **path):
        bottle.request.bind({"REQUEST_METHOD": "GET", "PATH_INFO": "/api/v1/cluster"})
        return sent(view(Context(hub, *shared, Params.parse(query), "stranger", path, "/api/v1/cluster", hub.live.now)))

    return ask


def test_the_cluster(ask):
    assert "nodes" in json.loads(ask(formats.cluster).body)
    hosts = json.loads(ask(formats.cluster, "format=gpustat&host=gpu01&free=true").body)
    assert [(host["hostname"], [gpu["index"] for gpu in host["gpus"]]) for host in hosts] == [("gpu01", [1, 2])]
    answer = ask(formats.cluster, "format=nvidia-smi-csv&host=gpu01")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.body.count(b"\n") == 7


def test_strangers_see_no_arguments(ask):
    text = ask(formats.cluster, "format=gpustat").body
    assert b"train.py" in text
    assert b"--config" not in text


def test_a_host(ask):
    assert json.loads(ask(formats.host, name="gpu01").body)["name"] == "gpu01"
    assert json.loads(ask(formats.host, "format=gpustat", name="gpu01").body)["hostname"] == "gpu01"
    assert ask(formats.host, "format=nvidia-smi-csv", name="gpu01").body.count(b"gpu01\n") == 6
    with pytest.raises(NotFound):
        ask(formats.host, "format=gpustat", name="nobody")


@pytest.mark.parametrize("view", [formats.cluster, formats.host])
def test_formats_that_are_none(ask, view):
    with pytest.raises(UsageError, match="json, gpustat, nvidia-smi-csv"):
        ask(view, "format=xml", name="gpu01")
