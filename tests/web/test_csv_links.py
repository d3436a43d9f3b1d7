"""Every table and chart of the pages has its CSV: each link answers with a table whose columns have names, also at a past moment."""

from __future__ import annotations

import csv
import io
import re
from html import unescape

import pytest
from tests.query.lab import Lab
from tests.rules.machine import Machine
from tests.web.readings import Readings

from gpuwatch.render.csv_processes import NOW_COLUMNS
from gpuwatch.web import app as app_module
from gpuwatch.web.app import make_app

PAGES = {
    "/": (0, ["/?format=csv"]),
    "/hosts/alpha": (1, ["/hosts/alpha?format=csv", "/hosts/alpha?format=csv&table=processes", "/history?host=alpha"]),
    "/gpus/GPU-a0": (1, ["/gpus/GPU-a0?format=csv", "/gpus/GPU-a0?format=csv&table=processes", "/history?host=alpha&gpu=GPU-a0", "/api/v1/processes?"]),
    "/history": (1, ["/history?range=24h", "/api/v1/log.csv?day=", "/api/v1/log.csv?week=", "/api/v1/log.csv?month="]),
    "/history?host=alpha&gpu=1&range=6h": (1, ["/history?host=alpha&gpu=GPU-a1", "/api/v1/log.csv?day=2026-11-21&host=alpha&gpu=GPU-a1", "/api/v1/processes?"]),
    "/history?user=lisa": (0, ["/history?user=lisa", "/api/v1/processes?"]),
    "/reports?period=day": (5, ["/api/v1/log.csv?day=2026-11-21", "table=heat", "table=idle", "table=inactive", "table=downtime"]),
    "/reports?period=week": (5, ["/api/v1/log.csv?week=2026-11-16"]),
    "/reports?period=month&by=gpu": (5, ["/api/v1/log.csv?month=2026-11-01"]),
    "/import": (1, ["/import?format=csv"]),
}
"""Page: (how many tables or groups of charts it has at least, what its CSV links begin with or hold)."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("lab") / "lab.db", "alpha")
    lab.add("alpha", Machine(1, lab.at("2026-11-20T20:00:00"), 20, name="a"), 700, packed=640)
    lab.latest.tick(lab.end_at("alpha") + 5)
    return lab


@pytest.fixture
def get(lab, monkeypatch):
    monkeypatch.setattr(app_module.time, "time", lambda: lab.end_at("alpha") + 5)
    app = make_app(Readings(lab))

    def get(address):
        path, _, query = address.partition("?")
        told = {}
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query, "wsgi.input": io.BytesIO(), "SERVER_NAME": "hub", "SERVER_PORT": "1",
            "wsgi.url_scheme": "http", "HTTP_ACCEPT": "text/html",
        }  # fmt: skip
        body = b"".join(app(environ, lambda status, headers, *_: told.update(status=int(status[:3]), headers=dict(headers))))
        return told["status"], told["headers"]["Content-Type"], body.decode()

    return get


def csv_links(page):
    return list(dict.fromkeys(unescape(one) for one in re.findall(r'href="([^"]+)"', page) if "csv" in one and "/static/" not in one))


@pytest.mark.parametrize("at", ["", "at=2026-11-20T22:00:00"])
@pytest.mark.parametrize("address", PAGES)
def test_csv_links(get, address, at):
    if at and address.startswith(("/import", "/reports")):
        at = ""
    status, _, page = get("&".join(part for part in (address if "?" in address else address + "?", at) if part))
    assert status == 200
    links = csv_links(page)
    least, wanted = PAGES[address]
    assert len(links) >= least
    for one in wanted:
        assert [link for link in links if one in link] or at, f"{one} is none of {links}"
    assert links
    for link in links:
        status, kind, body = get(link)
        assert (status, kind) == (200, "text/csv; charset=utf-8"), link
        rows = list(csv.reader(io.StringIO(body, newline="")))
        assert rows[0] == [name for name in rows[0] if re.fullmatch(r"[a-z0-9_]+", name)], link
        assert {len(row) for row in rows} == {len(rows[0])}, link


def test_processes_of_a_host_and_of_a_gpu(get, lab):
    def rows(address):
        return list(csv.DictReader(io.StringIO(get(address)[2], newline="")))

    found = rows("/hosts/alpha?format=csv&table=processes")
    reading = Readings(lab).cluster().nodes[0]
    assert len(found) == sum(len(view.reading.processes) for view in reading.gpus) > 0
    assert list(found[0]) == [name for name, _ in NOW_COLUMNS]
    assert {row["host"] for row in found} == {"alpha"}
    one = found[0]["gpu"]
    assert rows(f"/gpus/{one}?format=csv&table=processes") == [row for row in found if row["gpu"] == one]
    assert get("/hosts/alpha?format=csv&table=x")[0] == 400
