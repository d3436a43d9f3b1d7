"""Whose address a request has behind proxies, and who can pretend one."""

import pytest

from gpuwatch.model.errors import UsageError
from gpuwatch.serve.forwarded import forwarded, networks


def passed_on(trusted, peer, told=None, scheme=None, **more):
    """The environ that the application gets."""
    got = {}

    def app(environ, start_response):
        got.update(environ)
        return []

    environ = {"REMOTE_ADDR": peer, "wsgi.url_scheme": "http", **more}
    if told is not None:
        environ["HTTP_X_FORWARDED_FOR"] = told
    if scheme is not None:
        environ["HTTP_X_FORWARDED_PROTO"] = scheme
    forwarded(app, networks(trusted))(environ, None)
    return got


def seen(trusted, peer, told=None, scheme=None):
    got = passed_on(trusted, peer, told, scheme)
    return got["REMOTE_ADDR"], got["wsgi.url_scheme"]


@pytest.mark.parametrize(
    ("trusted", "peer", "told", "client"),
    [
        ("", "192.0.2.1", "198.51.100.9", "192.0.2.1"),
        ("127.0.0.1", "192.0.2.1", "198.51.100.9", "192.0.2.1"),
        ("127.0.0.1", "127.0.0.1", "198.51.100.9", "198.51.100.9"),
        ("127.0.0.1", "::ffff:127.0.0.1", "198.51.100.9", "198.51.100.9"),
        ("127.0.0.1", "127.0.0.1", "203.0.113.5, 198.51.100.9", "198.51.100.9"),
        ("127.0.0.1, 10.0.0.0/8", "127.0.0.1", "203.0.113.5, 198.51.100.9, 10.1.2.3", "198.51.100.9"),
        ("127.0.0.1 10.0.0.0/8", "127.0.0.1", "10.0.0.1,10.0.0.2", "10.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "evil\n, 127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "198.51.100.9:4711", "198.51.100.9"),
        ("::1", "::1", "[2001:db8::7]:443", "2001:db8::7"),
        ("::1", "::1", "2001:db8::7", "2001:db8::7"),
        ("127.0.0.1", "127.0.0.1", ",".join(["127.0.0.1"] * 1000 + ["198.51.100.9"]), "198.51.100.9"),
        ("127.0.0.1", "127.0.0.1", "198.51.100.9, " + "1" * 60_000, "127.0.0.1"),
        ("127.0.0.1", "", "198.51.100.9", ""),
    ],
)
def test_the_rightmost_untrusted_hop_counts(trusted, peer, told, client):
    assert seen(trusted, peer, told)[0] == client


def test_the_scheme_is_believed_of_trusted_proxies_alone():
    assert seen("127.0.0.1", "127.0.0.1", "192.0.2.1", "https")[1] == "https"
    assert seen("127.0.0.1", "127.0.0.1", None, "http, HTTPS")[1] == "https"
    assert seen("127.0.0.1", "127.0.0.1", None, "javascript")[1] == "http"
    assert seen("127.0.0.1", "192.0.2.1", None, "https")[1] == "http"


@pytest.mark.parametrize("trusted", ["127.0.0.1", ""])
def test_headers_of_proxies_reach_nobody(trusted):
    names = ("X_FORWARDED_HOST", "X_FORWARDED_PORT", "X_FORWARDED_BY", "FORWARDED")
    got = passed_on(trusted, "127.0.0.1", "192.0.2.1", "https", HTTP_ACCEPT="text/plain", **{f"HTTP_{name}": "evil" for name in names})
    assert got["HTTP_ACCEPT"] == "text/plain"
    assert [name for name in got if "FORWARDED" in name] == []


def test_what_is_no_network_is_said():
    with pytest.raises(UsageError, match=r"trusted_proxies: '10\.0\.0\.1/8'"):
        networks("127.0.0.1, 10.0.0.1/8")
