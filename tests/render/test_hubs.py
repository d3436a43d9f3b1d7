"""Hubs as text, JSON, CSV and page: the same facts; a clock that is off and a hub that is gone are told; names stay text."""

import csv
import io
import json
from dataclasses import replace

from gpuwatch.model.hubs import HubShare
from gpuwatch.query.cluster import cluster
from gpuwatch.query.latest import Latest
from gpuwatch.render.hubs import HUB_FIELDS, hubs_csv, hubs_json, hubs_page, hubs_text

NOW = 1_790_000_000.0
HUBS = (
    HubShare("a" * 32, "h1", "http://h1:7070", "1.0", NOW - 7200, NOW - 1, True, 150, 0.2, True, True),
    HubShare("b" * 32, "=<b>h2", "http://h2:7070", "1.0", NOW - 7200, NOW - 300, False, 0, -4.0),
)
ALONE = HubShare("c" * 32, "h3", "http://h3:7070", "1.0", NOW - 60, None, True, 5, None, True, True)


def test_text():
    first, second = hubs_text(HUBS, NOW).decode().splitlines()[1:]
    assert "150 hosts" in first
    assert "this one, does retention" in first
    assert "gone" in second
    assert "off by -4.0 s" in second
    assert "off" not in first
    assert "5 hosts" in hubs_text([ALONE], NOW).decode()


def test_json_has_the_fields_that_are_described():
    told = json.loads(hubs_json((*HUBS, ALONE)))["hubs"]
    assert [list(one) for one in told] == [[name for name, _, _ in HUB_FIELDS]] * 3
    assert (told[1]["alive"], told[1]["clock_seconds"], told[2]["seen_at"]) == (False, -4.0, None)


def test_csv_is_harmless():
    head, first, second = csv.reader(io.StringIO(hubs_csv(HUBS).decode()))
    assert head == [name for name, _, _ in HUB_FIELDS]
    assert second[1] == "'=<b>h2"
    assert first[7] == "150"
    assert list(csv.reader(io.StringIO(hubs_csv([replace(ALONE, name=' "=1+1')]).decode())))[1][1] == "' \"=1+1"


def test_page():
    text = hubs_page(cluster(Latest(), NOW, "stranger"), HUBS)
    assert "=&lt;b&gt;h2" in text
    assert "<b>h2" not in text
    assert "150 hosts" in text


def test_the_page_is_a_list_as_others_are_and_says_on_a_phone_what_a_cell_is():
    text = hubs_page(cluster(Latest(), NOW, "stranger"), HUBS)
    assert '<table class="list procs">' in text
    assert '<th scope="col">Address</th>' in text
    assert '<td data-of="polls">150 hosts</td>' in text
