"""The wrappers, called as WSGI apps."""

import gzip as gzip_module
import logging

import pytest

from gpuwatch.serve import wsgi


def call(app, method="GET", path="/", **environ):
    """(status, headers dict, body)"""
    seen = {}

    def start_response(status, headers, exc_info=None):
        seen["status"], seen["headers"] = status, headers

    parts = app({"REQUEST_METHOD": method, "PATH_INFO": path, **environ}, start_response)
    body = b"".join(parts)
    return seen["status"], dict(seen["headers"]), body


def page(body, content_type="text/plain; charset=utf-8", **headers):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", content_type), ("Content-Length", str(len(body))), *headers.items()])
        return [body]

    return app


LONG = b"gpu " * 1000


def test_an_error_is_a_short_text_with_an_id_that_is_in_the_log(caplog):
    def broken(environ, start_response):
        raise ValueError("secret detail")

    status, headers, body = call(wsgi.guard(broken), path="/x\n\x1b")
    assert status == "500 Internal Server Error"
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert b"secret" not in body
    assert b"Traceback" not in body
    number = body.decode().split()[-1].rstrip(".")
    assert number in caplog.text
    assert "ValueError: secret detail" in caplog.text
    assert "\x1b" not in caplog.text


def test_an_error_in_a_stream_is_logged_and_goes_on_to_the_server(caplog):
    def stream():
        yield b"one"
        raise ValueError("late")

    def app(environ, start_response):
        start_response("200 OK", [])
        return stream()

    parts = iter(wsgi.guard(app)({}, lambda *a: None))
    assert next(parts) == b"one"
    with pytest.raises(ValueError, match="late"):
        next(parts)
    assert "late" in caplog.text


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("gzip", True),
        ("GZIP, deflate", True),
        ("deflate, x-gzip;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity", False),
        ("", False),
        ("gzipped", False),
    ],
)
def test_who_takes_gzip(header, taken):
    assert wsgi.accepts_gzip({"HTTP_ACCEPT_ENCODING": header}) is taken


def test_gzip_of_a_long_text():
    status, headers, body = call(wsgi.gzip(page(LONG, ETag='"7"')), HTTP_ACCEPT_ENCODING="gzip")
    assert gzip_module.decompress(body) == LONG
    assert headers["Content-Encoding"] == "gzip"
    assert headers["Content-Length"] == str(len(body))
    assert headers["Vary"] == "Accept-Encoding"
    assert headers["ETag"] == 'W/"7"'


def test_without_gzip_the_body_is_as_it_was_and_varies_too():
    status, headers, body = call(wsgi.gzip(page(LONG, ETag='"7"', Vary="Cookie")))
    assert body == LONG
    assert "Content-Encoding" not in headers
    assert headers["Vary"] == "Cookie, Accept-Encoding"
    assert headers["ETag"] == '"7"'


@pytest.mark.parametrize("app", [page(b"short"), page(LONG, "image/png"), page(LONG, **{"Content-Encoding": "gzip"})])
def test_what_is_short_binary_or_encoded_already_passes_through(app):
    plain = call(app)[2]
    status, headers, body = call(wsgi.gzip(app), HTTP_ACCEPT_ENCODING="gzip")
    assert body == plain
    assert headers["Content-Length"] == str(len(plain))


def test_a_stream_passes_through_gzip_and_is_closed():
    closed = []

    def stream(start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            yield b"a" * 2000
            yield b"b"
        finally:
            closed.append(True)

    def app(environ, start_response):
        return stream(start_response)

    status, headers, body = call(wsgi.gzip(app), HTTP_ACCEPT_ENCODING="gzip")
    assert (status, body) == ("200 OK", b"a" * 2000 + b"b")
    assert "Content-Encoding" not in headers
    assert closed == [True]


def test_head_has_the_headers_of_get_and_no_body():
    app = wsgi.head(wsgi.gzip(page(LONG)))
    status, headers, body = call(app, "GET", HTTP_ACCEPT_ENCODING="gzip")
    assert call(app, "HEAD", HTTP_ACCEPT_ENCODING="gzip") == (status, headers, b"")


def test_head_adds_the_length_that_the_server_would_have_added():
    def app(environ, start_response):
        assert environ["REQUEST_METHOD"] == "GET"
        start_response("200 OK", [])
        return [b"12345"]

    assert call(wsgi.head(app), "HEAD") == ("200 OK", {"Content-Length": "5"}, b"")


@pytest.mark.parametrize(
    ("length", "status"),
    [("", "200"), ("0", "200"), ("100", "200"), ("101", "413"), ("9" * 5000, "413"), ("-1", "413"), ("x", "413"), ("²", "413")],
)
def test_bodies_beyond_the_limit_are_refused(length, status):
    assert call(wsgi.limit_body(page(b"ok"), 100), CONTENT_LENGTH=length)[0].startswith(status)


@pytest.mark.parametrize(
    ("address", "plain"),
    [("::ffff:192.0.2.1", "192.0.2.1"), ("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::1"), ("::ffff:0", "::ffff:0")],
)
def test_addresses_of_ipv4_clients_are_plain(address, plain):
    def app(environ, start_response):
        start_response("200 OK", [])
        return [environ["REMOTE_ADDR"].encode()]

    assert call(wsgi.plain_address(app), REMOTE_ADDR=address)[2].decode() == plain


def test_the_log_of_requests_has_no_query_and_no_control_characters(caplog):
    with caplog.at_level(logging.INFO, wsgi.access.name):
        call(wsgi.log_requests(page(b"ok")), path="/a\r\nb", QUERY_STRING="token=secret", REMOTE_ADDR="192.0.2.9")
    line = caplog.records[0].getMessage()
    assert line.startswith("192.0.2.9 GET /a??b 200 ")
    assert "secret" not in line


def test_printable_reads_wsgi_paths_as_utf8_and_survives_anything():
    assert wsgi.printable("/gpü".encode().decode("latin-1")) == "/gpü"
    assert wsgi.printable("\udcff€\x00") == "?€?"
    assert len(wsgi.printable("x" * 1000)) == 200


def test_a_large_body_is_handed_to_the_server_where_it_lies():
    from waitress.buffers import ReadOnlyFileBasedBuffer

    whole = bytes(range(256)) * 1000
    body = wsgi.from_memory(page(whole))({"wsgi.file_wrapper": ReadOnlyFileBasedBuffer}, lambda *a: None)
    assert body.prepare(len(whole)) == len(whole)
    first = body.get(100_000)
    assert (first.obj is whole, first) == (True, whole[:100_000])
    body.skip(70_001)
    assert body.get(1_000_000) == whole[70_001:]
    assert len(body) == len(whole) - 70_001
    for small in (page(LONG), lambda environ, start: iter([whole])):
        assert b"".join(wsgi.from_memory(small)({"wsgi.file_wrapper": ReadOnlyFileBasedBuffer}, lambda *a: None)) in (LONG, whole)
    assert wsgi.from_memory(page(whole))({}, lambda *a: None) == [whole]
