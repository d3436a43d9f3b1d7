"""The WSGI app: names beyond ASCII in paths, and answers to addresses that mean harm."""

import io
import time

from gpuwatch.config.settings import HubSettings
from gpuwatch.model.cluster import Target
from gpuwatch.query.cluster import cluster
from gpuwatch.query.latest import Latest
from gpuwatch.web.app import make_app

NAME = "gpü-中"


class Readings:
    settings = HubSettings()
    store = None
    timezone = "UTC"

    def __init__(self):
        self.latest = Latest()
        self.latest.set_targets([(Target(NAME, "h1", 1), "a" * 32)], time.time())

    def cluster(self, audience="stranger"):
        return cluster(self.latest, time.time(), audience)

    def version(self):
        return self.latest.version


def get(path, query=""):
    told = {}
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": path.encode().decode("latin-1"), "QUERY_STRING": query, "wsgi.input": io.BytesIO(),
        "SERVER_NAME": "hub", "SERVER_PORT": "1", "wsgi.url_scheme": "http",
    }  # fmt: skip
    body = b"".join(make_app(Readings())(environ, lambda status, headers, *_: told.update(status=status, headers=dict(headers))))
    return told["status"], told["headers"], body.decode()


def test_a_host_with_a_name_beyond_ascii_has_its_pages():
    status, _, body = get(f"/hosts/{NAME}", "term=true")
    assert status.startswith("200")
    assert NAME in body
    assert get(f"/api/v1/hosts/{NAME}")[0].startswith("200")
    assert "ERROR" not in get(f"/states/{NAME}/")[2]


def test_what_an_address_says_cannot_steer_a_terminal():
    status, _, body = get("/nope\x1b[31m\u202e")
    assert status.startswith("404")
    assert "/nope" in body
    assert "\x1b" not in body
    assert "\u202e" not in body
