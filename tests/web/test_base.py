"""The hub below a path of a proxy: every address that it writes leads back to it, and nothing else is changed."""

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from tests.hub.readings import busy, gpu
from tests.query.history import START, History

from gpuwatch.config.settings import HubSettings
from gpuwatch.model.errors import UsageError
from gpuwatch.query.cluster import cluster
from gpuwatch.web import app as app_module
from gpuwatch.web.app import make_app
from gpuwatch.web.base import ATTRIBUTES, Base, checked
from gpuwatch.web.replies import HTML, JSON, Body

BASE = "/lab/gpuwatch"
NOW = START + 7200.0
UUID = "GPU-00000000"
EVIL = 'x" href="/evil'


class Hub:
    settings = HubSettings(base_path=BASE + "/")
    timezone = "UTC"

    def __init__(self, lab):
        self.store, self.latest = lab.store, lab.latest

    def cluster(self, audience="stranger", **only):
        return replace(cluster(self.latest, NOW, audience, **only), title=EVIL)

    def health(self):
        return ""

    def hubs(self):
        return ()

    def version(self):
        return self.latest.version


@pytest.fixture
def ask(tmp_path, monkeypatch):
    lab = History(str(tmp_path / "gpuwatch.db"), "dgx-a", "dgx-b")
    lab.add("dgx-a", *[(5 * n, (busy(0, utilization=50 + n), gpu(1))) for n in range(10)])
    lab.add("dgx-b", *[(5 * n, (gpu(2),)) for n in range(4)])
    lab.pack()
    lab.now("dgx-a", busy(0), gpu(1))
    monkeypatch.setattr(app_module.time, "time", lambda: NOW)
    app = make_app(Hub(lab))

    def ask(address, accept="text/html", method="GET"):
        told, parts = {}, urlsplit(address)
        environ = {
            "REQUEST_METHOD": method, "PATH_INFO": parts.path, "QUERY_STRING": parts.query, "wsgi.input": io.BytesIO(), "SERVER_NAME": "hub",
            "SERVER_PORT": "1", "wsgi.url_scheme": "http", "HTTP_ACCEPT": accept,
        }  # fmt: skip
        body = b"".join(app(environ, lambda status, headers, *_: told.update(status=int(status[:3]), headers=dict(headers))))
        return told["status"], told["headers"], body.decode()

    yield ask
    lab.store.close()


class Addresses(HTMLParser):
    """All of a page's addresses, whatever the attribute."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found += [(tag, name, value) for name, value in attrs if value and (value.startswith("/") or name in ("href", "src", "action"))]


def test_every_address_on_every_page_leads_below_the_base(ask):
    todo, done, kinds = [f"{BASE}/", f"{BASE}/hubs", f"{BASE}/import", f"{BASE}/?view=grid", f"{BASE}/?at={START + 22}"], set(), set()
    while todo:
        address = todo.pop()
        path = urlsplit(address).path
        key = (path, "at=" in address, re.sub(r"=[^&]*", "", urlsplit(address).query))
        if key in done or len(done) > 150:
            continue
        done.add(key)
        status, headers, body = ask(address)
        assert status in (200, 400, 404), address
        if not headers["Content-Type"].startswith("text/html"):
            continue
        for tag, name, value in Addresses(body).found:
            if value.startswith(("#", "data:")):
                continue
            assert value.startswith(f"{BASE}/"), f"{address}: <{tag} {name}={value!r}>"
            kinds.add((tag, name))
            if name in ("href", "src"):
                todo.append(urljoin(address, value))
    assert {("a", "href"), ("link", "href"), ("script", "src"), ("form", "action"), ("code", "data-path"), ("body", "data-live"), ("body", "data-root")} <= kinds
    assert len(done) > 40


def test_the_printed_curl_line_and_the_news_name_the_base(ask):
    page = ask(f"{BASE}/?user=lisa")[2]
    assert f"curl 'HUB{BASE}/?user=lisa&amp;term=true" in page
    live = json.loads(ask(f"{BASE}/live?since=0")[2])
    parts = re.findall(r'(?:href|action)="(/[^"]*)', json.dumps(live).replace('\\"', '"'))
    assert parts
    assert all(part.startswith(f"{BASE}/") for part in parts)


def test_redirects_errors_and_the_description_name_the_base(ask):
    assert ask(f"{BASE}")[:1] + (ask(f"{BASE}")[1]["Location"],) == (308, f"{BASE}/")
    assert ask(f"{BASE}/states")[1]["Location"] == f"{BASE}/states/"
    assert ask(f"{BASE}/user_utilization")[1]["Location"] == f"{BASE}/reports"
    assert json.loads(ask(f"{BASE}/api/v1/openapi.json")[2])["servers"] == [{"url": BASE}]
    assert f"The cluster is at {BASE}/." in ask(f"{BASE}/nope", "")[2]
    assert f'<a href="{BASE}/">' in ask(f"{BASE}/nope")[2]


def test_words_that_name_an_address_name_it_below_the_base(ask):
    for path, said in (
        ("/hosts/nope", f"The hosts are listed at {BASE}/."), ("/gpus/nope", f"The GPUs are listed at {BASE}/."),
        ("/api/v1/series?host=nope&metric=power_watts", f"The hosts are listed at {BASE}/."),
        ("/update/client/ws", f"{BASE}/states/ (its JSON), or {BASE}/live?since=VERSION"), ("/metrics?at=1h", f"is at {BASE}/api/v1/series?format=csv"),
        ("/user_utilization", f"It is at {BASE}/reports now."), ("/download_csv/x.csv", f"It is at {BASE}/history now."),
    ):  # fmt: skip
        assert said in ask(BASE + path, "*/*")[2], path
    for path in ("/submit_command", "/api/gpu/set_tdp"):
        assert f"page, {BASE}/hosts/NAME of this hub" in ask(BASE + path, "*/*", "POST")[2]


def test_a_proxy_that_takes_the_base_off_gets_the_same(ask):
    assert ask("/hosts/dgx-a")[2] == ask(f"{BASE}/hosts/dgx-a")[2]
    assert ask("/lab/gpuwatchman/")[0] == 404


def test_data_and_the_text_of_strangers_stay_as_they_are(ask):
    page = ask(f"{BASE}/")[2]
    assert "x&quot; href=&quot;/evil" in page
    assert f"{BASE}/evil" not in page
    assert BASE not in ask(f"{BASE}/api/v1/cluster")[2]
    body = Body(b'{"name": "x href=\\"/evil"}', JSON)
    assert Base(BASE).body(body, False) is body


def test_a_body_is_changed_once_for_all_readers():
    body = Body(b'<a href="/x" data-src="/y" src="/z">', HTML)
    based = Base(BASE).body(body, False)
    assert based.data == f'<a href="{BASE}/x" data-src="{BASE}/y" src="{BASE}/z">'.encode()
    assert Base(BASE).body(body, False) is based
    assert based.etag != body.etag
    assert Base("").body(body, False) is body
    assert len(set(ATTRIBUTES)) == len(ATTRIBUTES)


@pytest.mark.parametrize("text", ["gpuwatch", "/a b", "/a//b", "/../x", '/a"b', "/a?b", "http://x/y", "/\u00e4"])
def test_what_is_no_path_is_said(text):
    with pytest.raises(UsageError, match="base_path: .* is not a path"):
        checked(text)


def test_slashes_at_the_end_do_not_count():
    assert [checked(text) for text in ("", "/", "/a/", "/a/b")] == ["", "", "/a", "/a/b"]


def test_the_piece_of_a_page_that_seed_004_asks_for_and_old_pages_stay_below_the_base(ask):
    status, _, body = ask("/?fetch_element=true&element=dgx-a")
    element = json.loads(body)["element"]
    addresses = [value for _, _, value in Addresses(element).found]
    assert status == 200
    assert addresses
    assert [value for value in addresses if not value.startswith((BASE + "/", "#"))] == []
    status, headers, _ = ask("/dashboard")
    assert (status, headers["Location"]) == (302, BASE + "/")
