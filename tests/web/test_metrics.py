"""The hub's /metrics: types, packed and plain, what is refused, what is kept."""

from __future__ import annotations

import zlib
from dataclasses import replace

import bottle
import pytest
from tests.render.live import Live
from tests.web.readings import sent
from tests.web.test_ahead import NoLoop

from gpuwatch.config.settings import HubSettings
from gpuwatch.hub.guesses import Guesses
from gpuwatch.model.errors import UsageError
from gpuwatch.query.past import Pasts
from gpuwatch.render import as_prometheus, prometheus_rows
from gpuwatch.render.fragments import Fragments
from gpuwatch.web import ahead, metrics
from gpuwatch.web.ahead import Ahead
from gpuwatch.web.context import Context
from gpuwatch.web.params import Params
from gpuwatch.web.replies import Pages, Streams


class Hub:
    settings = HubSettings()
    store = None
    timezone = "UTC"

    def __init__(self):
        self.guesses = Guesses()
        self.live = Live()
        self.live.poll()
        self.latest = self.live.latest
        self.rendered = 0

    def cluster(self, audience="stranger"):
        self.rendered += 1
        return self.live.cluster(audience)

    def version(self):
        return self.latest.version


@pytest.fixture
def ask():
    clock = [1000.0]
    hub, shared, foresight = Hub(), (Pages(lambda: clock[0]), Fragments(), Streams(1), Pasts()), Ahead(lambda: clock[0])

    def ask(query="", **headers):
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", **{f"HTTP_{name.upper()}": value for name, value in headers.items()}}
        bottle.request.bind(environ)
        return sent(metrics.metrics(Context(hub, *shared, Params.parse(query), "stranger", {}, "/metrics", hub.live.now, foresight)))

    ask.hub, ask.ahead, ask.clock = hub, foresight, clock
    return ask


def body_of(answer):
    return b"".join([answer.body] if isinstance(answer.body, bytes) else answer.body)


def test_plain_and_packed_are_the_same_and_rendered_once(ask):
    plain = ask()
    assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = body_of(plain)
    assert b'\nDCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="' in text
    assert b"gpuwatch_process" not in text
    packed = ask(accept_encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert zlib.decompress(body_of(packed), 31) == text
    assert ask.hub.rendered == 1


def test_openmetrics_and_processes(ask):
    answer = ask("processes=true", accept="application/openmetrics-text;version=1.0.0;q=0.9,*/*;q=0.1")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    text = body_of(answer)
    assert text.endswith(b"# EOF\n")
    assert b"gpuwatch_process_gpu_memory_bytes{" in text


def test_large_ones_are_unpacked_piece_by_piece(ask, monkeypatch):
    text = body_of(ask())
    monkeypatch.setattr(metrics, "STREAMED_BYTES", 100)
    assert b"".join(ask().body) == text


def test_slow_ones_are_made_before_the_next_scrape_of_a_rhythm(ask, monkeypatch):
    monkeypatch.setattr(ahead, "SLOW_SECONDS", 0.0)
    monkeypatch.setattr(ahead, "Loop", NoLoop)
    for _ in range(2):
        ask()
        ask.hub.live.poll()
        ask.clock[0] += 15.0
    assert ask.hub.rendered == 2
    ask.ahead.run_once(ask.clock[0] - 0.1)
    assert ask.hub.rendered == 3
    text = body_of(ask())
    assert ask.hub.rendered == 3, "it was ready"
    assert b'\nDCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="' in text


def test_the_past_is_elsewhere(ask):
    with pytest.raises(UsageError, match="what is now"):
        ask("at=-1h")


def test_forms_are_made_before_anybody_asks_and_anew_once_a_minute(monkeypatch):
    hub, cache, made, form = Hub(), Fragments(), [], prometheus_rows.Form
    monkeypatch.setattr(prometheus_rows, "Form", lambda node, tables: (made.append(node.name), form(node, tables))[1])
    up = [node.name for node in hub.cluster().nodes if node.status == "up"]
    assert len(up) > 2
    monkeypatch.setattr(metrics, "FORMS_A_BEAT", 2)
    forms = metrics.FormsAhead(hub, cache)
    for now in range(1000, 1000 + len(up)):
        forms.run_once(now)
        assert len(made) == min(2 * (now - 999), len(up)), "some a beat, none twice"
    assert sorted(made) == sorted(up)
    text = "".join(as_prometheus.cluster_metrics(hub.cluster(), cache=cache))
    assert (len(made), "DCGM_FI_DEV_GPU_UTIL{" in text) == (len(up), True), "a first scrape makes none"

    monkeypatch.setattr(metrics, "FORMS_A_BEAT", 200)
    hub.live.poll(lambda snapshot: replace(snapshot, host=replace(snapshot.host, kernel="6.9.9")))
    del made[:]
    forms.run_once(1030)
    assert made == []
    forms.run_once(1070)
    assert sorted(made) == sorted(up)
    assert 'kernel="6.9.9"' in "".join(as_prometheus.cluster_metrics(hub.cluster(), cache=cache))
    assert len(made) == len(up)

    hub.latest.set_targets([(node.target, node.machine_id) for node in hub.cluster().nodes[:1]], hub.live.now)
    forms.run_once(1080)
    hub.live.poll()
    forms.run_once(1090)
    assert len(made) == len(up), "those that are gone are forgotten, and nothing breaks"
