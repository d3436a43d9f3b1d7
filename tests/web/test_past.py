"""``at=`` on every view that reads: the past, marked as such, kept apart from the pages of now; and what cannot be asked."""

import io
import json
import shutil
import threading
from datetime import datetime, timezone
from socketserver import ThreadingMixIn
from urllib.parse import parse_qs, urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from playwright.sync_api import sync_playwright
from tests.hub.readings import busy, gpu
from tests.query.history import START, History

from gpuwatch.config.settings import HubSettings
from gpuwatch.query.cluster import cluster
from gpuwatch.store.digests import Digester
from gpuwatch.web import app as app_module
from gpuwatch.web.app import make_app

NOW = START + 7200.0
AT = "2026-09-21T14:13:42"
"""START + 22 s."""
UUID = "GPU-00000000"


class Hub:
    settings = HubSettings()
    timezone = "UTC"

    def __init__(self, lab):
        self.store, self.latest = lab.store, lab.latest

    def cluster(self, audience="stranger", **only):
        return cluster(self.latest, NOW, audience, **only)

    def health(self):
        return ""

    def version(self):
        return self.latest.version


@pytest.fixture
def lab(tmp_path):
    made = History(str(tmp_path / "gpuwatch.db"), "dgx-a", "dgx-b")
    made.add("dgx-a", *[(5 * n, (busy(0, utilization=50 + n), gpu(1))) for n in range(10)])
    made.add("dgx-b", *[(5 * n, (gpu(2),)) for n in range(4)])
    made.pack()
    made.now("dgx-a", gpu(0), gpu(1))
    yield made
    made.store.close()


@pytest.fixture
def get(lab, monkeypatch):
    monkeypatch.setattr(app_module.time, "time", lambda: NOW)
    app = make_app(Hub(lab))
    return lambda path, query="", accept="": ask_of(app, path, query, accept)


def ask_of(app, path, query="", accept=""):
    told = {}
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query, "wsgi.input": io.BytesIO(), "SERVER_NAME": "hub", "SERVER_PORT": "1",
        "wsgi.url_scheme": "http", "HTTP_ACCEPT": accept,
    }  # fmt: skip
    body = app(environ, lambda status, headers, *_: told.update(status=int(status[:3]), headers=dict(headers)))
    text = b"".join(body).decode()
    return told["status"], told["headers"], text


VIEWS = (
    ("/", ""), ("/", "term=true&"), ("/", "term=true&detail=true&"), ("/", "term=true&view=rows&"), ("/", "format=json&"), ("/", "format=csv&"), ("/", "view=flat&"),
    ("/", "view=grid&"), ("/hosts/dgx-a", ""), ("/hosts/dgx-a", "term=true&"), ("/hosts/dgx-a", "format=json&"), ("/hosts/dgx-a", "format=csv&"), (f"/gpus/{UUID}", ""),
    (f"/gpus/{UUID}", "term=true&"), (f"/gpus/{UUID}", "format=json&"), (f"/gpus/{UUID}", "format=csv&"), ("/api/v1/cluster", ""), ("/api/v1/hosts/dgx-a", ""),
    (f"/api/v1/gpus/{UUID}", ""), ("/gpu_table", "term=true&"), ("/states/", ""), ("/states/dgx-a/", ""), ("/states/dgx-a/", "term=true&"), ("/live", "view=rows&since=0&"),
)  # fmt: skip


@pytest.mark.parametrize(("path", "query"), VIEWS)
def test_every_view_can_be_asked_about_the_past(get, path, query):
    status, headers, body = get(path, f"{query}at={AT}")
    assert status == 200
    assert headers["Memento-Datetime"] == "Mon, 21 Sep 2026 14:13:42 GMT"
    assert body
    if headers["Content-Type"].startswith("text/plain"):
        assert body.startswith("PAST  as it was on Mon 21 Sep 2026 14:13:42 UTC, 1 h 59 m ago\n")
    if query in ("", "view=flat&", "view=grid&") and headers["Content-Type"].startswith("text/html") and not path.startswith("/states"):
        assert "is-past" in body
    now = get(path, query)
    assert "Memento-Datetime" not in now[1]
    assert now[2] != body
    assert get(path, f"{query}at={AT}")[2] == body, "the page of now is not mixed up with it"


def test_the_panel_of_the_grid_gets_its_host_of_then(get):
    news = json.loads(get("/live", f"view=rows&since=0&host=dgx-a&at={AT}")[2])
    assert "train.py" in news["hosts"]["dgx-a"]
    assert [row[0] for row in json.loads(get("/live", f"view=grid&since=0&at={AT}")[2])["cells"]["rows"]] == ["dgx-a", "dgx-b"]


def test_what_was_running_then(get):
    told = json.loads(get("/api/v1/cluster", f"at={AT}")[2])
    assert told["taken_at"] == told["at"] == START + 22
    for path in ("/api/v1/hosts/dgx-a", f"/api/v1/gpus/{UUID}"):
        assert json.loads(get(path, f"at={AT}")[2])["at"] == START + 22
        assert json.loads(get(path)[2])["at"] is None
    first, second = told["nodes"]
    assert first["snapshot"]["gpus"][0]["utilization_percent"] == 54
    assert first["snapshot"]["gpus"][0]["processes"][0]["command"] == "train.py"
    assert [gpu["state"] for gpu in first["snapshot"]["gpus"]] == ["busy", "free"]
    assert second["status"] == "up"
    later = json.loads(get("/api/v1/cluster", f"at={START + 40}")[2])["nodes"][1]
    assert (later["status"], later["snapshot"]) == ("unseen", None)
    assert later["error"] == "No reading at Mon 21 Sep 2026 14:14. The last one before is of 14:13."


def test_text_says_that_there_is_no_reading(get):
    for query in ("", "detail=true&", "view=rows&", "view=rows&width=200&"):
        text = get("/", f"term=true&{query}at={START + 40}")[2]
        assert "no reading" in text
        assert "unseen" not in text
        assert max(map(len, text.splitlines())) <= (200 if "width" in query else 80)


def test_moments_as_people_write_them(get):
    for text in (AT, "1790000022", "today+14:13:42", "2026-09-21%2016:13:42%2B02:00", "-7178s"):
        assert json.loads(get("/api/v1/cluster", f"at={text}")[2])["taken_at"] == START + 22
    assert json.loads(get("/api/v1/cluster", f"at={START}.5")[2])["taken_at"] == START + 0.5
    assert json.loads(get("/api/v1/cluster", "at=now")[2])["taken_at"] == NOW
    assert json.loads(get("/api/v1/cluster", f"at={NOW + 30}")[2])["taken_at"] == NOW, "clocks differ a little"


@pytest.mark.parametrize("path", ["/", "/hosts/dgx-a", "/api/v1/cluster", "/states/", "/live"])
def test_what_is_no_moment_is_refused_in_words(get, path):
    for text, said in (("soon", "not understood"), ("2027-01-01", "in the future"), ("1790000000000", "not milliseconds")):
        status, _, body = get(path, f"at={text}")
        assert status == 400
        assert said in body


def test_the_filter_of_a_page_works_on_the_past(get):
    assert json.loads(get("/", f"format=json&user=lisa&at={AT}")[2])["nodes"][0]["name"] == "dgx-a"
    assert len(json.loads(get("/", f"format=json&user=lisa&at={AT}")[2])["nodes"]) == 1
    assert "No GPU matches" in get("/", f"term=true&user=nobody&at={AT}")[2]


def test_a_gpu_without_a_reading_then(get):
    status, _, page = get(f"/gpus/{UUID}", f"at={START + 3600}")
    assert status == 200
    assert "No reading of this GPU." in page
    assert "No reading at Mon 21 Sep 2026 15:13:20." in page
    status, _, text = get(f"/gpus/{UUID}", f"term=true&at={START + 3600}")
    assert status == 404
    assert text.startswith(f"There is no reading of the GPU '{UUID}' at Mon 21 Sep 2026 15:13:20. dgx-a: No reading")
    assert get("/gpus/GPU-none", f"at={AT}")[0] == 404
    assert get("/hosts/nobody", f"at={AT}")[0] == 404


def test_entries_of_old_clients_count_from_now(get):
    status, _, body = get("/states/dgx-a/", f"at={AT}&fetch_num=3")
    assert status == 400
    assert "fetch_num= counts from now" in body
    entry = json.loads(get("/states/dgx-a/", f"at={AT}")[2])["dgx-a"]["data"]
    assert [one["timestamp"] for one in entry] == [20260921141340]


def test_without_a_database_there_is_no_past(lab):
    hub = Hub(lab)
    hub.store = None
    app = make_app(hub)
    told = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": f"at={AT}", "wsgi.input": io.BytesIO(), "SERVER_NAME": "h", "SERVER_PORT": "1", "wsgi.url_scheme": "http"}
    body = b"".join(app(environ, lambda status, *_: told.append(status))).decode()
    assert told[0].startswith("503")
    assert "The database is not open" in body


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


class Threaded(ThreadingMixIn, WSGIServer):
    """A browser opens connections ahead, on which it asks nothing for a while: they must not keep the others waiting."""

    daemon_threads = True


@pytest.fixture
def address(lab, monkeypatch):
    monkeypatch.setattr(app_module.time, "time", lambda: NOW)
    server = make_server("127.0.0.1", 0, make_app(Hub(lab)), server_class=Threaded, handler_class=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def chromium(playwright):
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert path, "Chromium is not installed. Next: apt-get install chromium"
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])


@pytest.fixture
def page(address):
    said = []
    with sync_playwright() as playwright:
        browser = chromium(playwright)
        opened = browser.new_page(viewport={"width": 1440, "height": 800})
        opened.set_default_timeout(60_000)
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.goto(address)
        yield opened
        browser.close()
    assert said == []


def asked(page):
    return query_of(page.url)


def query_of(url):
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def arrive(page, query):
    """Wait until the page is the one of this query."""
    page.wait_for_url(lambda url: query_of(url) == query)


def test_a_reader_travels(page, address):
    """From now into the past by key, through it by links, slider, picker and keys, with the filter; and back."""
    page.keyboard.press(",")
    page.wait_for_url("**/?at=*")
    assert asked(page)["at"] == "2026-09-21T16:03:20", "ten minutes ago, as an absolute time"
    page.goto(f"{address}/?at={AT}")
    assert page.locator("body.is-past").count() == 1
    page.locator("#q").fill("dgx")
    page.locator("#q").blur()
    page.keyboard.press(".")
    page.wait_for_url("**14:13:47*")
    assert asked(page)["q"] == "dgx"
    page.keyboard.press("<")
    page.get_by_text("No process is known to have begun or ended before").wait_for()
    arrive(page, {"q": "dgx", "at": "2026-09-21T14:13:47"})  # the address stays one that can be sent
    page.locator("#earlier").click()
    page.wait_for_url("**14:13:20*")
    page.locator("tbody .host a").first.click()
    page.wait_for_url("**/hosts/dgx-a?at=*")
    assert asked(page)["at"] == "2026-09-21T14:13:20"
    page.locator("#slider").evaluate("field => { field.value = Number(field.value) + 25; field.dispatchEvent(new Event('input')); field.dispatchEvent(new Event('change')); }")
    assert page.locator(".then b").inner_text() == "Mon 21 Sep 2026 14:13:45"
    page.wait_for_url("**14:13:45*")
    page.locator("input[type=datetime-local]").fill(AT)
    page.locator(".when button").click()
    page.wait_for_url("**14:13:42*")
    page.keyboard.press("l")
    page.wait_for_url("**/hosts/dgx-a")
    assert page.locator("body.is-past").count() == 0


def test_without_a_script_all_of_it_works(lab, address):
    with sync_playwright() as playwright:
        browser = chromium(playwright)
        page = browser.new_page(java_script_enabled=False)
        page.set_default_timeout(60_000)
        page.goto(address)
        page.locator("#goto").click()
        page.wait_for_url(lambda url: "at" in query_of(url))
        page.locator("#before").click()
        page.wait_for_url(lambda url: query_of(url)["at"] != "-10m")
        assert asked(page)["at"] == "2026-09-21T16:03:15"
        page.locator("input[type=datetime-local]").fill(AT)
        page.locator(".when button").click()
        page.wait_for_url(lambda url: "14:13:42" in query_of(url)["at"])
        assert "Mon 21 Sep 2026 14:13:42" in page.locator(".then").inner_text()
        page.locator("#q").fill("lisa")
        page.locator("#find button").click()
        arrive(page, {"q": "lisa", "at": AT})
        page.locator("#back").click()
        arrive(page, {"q": "lisa"})
        browser.close()


# ---- from change to change of the processes


def moment_of(text):
    return text.split('data-at="')[1].split('"')[0]


@pytest.fixture
def comings(tmp_path):
    """dgx-a: a process from 10 s to 20 s and from 45 s on; dgx-b: nobody."""
    made = History(str(tmp_path / "gpuwatch.db"), "dgx-a", "dgx-b")
    made.add("dgx-a", *[(5 * n, (busy(0) if n in (2, 3) or n >= 9 else gpu(0),)) for n in range(12)])
    made.add("dgx-b", *[(5 * n, (gpu(2),)) for n in range(10)])
    made.pack(Digester())
    made.now("dgx-a", gpu(0))
    yield made
    made.store.close()


@pytest.mark.parametrize("path", ["/", "/hosts/dgx-a", f"/gpus/{UUID}"])
def test_steps_from_change_to_change(comings, monkeypatch, path):
    monkeypatch.setattr(app_module.time, "time", lambda: NOW)
    app = make_app(Hub(comings))
    seen, at = [], START
    for way in ("after", "after", "after", "before", "before"):
        _, _, text = ask_of(app, path, f"at={at}&change={way}")
        assert all(part in text for part in ('id="changed-before"', 'id="changed-after"', "change=before"))
        moment = moment_of(text)
        at = datetime.fromisoformat(moment).replace(tzinfo=timezone.utc).timestamp()
        seen.append(at - START)
    assert seen == [10, 20, 45, 20, 10]
    _, _, text = ask_of(app, path, f"at={at}&change=before")
    assert "No process is known to have begun or ended before" in text
    assert datetime.fromisoformat(moment_of(text)).replace(tzinfo=timezone.utc).timestamp() == at


def test_the_same_in_text_and_json_and_where_there_is_nobody(comings, monkeypatch):
    monkeypatch.setattr(app_module.time, "time", lambda: NOW)
    app = make_app(Hub(comings))
    assert json.loads(ask_of(app, "/api/v1/cluster", f"at={START}&change=after")[2])["at"] == START + 10
    assert "14:13:30" in ask_of(app, "/", f"term=true&at={START}&change=after")[2]
    assert "No process is known to have begun or ended after" in ask_of(app, "/hosts/dgx-b", f"at={START}&change=after")[2]
    assert ask_of(app, "/", f"at={START}&change=sideways")[0] == 400
    assert ask_of(app, "/", "change=after")[0] == 200  # of now there is no next
