"""The WSGI app: names beyond ASCII in paths, and answers to addresses that mean harm."""

import io
import json
import time
import zlib
from urllib.parse import quote

import bottle
from tests.web.readings import sent

from gpuwatch.config.settings import HubSettings
from gpuwatch.model.cluster import Target
from gpuwatch.query.cluster import cluster
from gpuwatch.query.latest import Latest
from gpuwatch.web.app import make_app
from gpuwatch.web.replies import Body, Reply

NAME = "gpü-中"


class Readings:
    settings = HubSettings()
    store = None
    timezone = "UTC"
    ill = ""

    def __init__(self):
        self.latest = Latest()
        self.latest.set_targets([(Target(NAME, "h1", 1), "a" * 32), (Target("gpu9", "h9", 1), "b" * 32)], time.time())

    def cluster(self, audience="stranger", **only):
        return cluster(self.latest, time.time(), audience)

    def health(self):
        return self.ill

    def version(self):
        return self.latest.version


def get(path, query="", method="GET", accept="", **more):
    told = {}
    environ = {
        "REQUEST_METHOD": method, "PATH_INFO": path.encode().decode("latin-1"), "QUERY_STRING": query, "wsgi.input": io.BytesIO(),
        "SERVER_NAME": "hub", "SERVER_PORT": "1", "wsgi.url_scheme": "http",
        "HTTP_ACCEPT": accept, **more,
    }  # fmt: skip
    body = b"".join(make_app(Readings())(environ, lambda status, headers, *_: told.update(status=status, headers=dict(headers))))
    return told["status"], told["headers"], body.decode()


def test_a_host_with_a_name_beyond_ascii_has_its_pages():
    status, _, body = get(f"/hosts/{NAME}", "term=true")
    assert status.startswith("200")
    assert NAME in body
    assert get(f"/api/v1/hosts/{NAME}")[0].startswith("200")
    assert "ERROR" not in get(f"/states/{NAME}/")[2]


def test_a_page_that_is_not_there_says_what_to_do_in_one_sentence():
    body = get("/nope", accept="text/html")[2]
    assert "There is no page /nope." in body
    assert "Next: the cluster is at /." in body
    assert get("/nope")[2] == "There is no page /nope. The cluster is at /.\n"


def test_healthz_tells_a_supervisor_what_is_ill(monkeypatch):
    assert get("/healthz")[::2] == ("200 OK", "ok\n")
    monkeypatch.setattr(Readings, "ill", "The hub's writer hangs for 20 s.")
    status, _, body = get("/healthz")
    assert status.startswith("503")
    assert body == "The hub's writer hangs for 20 s.\n"


def test_what_an_address_says_cannot_steer_a_terminal():
    status, _, body = get("/nope\x1b[31m\u202e")
    assert status.startswith("404")
    assert "/nope" in body
    assert "\x1b" not in body
    assert "\u202e" not in body


def test_streams_are_given_back_when_they_are_closed(monkeypatch):
    from gpuwatch.web import legacy

    readings = Readings()
    readings.store = object()
    monkeypatch.setattr(legacy, "_entries", lambda *_: iter(()))
    app = make_app(readings)
    for _ in range(3 * readings.settings.threads):
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": "/states/", "QUERY_STRING": "fetch_num=5", "wsgi.input": io.BytesIO(), "SERVER_NAME": "hub",
            "SERVER_PORT": "1", "wsgi.url_scheme": "http",
        }  # fmt: skip
        told = []
        body = app(environ, lambda status, *_, told=told: told.append(status))
        assert b"".join(body).startswith(b"{")
        body.close()
        assert told == ["200 OK"]


def test_a_negative_page_of_the_old_table_is_refused_as_seed_004_did():
    for query in ("term=true&page=-1", "page=-7&term=true&detail=true", "format=text&page=-1"):
        status, _, body = get("/", query)
        assert status.startswith("200")
        assert json.loads(body) == {"status": "ERROR", "status_code": 404, "message": "invalid page number."}
    for query in ("page=-1", "format=json&page=-1", "term=true&page=-x", "term=true&page=-0"):
        assert get("/", query)[0].startswith("400")


def test_the_text_of_one_host_at_its_old_address_is_its_part_of_the_details():
    status, headers, body = get(f"/states/{NAME}/", "term=true")
    assert status.startswith("200")
    assert headers["Content-Type"].startswith("text/plain")
    assert f"### {NAME} :: h1 #" in body
    assert "status: unseen" in body
    assert "gpu9" not in body
    assert body == get("/", f"term=true&detail=true&host={quote(NAME)}")[2]
    assert json.loads(get("/states/nobody/", "term=true")[2])["message"] == "not found"


def test_a_method_that_is_not_taken_is_told_which_one_is():
    status, headers, text = get("/register")
    assert (status[:3], headers["Allow"], text) == ("405", "POST", "GET is not possible on /register. It takes POST.\n")
    status, headers, text = get("/history", method="DELETE")
    assert (status[:3], headers["Allow"], text) == ("405", "GET", "DELETE is not possible on /history. It takes GET.\n")


def test_every_answer_has_the_headers_that_protect_it():
    always = {"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "Cross-Origin-Resource-Policy", "Cache-Control"}
    style = get("/static/app.css")[1]["ETag"]
    for path, more, status in (
        ("/", {}, "200"), ("/static/app.css", {"HTTP_IF_NONE_MATCH": style}, "304"), ("/nope", {}, "404"), ("/history", {"method": "DELETE"}, "405"),
        ("/states", {}, "308"), ("/states/", {"query": "fetch_num=3"}, "200"), ("/import", {}, "503"),
    ):  # fmt: skip
        line, headers, body = get(path, **more)
        assert line.startswith(status), (path, line)
        assert always <= set(headers), path
        assert status in ("304", "200") or headers["Content-Length"] == str(len(body.encode())), path


def test_a_body_that_the_client_has_is_not_sent_again():
    assert "ETag" not in get("/nope")[1]
    status, headers, body = get("/static/app.css")
    assert headers["Vary"] == "Accept-Encoding"
    status, again, nothing = get("/static/app.css", HTTP_IF_NONE_MATCH=f'W/{headers["ETag"]}, "other"')
    assert (status, nothing, again["ETag"]) == ("304 Not Modified", "", headers["ETag"])
    assert {"Content-Type", "Content-Length", "Content-Encoding"}.isdisjoint(again)
    assert get("/static/app.css", HTTP_IF_NONE_MATCH='"other"')[2] == body


def test_headers_of_one_answer_win_and_stay_with_it():
    body = Body(b"x" * 2000, "text/plain")
    bottle.request.bind({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_ACCEPT_ENCODING": "gzip"})
    special = sent(Reply(body, headers={"Cache-Control": "no-store", "Location": "/a\u4e2d"}))
    usual = sent(Reply(body))
    assert (special.headers["Cache-Control"], usual.headers["Cache-Control"], "Location" in usual.headers) == ("no-store", "no-cache", False)
    assert special.headers["Location"].encode("latin-1").decode() == "/a\u4e2d"
    assert (usual.headers["Content-Encoding"], usual.headers["Content-Length"]) == ("gzip", str(len(usual.body)))
    assert zlib.decompress(usual.body, 31) == body.data
    bottle.request.bind({"REQUEST_METHOD": "GET", "PATH_INFO": "/"})
    assert sent(Reply(body)).body == body.data
