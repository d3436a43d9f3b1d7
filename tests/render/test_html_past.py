"""The time machine on a page: marked as the past in every part, links that stay at the moment, steps and slider within what is kept."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.render import samples

from gpuwatch.model.cluster import NodeState
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import words
from gpuwatch.render.as_html import Fragments, cluster_page, gpu_page, host_page, live_update
from gpuwatch.render.html_past import Past, band, keep_moment, past_of, tick_times, with_moment

AT = samples.NOW
ASKED = AT + 35 * 3600
ZONE = "Europe/Berlin"
MOMENT = "2026-11-18T14:32:10"
LAB = replace(samples.lab(), at=AT, asked_at=ASKED, kept_since_at=AT - 5 * 86400, timezone=ZONE)
OPTIONS = ViewOptions(at=AT, moment=MOMENT)
PAST = Past(AT, ASKED, ZONE, 5.0, AT - 5 * 86400, "/?q=a%20b&view=rows")


def links(html: str) -> list[str]:
    return [unescape(link) for link in re.findall(r'<a\b[^>]*? href="(/(?:hosts/|gpus/|\?|")[^"]*)"', html.replace('href="/"', 'href="/?"'))]


def at_of(link: str) -> str:
    return parse_qs(urlsplit(link).query).get("at", [""])[0]


def moments(html: str) -> dict[str, float]:
    """Where the steps of the band lead, epoch seconds."""
    found = re.findall(r'<a class="btn" id="(\w+)" href="([^"]*)"', html)
    zone = words.zone_of(ZONE)
    return {name: datetime.fromisoformat(at_of(unescape(link))).replace(tzinfo=zone).timestamp() for name, link in found}


def test_a_page_of_the_past_says_so_everywhere() -> None:
    page = cluster_page(LAB, OPTIONS, Fragments())
    assert 'class="view-rows is-past"' in page
    assert 'data-live=""' in page
    assert f'data-at="{MOMENT}"' in page
    assert "<b>Wed 18 Nov 2026 14:32:10</b>" in page
    assert "1 d 11 h ago" in page
    assert "Cluster then" in page
    assert "Free then" in page
    assert "Free now" not in page
    assert re.search(r"<title>\d+ of \d+ GPUs free, Wed 14:32 - ", page)
    assert "As it was Wed 18 Nov 2026 14:32:10; " in page
    assert "Go to a past time" not in page
    assert 'id="live"' not in page


@pytest.mark.parametrize("name", ["cluster", "host", "gpu"])
def test_every_link_to_a_page_stays_at_the_moment(name: str) -> None:
    node = LAB.nodes[0]
    pages = {
        "cluster": lambda: cluster_page(LAB, OPTIONS, Fragments()),
        "host": lambda: host_page(LAB, node.name, OPTIONS),
        "gpu": lambda: gpu_page(LAB, node.gpus[0].reading.uuid, OPTIONS),
    }
    page = pages[name]()
    body = re.sub(r'<div class="bar past".*?</div>', "", page, flags=re.S)
    found = links(body)
    assert len(found) > 5
    assert [link for link in found if at_of(link) != MOMENT] == []
    assert f"at={MOMENT}" in unescape(re.search(r'id="curl" data-path="([^"]*)"', page)[1])
    for form in re.findall(r"<form\b.*?</form>", body, flags=re.S):
        assert 'method="dialog"' in form or f'name="at" value="{MOMENT}"' in form
    assert 'href="/static' not in "".join(re.findall(r"<a\b[^>]*>", page))


def test_a_page_of_now_leads_to_the_past_and_keeps_its_filter() -> None:
    page = cluster_page(samples.lab(), ViewOptions(query="a100 train", layout="rows"), Fragments())
    goto = unescape(re.search(r'id="goto" href="([^"]*)"', page)[1])
    assert parse_qs(urlsplit(goto).query) == {"q": ["a100 train"], "view": ["rows"], "at": ["-10m"]}
    assert "is-past" not in page
    assert re.findall(r"[?;]at=([^\"&]*)", page) == ["-10m"]
    host = samples.lab().nodes[0].name
    assert f'id="goto" href="/hosts/{host}?at=-10m"' in host_page(samples.lab(), host, ViewOptions())


def test_news_for_the_grid_stay_at_the_moment() -> None:
    news = live_update(LAB, replace(OPTIONS, layout="rows"), 0, Fragments())
    found = [link for html in news["hosts"].values() for link in links(html)]
    assert found
    assert {at_of(link) for link in found} == {MOMENT}


def test_steps_lead_by_one_reading_and_by_an_hour() -> None:
    assert moments(band(PAST)) == {"earlier": AT - 3600, "before": AT - 5, "after": AT + 5, "later": AT + 3600}
    assert parse_qs(urlsplit(unescape(re.search(r'id="before" href="([^"]*)"', band(PAST))[1])).query)["q"] == ["a b"]
    assert 'id="back" href="/?q=a%20b&amp;view=rows"' in band(PAST)


def test_steps_stay_between_the_first_reading_and_now() -> None:
    first = replace(PAST, kept_since_at=AT - 600)
    assert moments(band(first))["earlier"] == AT - 600
    assert sorted(moments(band(replace(PAST, kept_since_at=AT)))) == ["after", "later"]
    assert sorted(moments(band(replace(PAST, now=AT + 60)))) == ["after", "before", "earlier"]
    before = band(replace(PAST, at=AT - 9 * 86400))
    assert moments(before) == {"after": AT - 5 * 86400}
    assert "First reading" in before
    assert moments(band(replace(PAST, kept_since_at=None))) == {}
    assert 'type="range"' not in band(replace(PAST, kept_since_at=None))


def test_the_slider_can_stand_at_the_moment() -> None:
    least, most, step, value = map(int, re.search(r'min="(\d+)" max="(\d+)" step="(\d+)" value="(\d+)"', band(PAST)).groups())
    assert (value, step, most) == (AT, 5, ASKED)
    assert (value - least) % step == 0
    assert 0 <= least - PAST.kept_since_at < step
    assert '<input type="hidden" name="q" value="a b">' in band(PAST)


@pytest.mark.parametrize(
    ("hours", "words_of_it"),
    [
        (2, ["13:00", "14:00"]), (9, ["06:00", "08:00", "10:00", "12:00", "14:00"]), (48, ["18:00", "Tue 17", "06:00", "12:00", "18:00", "Wed 18", "06:00", "12:00"]),
        (24 * 6, ["Fri 13", "Sat 14", "Sun 15", "Mon 16", "Tue 17", "Wed 18"]), (24 * 30, None), (24 * 400, None),
    ],
)  # fmt: skip
def test_ticks_are_few_and_at_round_times(hours: int, words_of_it: list[str] | None) -> None:
    ticks = tick_times(AT - hours * 3600, AT, ZONE)
    assert 1 <= len(ticks) <= 9
    assert ticks == sorted(ticks)
    if words_of_it is not None:
        assert [word for _, word in ticks] == words_of_it
    for at, _ in ticks:
        assert datetime.fromtimestamp(at, words.zone_of(ZONE)).minute == 0


def test_ticks_stand_at_midnight_on_both_days_of_a_clock_change() -> None:
    for day in ("2026-10-25", "2026-03-29"):
        noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=words.zone_of(ZONE)).timestamp()
        ticks = tick_times(noon - 3 * 86400, noon + 3 * 86400, ZONE)
        assert [datetime.fromtimestamp(at, words.zone_of(ZONE)).hour for at, _ in ticks] == [0] * 6


def test_a_moment_in_an_address_replaces_the_one_before() -> None:
    assert with_moment("/?q=a%20b&at=-2h&view=rows", MOMENT) == f"/?q=a%20b&view=rows&at={MOMENT}"
    assert with_moment("/hosts/gp%C3%BC", MOMENT) == f"/hosts/gp%C3%BC?at={MOMENT}"
    assert with_moment("/?at=1", "") == "/"


def test_what_is_no_link_to_a_page_stays_as_it_is() -> None:
    for html in ('<a href="#h-a">', '<a href="https://x/">', '<link href="/static/app.css">', 'text href="/hosts/a"', '<a href="/static/x">', '<a href="/hostsx">'):
        assert keep_moment(html, PAST) == html
    assert keep_moment('<a class="x" href="/hosts/a#b">', PAST) == f'<a class="x" href="/hosts/a?at={MOMENT}#b">'


def test_hostile_names_of_the_past_are_escaped() -> None:
    page = cluster_page(replace(samples.hostile(), at=AT, asked_at=ASKED), OPTIONS, Fragments())
    assert "<script>alert" not in page
    assert "<img" not in page


def bare(node: NodeState) -> NodeState:
    return replace(node, status="unseen", status_since_at=None, error="No reading at Wed.", snapshot=None, gpus=(), received_at=None, parts=None)


def test_where_there_is_no_reading_nothing_is_claimed() -> None:
    empty = replace(LAB, nodes=tuple(map(bare, LAB.nodes)), notices=("No readings before Thu 1 Jan 2026 00:00.",))
    page = cluster_page(empty, OPTIONS, Fragments())
    assert "<title>No readings, Wed 14:32 - " in page
    assert "Nobody holds memory" not in page
    assert "No GPU has been seen yet" not in page
    assert "no reading</span>" in page
    assert "unseen</span>" not in page
    assert '<p class="notice">' not in page
    host = host_page(empty, empty.nodes[0].name, OPTIONS)
    assert "No reading at Wed." in host
    assert "no GPU" not in host
    assert "No process" not in host
    gpu = gpu_page(replace(empty, nodes=empty.nodes[:1]), "GPU-1<b>", OPTIONS)
    assert "No reading of this GPU." in gpu
    assert "No reading at Wed." in gpu
    assert "<b>GPU-1" not in gpu
    assert "is-past" in gpu


def test_the_grid_says_no_reading_wherever_it_names_a_host_without_one() -> None:
    large = replace(samples.large(100), at=AT, asked_at=ASKED)
    nodes = (bare(large.nodes[0]), bare(large.nodes[1]), *(node for node in large.nodes[2:] if node.status != "unseen"))
    page = cluster_page(replace(large, nodes=nodes), OPTIONS, Fragments())
    assert 'id="cells"' in page
    assert '<b>2</b></td><th scope="row">no reading</th>' in page  # the table of what needs attention
    assert re.search(r"<li><svg[^>]*>.{0,400}?</svg>no reading <b>2 hosts</b></li>", page)  # the legend
    assert page.count('"no reading"') >= 2  # the data of the cells, and what is spoken of them
    assert "unseen" not in re.sub(r"<style.*?</style>", "", page)


def test_now_has_no_band() -> None:
    assert past_of(samples.lab(), "/") is None
