"""``/import`` over a real store: the list, the dry run of what a browser sends, errors in words."""

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import timezone
from urllib.parse import parse_qs

import pytest
from tests.query.lab import LIMITS, Lab
from tests.rules.machine import Machine
from tests.web.readings import Readings

from gpuwatch.store import imports
from gpuwatch.store.import_source import Source
from gpuwatch.web import uploads
from gpuwatch.web.app import make_app

LOG = "timestamp, index, name, utilization.gpu [%], memory.used [MiB]\n" + "".join(
    f"2026/11/10 03:{number // 60:02d}:{number % 60:02d}.000, {gpu}, NVIDIA A100, {gpu * 50} %, {gpu * 1000} MiB\n" for number in range(0, 600, 5) for gpu in (0, 1)
)


def load(store, path, label):
    source = Source(str(path))
    with source.opened(timezone.utc, "", ()) as (_, _, _, rows):
        job = imports.begin(store, source.digest(), path.name, label, {}, now=1.79e9, limits=LIMITS, zone=timezone.utc)
        for _ in job.run(rows):
            pass


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    lab = Lab(folder / "lab.db", "alpha")
    lab.add("alpha", Machine(1, lab.at("2026-11-20T20:00:00"), 20, name="a"), 40)
    (folder / "node1.csv").write_text(LOG)
    load(lab.store, folder / "node1.csv", "node1")
    return lab


@pytest.fixture
def ask(lab):
    app = make_app(Readings(lab))

    def ask(path="/import", query="", body=b"", content_type="", accept="text/html", client="192.0.2.1"):
        told = {}
        environ = {
            "REQUEST_METHOD": "POST" if body else "GET", "PATH_INFO": path, "QUERY_STRING": query, "wsgi.input": io.BytesIO(body), "SERVER_NAME": "hub",
            "SERVER_PORT": "1", "wsgi.url_scheme": "http", "HTTP_ACCEPT": accept, "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": content_type, "REMOTE_ADDR": client,
        }  # fmt: skip
        answer = b"".join(app(environ, lambda status, headers, *_: told.update(status=int(status[:3]), headers=dict(headers))))
        return told["status"], told["headers"], answer.decode()

    return ask


def form(data, name="node2.csv", field="file", **fields):
    parts = [f'--xx\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\nContent-Type: text/csv\r\n\r\n'.encode() + data]
    parts += [f'--xx\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}'.encode() for key, value in fields.items()]
    return {"body": b"\r\n".join([*parts, b"--xx--\r\n"]), "content_type": "multipart/form-data; boundary=xx"}


def test_the_page_lists_imports_and_links_their_charts(ask):
    status, _, body = ask()
    assert status == 200
    assert "import:node1" in body
    assert 'type="file"' in body
    assert "64 MiB" in body
    addresses = [part.partition('"')[0].replace("&amp;", "&") for part in body.split('href="')[1:]]
    charts = [address for address in addresses if address.startswith("/history?host=import")]
    assert [parse_qs(address.partition("?")[2]).get("gpu") for address in charts] == [None, ["index 0"], ["index 1"]]
    for address in charts:
        status, _, page = ask("/history", address.partition("?")[2])
        assert status == 200
        assert 'class="mean"' in page
        assert "/hosts/import" not in page
        assert "/gpus/index" not in page
    assert "NVIDIA A100" in body
    assert 'href="/import?format=csv"' in body


def test_the_twins_of_the_list(ask):
    assert "import:node1" in ask(query="term=true")[2]
    (one,) = json.loads(ask(query="format=json")[2])["imports"]
    assert (one["name"], one["file"], one["rows"], one["finished"]) == ("import:node1", "node1.csv", 240, True)
    assert [gpu["model"] for gpu in one["gpus"]] == ["NVIDIA A100"] * 2
    rows = list(csv.DictReader(io.StringIO(ask(query="format=csv")[2], newline="")))
    assert [(row["gpu"], row["model"], row["file_rows"]) for row in rows] == [("index 0", "NVIDIA A100", "240"), ("index 1", "NVIDIA A100", "240")]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_dry_run_says_what_it_would_read_and_how_to_go_on(ask, lab, pack):
    text = LOG.replace("2026/11/10 03:09:55.000, 1, NVIDIA A100, 50 %", "2026/11/10 03:09:55.000, 1, NVIDIA A100, <b>some</b> %")
    status, _, body = ask(**form(pack(text.encode()), name="a b'<i>.csv", zone="UTC"))
    assert status == 200
    assert "<b>239</b>" in body
    assert '<th scope="row">line 241</th>' in body
    assert "&lt;b&gt;some&lt;/b&gt; %" in body
    assert "index 1" in body
    assert "gpuwatch db import --zone UTC a-b-i-.csv" in body
    assert "gpuwatch db assign import:a-b-i HOST" in body
    assert len(imports.records(lab.store)) == 1


def test_a_dry_run_for_programs(ask):
    status, _, body = ask(query="format=json", **form(LOG.encode(), host="dgx-a"), client="192.0.2.2")
    doc = json.loads(body)
    assert (status, doc["rows"], doc["refused"], doc["imports"]) == (200, 240, [], ["import:dgx-a"])
    assert doc["next"][0] == "gpuwatch db import --zone Europe/Berlin --host dgx-a node2.csv"
    assert "Nothing was stored. Next, on the hub:" in ask(query="term=true", **form(LOG.encode()), client="192.0.2.2")[2]


@pytest.mark.parametrize(("sent", "words"), [
    (form(b"a,b\n1,2\n"), "node2.csv: No line at its beginning names columns of a known format"),
    (form(b""), "node2.csv: The file is empty"),
    (form(b"\x1f\x8b" + b"\0" * 50), "node2.csv cannot be unpacked"),
    (form(b"SQLite format 3\0" + b"\xff" * 5000), "node2.csv cannot be read as a database"),
    (form(LOG.encode(), zone="Mars/Olympus"), "&#x27;Mars/Olympus&#x27; is not a time zone."),
    (form(LOG.encode(), zone="--help"), "is not a time zone"),
    (form(LOG.encode(), host="a\0b"), "host is longer than"),
    (form(b"\n".join(LOG.encode().split(b"\n")[1:])), "name them with --fields"),
    (form(LOG.encode(), field="other"), "There is no file in the form."),
    (form(LOG.encode(), name=""), "There is no file in the form."),
    ({"body": b"x=1", "content_type": "application/x-www-form-urlencoded"}, "There is no file in the form."),
    ({"body": b"none", "content_type": "multipart/form-data; boundary=xx"}, "There is no file in the form."),
    ({"body": b"none", "content_type": "multipart/form-data"}, "There is no file in the form."),
])  # fmt: skip
def test_files_that_are_not_understood(ask, sent, words):
    status, headers, body = ask(**sent)
    assert status == 400
    assert headers["Content-Type"].startswith("text/html")
    assert words in body
    assert "Traceback" not in body
    assert "/tmp" not in body


def test_a_file_without_a_head_is_read_with_the_columns_of_the_form(ask):
    log = b"\n".join(LOG.encode().split(b"\n")[1:])
    fields = "timestamp,index,name,utilization.gpu,memory.used"
    doc = json.loads(ask(query="format=json", **form(log, fields=fields))[2])
    assert (doc["rows"], doc["refused_count"]) == (240, 0)
    assert f"--fields {fields}" in doc["next"][0]


def test_one_client_sends_few_files_a_minute(ask, monkeypatch):
    monkeypatch.setattr(uploads, "dry_run", lambda *_: pytest.fail("it was read"))
    sent = form(LOG.encode(), field="other")
    assert [ask(**sent, client="192.0.2.9")[0] for _ in range(uploads.MOST_PER_SPAN)] == [400] * uploads.MOST_PER_SPAN
    status, headers, body = ask(**sent, client="192.0.2.9", accept="*/*")
    assert (status, headers["Retry-After"]) == (429, "60")
    assert body == "Only 6 files a minute are taken from one address. Try again in a minute.\n"
    assert ask("/api/analyze_csv", **sent, client="192.0.2.9")[0] == 429
    assert ask(**sent, client="192.0.2.10")[0] == 400


def test_the_count_of_a_client_is_forgotten_after_a_minute():
    clock = iter([0.0] * uploads.MOST_PER_SPAN + [59.0, 61.0])
    rate = uploads.Rate(lambda: next(clock))
    for _ in range(uploads.MOST_PER_SPAN):
        rate.count("a")
    with pytest.raises(uploads.TooMany):
        rate.count("a")
    rate.count("a")


def test_a_file_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "self_argv", lambda: ["/bin/sh", "-c", "sleep 60", "sh"])
    with pytest.raises(uploads.UsageError, match=r"longer than 0 s\. On the hub it may take its time"):
        uploads.dry_run(tmp_path / "a.csv", "UTC", seconds=0.1)


def test_a_reader_that_dies_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "self_argv", lambda: ["/bin/sh", "-c", "kill -9 $$", "sh"])
    with pytest.raises(uploads.UsageError, match="SIGKILL"):
        uploads.dry_run(tmp_path / "a.csv", "UTC")


@pytest.mark.parametrize(("name", "written"), [
    ("../../etc/passwd", "passwd"), ("-rf", "rf"), ("..", "file"), ("", "file"), ("C:\\logs\\a.csv", "a.csv"), ("x" * 300 + ".csv", "x" * 96 + ".csv"), ("ä ö.csv", "-.csv"),
])  # fmt: skip
def test_names_of_files(name, written):
    assert uploads.file_name(name) == written.lstrip("-.")


def test_without_a_database(lab):
    hub = Readings(lab)
    hub.store = None
    told = {}
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/import", "QUERY_STRING": "", "wsgi.input": io.BytesIO(), "SERVER_NAME": "hub", "SERVER_PORT": "1", "wsgi.url_scheme": "http"}
    b"".join(make_app(hub)(environ, lambda status, *_: told.update(status=status)))
    assert told["status"].startswith("503")
