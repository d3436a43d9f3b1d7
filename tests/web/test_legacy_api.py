"""Seed 000's routes over a real store: whose machine, spans, uploads, errors."""

from __future__ import annotations

import io
import json

import bottle
import pytest
from tests.query.lab import Lab
from tests.rules.machine import Machine
from tests.web.readings import Readings, sent

from gpuwatch.model.cluster import ClusterNow, NodeState, Target
from gpuwatch.query.past import Pasts
from gpuwatch.render.fragments import Fragments
from gpuwatch.web import legacy_api
from gpuwatch.web.app import _error_reply
from gpuwatch.web.base import Base
from gpuwatch.web.context import Context
from gpuwatch.web.params import Params
from gpuwatch.web.replies import Pages, Streams

UPLOAD = b"GPU Index,GPU Name,Timestamp,Utilization %,Memory Used (MiB)\r\n0,RTX,2025-04-29 14:18:23,2,413\r\n"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("lab") / "lab.db", "alpha", "beta", "gone")
    lab.add("alpha", Machine(1, lab.at("2026-11-20T20:00:00"), 20, name="a"), 700, packed=640)
    lab.add("beta", Machine(2, lab.at("2026-11-20T23:31:00"), 60, name="b"), 20)
    lab.latest.tick(lab.end_at("alpha") + 5)
    return lab


@pytest.fixture
def ask(lab):
    hub, shared = Readings(lab), (Pages(), Fragments(), Streams(1), Pasts())

    def ask(view, query="", *, body=b"", content_type="", view_hub=hub):
        environ = {"REQUEST_METHOD": "POST" if body else "GET", "PATH_INFO": "/api/x", "QUERY_STRING": query, "wsgi.input": io.BytesIO(body)}
        environ.update({"CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": content_type})
        bottle.request.bind(environ)
        try:
            context = Context(view_hub, *shared, Params.parse(query), "stranger", {}, "/api/x", lab.end_at("alpha") + 5)
            answer = sent(view(context))
        except Exception as error:
            answer = sent(_error_reply(error, Base("")))
        assert answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(answer.body)

    return ask


def form(data, name="a.csv", field="csvFile"):
    head = f'--xx\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\nContent-Type: text/csv\r\n\r\n'
    return {"body": head.encode() + data + b"\r\n--xx--\r\n", "content_type": "multipart/form-data; boundary=xx"}


def test_one_machine_now(ask, lab):
    status, gpus = ask(legacy_api.gpu_stats)
    assert status == 200
    assert [gpu["index"] for gpu in gpus] == list(range(len(gpus)))
    assert ask(legacy_api.gpu_stats, "host=alpha") == (200, gpus)
    assert set(ask(legacy_api.cpu_live_info)[1]) == {"cpu_percent", "per_core", "load_avg", "model_name"}
    status, users = ask(legacy_api.user_gpu_usage)
    assert status == 200
    assert users
    assert all(set(one) == {"username", "gpu_memory_mib", "gpu_memory_percentage"} for one in users)


@pytest.mark.parametrize("view", [legacy_api.gpu_stats, legacy_api.cpu_live_info, legacy_api.user_gpu_usage])
@pytest.mark.parametrize("host", ["gone", "beta"])
def test_a_machine_without_readings(ask, view, host):
    status, body = ask(view, f"host={host}")
    assert status == 500
    assert body["error"]


@pytest.mark.parametrize("view", [legacy_api.gpu_stats, legacy_api.historical_gpu_stats, legacy_api.historical_user_gpu_usage])
def test_a_machine_that_is_none(ask, view):
    status, body = ask(view, "host=nobody")
    assert (status, body["error"]) == (400, "There is no host 'nobody'.")


def test_all_machines(ask):
    status, servers = ask(legacy_api.all_gpu_status)
    assert status == 200
    assert [(one["name"], one["reachable"]) for one in servers] == [("alpha", True), ("beta", False), ("gone", False)]


@pytest.mark.parametrize("query", ["", "range=daily", "range=weekly", "range=monthly", "start_date=2026-11-20&end_date=2026-11-21", "start_date=2026-11-20"])
def test_history_of_gpus(ask, lab, query):
    status, gpus = ask(legacy_api.historical_gpu_stats, query)
    assert status == 200
    assert gpus
    for gpu in gpus:
        assert set(gpu) == {"index", "name", "timestamps", "utilization", "memory"}
        assert len(gpu["timestamps"]) == len(gpu["utilization"]) == len(gpu["memory"]) > 0
        assert gpu["timestamps"] == sorted(gpu["timestamps"])
        assert gpu["timestamps"][0] >= "2026-11-20 19:00:00"
        assert any(value is not None for value in gpu["memory"])


@pytest.mark.parametrize("query", ["", "range=weekly", "start_date=2026-11-20&end_date=2026-11-21"])
def test_history_of_users(ask, query):
    status, users = ask(legacy_api.historical_user_gpu_usage, query)
    assert status == 200
    assert users
    for user in users:
        assert set(user) == {"username", "timestamps", "gpu_memory_mib", "gpu_memory_percentage"}
        assert len(user["timestamps"]) == len(user["gpu_memory_mib"]) == len(user["gpu_memory_percentage"])


def local(lab, text):
    return lab.at(text.replace(" ", "T"))


@pytest.mark.parametrize(("query", "step"), [("range=daily", 300), ("range=weekly", 900), ("range=monthly", 3600), ("start_date=2026-11-20&end_date=2026-11-21", 900)])
def test_the_history_of_gpus_is_what_was_sampled(ask, lab, query, step):
    """Against the samples themselves, those that still wait in the journal included."""
    sampled = {}
    for sample in lab.all["alpha"]:
        for gpu in sample.places.gpus:
            values = sample.values
            pair = [None if place is None else values[place] for place in (gpu.utilization_percent, gpu.memory_used_bytes)]
            for metric, value in enumerate(pair):
                if value is not None:
                    sampled.setdefault((gpu.index, sample.at // step * step, metric), []).append(value)
    checked = 0
    for gpu in ask(legacy_api.historical_gpu_stats, query)[1]:
        for text, utilization, memory in zip(gpu["timestamps"], gpu["utilization"], gpu["memory"]):
            at = local(lab, text)
            assert at % step == 0
            for metric, found, unit, off in ((0, utilization, 1, 0.11), (1, memory, 1024**2, 1.01)):
                wanted = sampled.get((gpu["index"], at, metric))
                assert (found is None) == (not wanted)
                if wanted:
                    checked += 1
                    assert found == pytest.approx(sum(wanted) / len(wanted) / unit, abs=off)
    assert checked > 10


def test_the_history_of_users_is_what_was_sampled(ask, lab):
    """At each step: what the user's processes held at the sample that stands for it, give or take what changes within one process's time."""
    wanted = {}
    for sample in lab.all["alpha"]:
        for gpu in sample.places.gpus:
            for one in gpu.processes:
                if one.user:
                    wanted.setdefault(one.user, set()).add(sample.at)
    users = ask(legacy_api.historical_user_gpu_usage, "range=daily")[1]
    assert {one["username"] for one in users} == {user for user, times in wanted.items() if len(times) > 100}
    for user in users:
        for text in user["timestamps"]:
            at = local(lab, text)
            assert any(abs(at - when) <= 3 * 20 for when in wanted[user["username"]]), text
        assert len(user["timestamps"]) > 10


def test_very_many_processes_are_asked_for_day_by_day(ask, monkeypatch):
    query = "start_date=2026-11-20&end_date=2026-11-21"
    whole = ask(legacy_api.historical_user_gpu_usage, query)
    real, spans = legacy_api.processes, []

    def counted(*args, **given):
        spans.append(given["end_at"] - given["start_at"])
        return real(*args, **{**given, "limit": 10_000})

    monkeypatch.setattr(legacy_api, "processes", counted)
    monkeypatch.setattr(legacy_api, "MOST_ROWS", 1)
    assert ask(legacy_api.historical_user_gpu_usage, query) == whole
    assert len(spans) == 3
    assert max(spans[1:]) <= 86400


@pytest.mark.parametrize("view", [legacy_api.historical_gpu_stats, legacy_api.historical_user_gpu_usage])
def test_ranges_that_are_none(ask, view):
    assert ask(view, "range=bogus") == (400, {"error": "Invalid time range"})
    status, body = ask(view, "start_date=2026-02-30&end_date=2026-03-01")
    assert status == 400
    assert "2026-02-30" in body["error"]


def test_history_without_a_database(ask, lab):
    hub = Readings(lab)
    hub.store = None
    assert ask(legacy_api.historical_gpu_stats, view_hub=hub)[0] == 503


def test_an_upload(ask):
    assert ask(legacy_api.analyze_csv, **form(UPLOAD)) == (
        200, [{"index": 0, "memory": [413], "name": "RTX", "timestamps": ["2025-04-29 14:18:23"], "utilization": [2]}],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ({}, "No file uploaded"),
        (form(UPLOAD, field="other"), "No file uploaded"),
        ({"body": b"x=1", "content_type": "application/x-www-form-urlencoded"}, "No file uploaded"),
        ({"body": b"no form", "content_type": "multipart/form-data; boundary=xx"}, "No file uploaded"),
        (form(UPLOAD, name="a.txt"), "File must be a CSV"),
        (form(b""), "The CSV file is empty"),
        (form(b"a,b\n1,2\n"), "Missing required columns: GPU Index, GPU Name, Timestamp, Utilization %, Memory Used (MiB)"),
        (form(b"\0" * 5000), "No valid GPU data found in the CSV file"),
        (form(b"\xff" * 5000), "Missing required columns: GPU Index, GPU Name, Timestamp, Utilization %, Memory Used (MiB)"),
    ],
)
def test_uploads_that_are_none(ask, sent, text):
    assert ask(legacy_api.analyze_csv, **sent) == (400, {"error": text})


def test_uploads_have_a_size_cap(ask, monkeypatch):
    monkeypatch.setattr(legacy_api, "MOST_UPLOAD_BYTES", 1000)
    status, body = ask(legacy_api.analyze_csv, **form(UPLOAD * 100))
    assert status == 400
    assert "larger than" in body["error"]


def test_uploads_are_taken_one_after_the_other(ask, lab):
    for _ in range(3):
        assert ask(legacy_api.analyze_csv, **form(UPLOAD))[0] == 200


def test_the_hub_s_own_machine():
    def at(*hosts):
        return ClusterNow(1.0, tuple(NodeState(Target(f"n{number}", host, 7080), "", "up", None) for number, host in enumerate(hosts)))

    assert legacy_api.own_machine(at("a", "127.0.0.1"), "hub") == "n1"
    assert legacy_api.own_machine(at("a", "hub"), "hub.lab.example") == "n1"
    assert legacy_api.own_machine(at("a", "b"), "hub") == "n0"
    assert legacy_api.own_machine(at(), "hub") == ""
