"""The pages as strings: every state, every hostile text, the content policy, links, and news for open pages."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.render import samples

from gpuwatch.model.cluster import ClusterNow, GpuState
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import as_html
from gpuwatch.render.as_html import Fragments, cluster_page, gpu_page, host_page, live_update, message_page
from gpuwatch.render.html_parts import gpu_id, host_id, host_url
from gpuwatch.render.words import clean

VOID = {"meta", "link", "input", "br", "col", "img"}
LAB = samples.lab()
HOSTILE = samples.hostile()


class Reading(HTMLParser):
    """A page as a browser's parser would take it: elements in order, text, ids; fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self._open, tag
        assert self._open.pop() == tag

    def handle_data(self, data):
        (self.scripts if self._open and self._open[-1] == "script" else self.text).append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [found for name, found in self.elements if name == tag and all(found.get(key) == value for key, value in wanted.items())]


def pages(cluster: ClusterNow) -> dict[str, str]:
    """Every page of a cluster."""
    made = {
        layout or "chosen": cluster_page(cluster, ViewOptions(layout=layout, **more), Fragments())
        for layout, more in {"": {}, "rows": {"page": 1}, "flat": {"sort": "utilization"}, "grid": {}}.items()
    }
    for node in cluster.nodes:
        made[f"host {node.name}"] = host_page(cluster, node.name, ViewOptions())
        for view in node.gpus:
            made[f"gpu {view.reading.uuid}"] = gpu_page(cluster, view.reading.uuid, ViewOptions())
    return made


EVERY_PAGE = {
    **{f"lab {name}": html for name, html in pages(LAB).items()},
    **{f"hostile {name}": html for name, html in pages(HOSTILE).items()},
    **{f"large {name}": cluster_page(samples.large(70, 2), ViewOptions(layout=name), Fragments()) for name in ("", "rows")},
    "empty": cluster_page(samples.empty(), ViewOptions(), Fragments()),
    "hostile query": cluster_page(LAB, ViewOptions(query="\"><script>x", tag="'<b>", user="\x1b[31m", model="a&b", host="</q>"), Fragments()),
    "message": message_page(*samples.HOSTILE[:3]),
    "no host": host_page(LAB, "<script>\x1b", ViewOptions()),
    "no gpu": gpu_page(LAB, "<script>\x1b", ViewOptions()),
}


@pytest.mark.parametrize("name", EVERY_PAGE)
def test_page_keeps_the_content_policy(name):
    reading = Reading(EVERY_PAGE[name])
    for tag, attributes in reading.elements:
        assert "style" not in attributes
        assert not [key for key in attributes if key.startswith("on")]
        assert tag not in ("style", "iframe", "object", "embed", "base", "img")
        for key in ("href", "src", "action"):
            address = attributes.get(key, "/")
            assert address.startswith(("/", "#")), (tag, address)
            assert not address.startswith("//"), (tag, address)
        if tag == "script":
            assert attributes.get("src", "").startswith("/static/app.js?v=") or attributes.get("type") == "application/json"
    for script in reading.scripts:
        assert "<" not in script


@pytest.mark.parametrize("name", EVERY_PAGE)
def test_page_is_well_formed_and_clean(name):
    html = EVERY_PAGE[name]
    reading = Reading(html)
    ids = Counter(attributes["id"] for _, attributes in reading.elements if "id" in attributes)
    assert [key for key, count in ids.items() if count > 1] == []
    assert not re.search(r"\s", "".join(ids))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)
    html.encode("utf-8")
    for tag, attributes in reading.elements:
        if tag == "a" and attributes["href"].startswith("#"):
            assert attributes["href"][1:] in ids, (name, attributes)
        if tag in ("label",):
            assert attributes["for"] in ids
        for key in ("aria-labelledby",):
            if key in attributes:
                assert attributes[key] in ids
    assert len(reading.all("title")) == len(reading.all("h1")) == len(reading.all("main")) == 1
    used = {attributes["href"][1:] for attributes in reading.all("use")}
    assert used <= set(ids)


@pytest.mark.parametrize("text", samples.HOSTILE)
def test_hostile_text_is_shown_as_text(text):
    """What a stranger wrote is read as text in the places that show it, cut of control characters, and is never an element."""
    shown = clean(text).strip()
    page = EVERY_PAGE["hostile rows"]
    everything = "\n".join(Reading(page).text)
    assert shown in everything
    assert not re.search(r"<(script(?! src=\"/static|>? ?type=\"application)|img|b>alert)", page)


def test_every_state_has_its_word_and_its_shape():
    html = EVERY_PAGE["lab rows"]
    for word, shape in {
        "free": "free",
        "busy": "busy",
        "idle 9 h 20 m": "idle",
        "reserved": "reserved",
        "MIG": "busy",
        "lost": "down",
        "busy, stale": "stale",
        "unknown": "unknown",
        "down 12 min": "down",
        "down 3 d 00 h": "down",
        "no GPU data": "warn",
        "unseen": "stale",
    }.items():
        cell = f'<span class="w"><svg class="ic" aria-hidden="true"><use href="#i-{shape}"/></svg>{word}</span>'
        assert cell in html, word
    assert '<span class="w">no GPU</span>' in html
    assert "stale 2 m 40 s</span>" in html
    assert "throttled: thermal (hardware)" in html


def row(html: str, host: str, index: int) -> str:
    """The row of a GPU."""
    return re.search(rf'<tr role="row" id="{re.escape(gpu_id(host, index))}".*?</tr>', html, re.DOTALL).group()


def body(html: str, host: str) -> str:
    """The rows of a host."""
    return re.search(rf'<tbody role="rowgroup" id="{re.escape(host_id(host))}".*?</tbody>', html, re.DOTALL).group()


def test_a_busy_row_says_who_since_when_and_how_much():
    text = "|".join(Reading(row(EVERY_PAGE["lab rows"], "dgx-a", 0)).text)
    for part in ("busy", "chen.w", "2 d 03 h", "99 %", "74.1", "/ 80", "67", "388", "/ 400", "train.py --config configs/vitdet_huge_coco_1536.yaml"):
        assert part in text
    assert "2 h ago" not in text


def test_what_is_not_reported_is_a_box_and_never_a_zero():
    html = row(EVERY_PAGE["lab rows"], "old-1", 2)
    reading = Reading(html)
    assert reading.all("meter") == []
    titles = [found["title"] for found in reading.all("span", **{"class": "nr"})]
    assert titles == ["not reported: not supported", "not reported: unknown error", "not reported", "not reported: not supported"]
    assert not re.search(r">0", html)
    partly = Reading(row(EVERY_PAGE["lab rows"], "old-1", 1))
    assert [found["class"] for found in partly.all("meter")] == ["m"]
    lost = Reading(row(EVERY_PAGE["lab rows"], "gpu03", 2))
    assert lost.all("meter") == []
    assert "Fallen off the bus (Xid 79). Reboot gpu03; if it returns, reseat the card." in lost.text
    shared = Reading(row(EVERY_PAGE["lab rows"], "spark", 0))
    assert [found["title"] for found in shared.all("span", **{"class": "nr"})] == ["not reported: shared with the host"]


def test_zero_is_an_empty_bar_with_its_number():
    reading = Reading(row(EVERY_PAGE["lab rows"], "dgx-a", 3))
    assert [found["value"] for found in reading.all("meter")] == ["0", "0"]
    assert "0 %" in reading.text


def test_several_users_and_slices():
    text = Reading(row(EVERY_PAGE["lab rows"], "gpu01", 3)).text
    assert "chen.w" in text
    assert "+2 more" in text
    slices = body(EVERY_PAGE["lab rows"], "dgx-b")
    words = Reading(slices).text
    for part in ("2 of 3 used", "7.0", "3g.40gb", "7.2", "student7", "35 %", "MIG on: 3 instances"):
        assert part in words
    assert 'rowspan="11"' in slices


def test_hosts_that_are_one_message():
    html = EVERY_PAGE["lab rows"]
    down = " ".join(Reading(body(html, "gpu04")).text)
    assert "Unreachable since 14:20: No answer from 10.2.0.14:7080 within 4 s (3 tries)." in down
    assert "Last seen with 4 busy GPUs: chen.w ×3, mkato." in down
    assert "Next: ping 10.2.0.14" in down
    assert host_url("gpu04") in body(html, "gpu04")
    assert "Next: reboot nlp-2" in body(html, "nlp-2")
    assert "128 cores, load 91.2. No NVIDIA driver is installed on this machine." in body(html, "cpu-big")
    assert "Expected since 12:32." in body(html, "new-1")
    for word in ("no GPU", "unseen", "no GPU data"):
        assert word in html


def test_gaps_of_the_last_hours_are_hatched():
    gap = row(EVERY_PAGE["lab rows"], "dgx-a", 0)
    assert '<rect x="20" width="3" height="18" fill="url(#gap)"/>' in gap
    assert "fill" not in row(EVERY_PAGE["lab rows"], "dgx-b", 0)


def test_title_counts_and_answers():
    html = EVERY_PAGE["lab chosen"]
    assert "<title>7 of 42 GPUs free - Perception Lab</title>" in html
    reading = Reading(html)
    figures = {found["data-state"]: found for found in reading.all("a", role="button") if "data-state" in found}
    assert list(figures) == ["free", "idle", "busy", "reserved", "unknown", "stale", "down"]
    assert {found["aria-pressed"] for found in figures.values()} == {"false"}
    assert [figures["free"]["href"], figures["down"]["href"]] == ["/?state=free", "/?state=down"]
    text = " ".join(" ".join(reading.text).split())
    assert "A100 80GB 2 of 8 dgx-a 3 6 1 reserved" in text
    assert "MIG 2g.20gb 1 of 2 dgx-b 7.2" in text
    assert "lisa dgx-a 1 2 142.8 GB 9 h 20 m" in text
    order = [text.index(words) for words in ("gpu04 unreachable", "gpu05 unreachable", "nlp-2 Driver", "gpu03 2 GPU lost", "vision-2 1 91 °C", "nlp-1 stale")]
    assert order == sorted(order)


def test_nothing_free_nobody_idle_nothing_wrong():
    one = samples.node("a", (), samples.machine(1, 1, 2), samples.busy("a", 0, "L40S", "lisa", "x", 1, 1, 60))
    text = " ".join(Reading(cluster_page(ClusterNow(samples.NOW, (one,)), ViewOptions(), Fragments())).text)
    assert "No GPU is free: L40S (1)." in text
    assert "Nobody holds memory without work." in text
    assert "Nothing." in text


def test_demo_notices_zone_and_twins_are_named():
    html = cluster_page(replace(LAB, simulated=True, notices=("The disk is <full>.",)), ViewOptions(query="lisa"), Fragments())
    assert "Demo: the GPUs are simulated" in html
    assert "The disk is &lt;full&gt;." in html
    assert "Times are Europe/Berlin (UTC+01:00)" in html
    reading = Reading(html)
    addresses = [found["href"] for found in reading.all("a")]
    assert "/?q=lisa&format=json" in addresses
    assert "/?q=lisa&format=csv" in addresses
    assert reading.all("code", id="curl")[0]["data-path"] == "/?q=lisa&term=true&detail=true"
    for name, page in EVERY_PAGE.items():
        assert "Times are" in page or name.startswith(("message", "no ")), name
        assert "Demo:" not in page


def test_links_keep_the_filters():
    options = ViewOptions(query="a b", tag="train", sort="memory", descending=True, layout="flat", state="busy")
    reading = Reading(cluster_page(LAB, options, Fragments()))
    kept = {"q": ["a b"], "tag": ["train"], "sort": ["-memory"], "view": ["flat"], "state": ["busy"]}

    def asks(address: str) -> dict[str, list[str]]:
        return parse_qs(urlsplit(address).query)

    pressed = next(found for found in reading.all("a", role="button") if found.get("data-state") == "busy")
    assert pressed["aria-pressed"] == "true"
    assert asks(pressed["href"]) == {key: value for key, value in kept.items() if key != "state"}
    free = next(found for found in reading.all("a", role="button") if found.get("data-state") == "free")
    assert asks(free["href"]) == {**kept, "state": ["free"]}
    hidden = {found["name"]: [found["value"]] for found in reading.all("input", type="hidden")}
    assert hidden == {key: value for key, value in kept.items() if key != "q"}
    heads = [found for found in reading.all("a") if asks(found["href"]).get("sort") == ["-utilization"]]
    assert asks(heads[0]["href"]) == {**kept, "sort": ["-utilization"]}
    assert reading.all("th", **{"aria-sort": "descending"})
    by_host = next(found for found in reading.all("a") if asks(found["href"]).get("view") == ["rows"])
    assert asks(by_host["href"]) == {**kept, "view": ["rows"]}
    without_tag = [found for found in reading.all("a", **{"class": "chosen"}) if "tag" not in asks(found["href"])]
    assert asks(without_tag[0]["href"]) == {key: value for key, value in kept.items() if key != "tag"}


def shown_rows(html: str) -> list[str]:
    return re.findall(r'<tr role="row" id="g-([^"]+)"', html)


def test_filter_sort_and_free_only_without_script():
    def rows(**options: object) -> list[str]:
        return shown_rows(cluster_page(LAB, ViewOptions(**options), Fragments()))

    assert rows(query="lisa l40s") == ["vision-2~2"]
    assert rows(free_only=True) == ["dgx-a~3", "dgx-a~6", "dgx-b~5", "dgx-b~7", "gpu01~1", "gpu01~2", "vision-2~3", "gpu03~1"]
    assert rows(state="lost") == ["gpu03~2"]
    assert rows(user="student2") == ["old-1~1"]
    assert rows(sort="temperature", descending=True)[0] == "vision-2~0"
    assert rows(sort="temperature", descending=True, layout="flat")[:2] == ["vision-2~1", "vision-2~0"]
    nothing = cluster_page(LAB, ViewOptions(query="h100 lisa nobody"), Fragments())
    assert "No GPU matches <q>h100 lisa nobody</q>." in nothing
    assert '<p id="none" class="empty">' in nothing
    assert '<p id="none" class="empty" hidden>' in EVERY_PAGE["lab rows"]
    partly = body(cluster_page(LAB, ViewOptions(query="lisa"), Fragments()), "dgx-a")
    assert 'rowspan="2"' in partly


def test_pages_of_a_large_list():
    large = samples.large(130, 1)
    first = cluster_page(large, ViewOptions(layout="rows", query="0"), Fragments())
    assert 'class="view-rows is-paged"' in first
    assert len(re.findall('<tbody role="rowgroup"', first)) == 60
    after = Reading(first).all("a", rel="next")[0]["href"]
    assert parse_qs(urlsplit(after).query) == {"q": ["0"], "view": ["rows"], "page": ["2"]}
    second = cluster_page(large, ViewOptions(layout="rows", query="0", page=2), Fragments())
    assert not set(re.findall('data-key="([^"]+)"', first)) & set(re.findall('data-key="([^"]+)"', second))
    assert cluster_page(large, ViewOptions(layout="rows", page=999), Fragments()).count('<tbody role="rowgroup"') == 130 - 120


def test_empty_and_messages():
    assert "No nodes yet." in EVERY_PAGE["empty"]
    assert "gpuwatch node" in EVERY_PAGE["empty"]
    assert "No such host" in EVERY_PAGE["no host"]
    assert "No such GPU" in EVERY_PAGE["no gpu"]
    text = " ".join(Reading(message_page("Not found", "No page is at /x.", "Next: look at /.")).text)
    assert "No page is at /x." in text
    assert "Next: look at /." in text


def test_host_page_has_processes_and_machine():
    text = " ".join(" ".join(Reading(EVERY_PAGE["lab host dgx-b"]).text).split())
    for part in ("5001", "python eval_all.py --split test --batch 64", "7.1", "CPU", "AMD EPYC 7742", "31.2, 30.4, 28.9", "388.0 GB of 2048 GB", "550.90.07"):
        assert part in text
    assert "10.2.0.11" in text
    old = " ".join(Reading(EVERY_PAGE["lab host gpu04"]).text)
    assert "The last reading is of 14:20." in old
    assert "Xid 79" in EVERY_PAGE["lab host gpu03"]
    assert "docker preprocess, job 8841" in EVERY_PAGE["lab host gpu01"]


def test_gpu_page_has_health_and_figures():
    views = {(view.host, view.reading.index): view.reading.uuid for node in LAB.nodes for view in node.gpus}
    text = " ".join(" ".join(Reading(EVERY_PAGE[f"lab gpu {views['dgx-a', 1]}"]).text).split())
    for part in ("idle 9 h 20 m: lisa holds 71.4 of 80 GB", "0 uncorrected", "12 of 12 links up", "Gen 4 x16", "30 m without a reading"):
        assert part in text
    hot = EVERY_PAGE[f"lab gpu {views['vision-2', 1]}"]
    assert "thermal (hardware)" in hot
    assert "not supported" in EVERY_PAGE[f"lab gpu {views['old-1', 2]}"]


# ---- news


def changed(cluster: ClusterNow, name: str, version: int, **more: object) -> ClusterNow:
    """The cluster after one node brought something new."""
    nodes = tuple(replace(node, version=version, **more) if node.name == name else node for node in cluster.nodes)
    return replace(cluster, nodes=nodes, version=version, taken_at=cluster.taken_at + 21)


def test_live_update_brings_only_what_changed():
    fragments = Fragments()
    after = changed(replace(LAB, taken_at=LAB.taken_at + 20), "dgx-a", 10)
    news = live_update(after, ViewOptions(), 9, fragments)
    assert news["changed"] is True
    assert news["version"] == 10
    assert set(news["hosts"]) == {"dgx-a", "nlp-1"}
    assert news["hosts"]["dgx-a"].startswith('<tbody role="rowgroup" id="h-dgx-a"')
    assert news["read_at"] == "14:32:51"
    assert "order" not in news
    quiet = replace(after, nodes=tuple(node for node in after.nodes if node.status != "stale"))
    same = live_update(quiet, ViewOptions(), 10, fragments)
    assert set(same) == {"version", "changed", "read_at", "order_id"}
    assert (same["version"], same["changed"], same["read_at"]) == (10, False, "14:32:51")
    everything = live_update(after, ViewOptions(), 0, fragments)
    assert everything["order"] == [node.name for node in after.nodes]
    assert set(everything["hosts"]) == set(everything["order"])


def test_live_update_tells_that_hosts_came_or_went():
    fragments = Fragments()
    page = cluster_page(LAB, ViewOptions(), fragments)
    before = Reading(page).all("body")[0]["data-order"]
    assert live_update(LAB, ViewOptions(), 9, fragments)["order_id"] == before
    fewer = replace(LAB, nodes=LAB.nodes[1:], version=10)
    assert live_update(fewer, ViewOptions(), 9, fragments)["order_id"] != before
    assert live_update(LAB, ViewOptions(sort="memory"), 9, fragments)["order_id"] == before


def test_spans_of_silent_hosts_go_on():
    fragments = Fragments()
    assert "down 12 min" in cluster_page(LAB, ViewOptions(), fragments)
    later = replace(LAB, taken_at=LAB.taken_at + 60)
    assert "down 13 min" in cluster_page(later, ViewOptions(), fragments)
    turn = replace(LAB, taken_at=LAB.taken_at // 60 * 60 + 65)
    news = live_update(turn, ViewOptions(), LAB.version, fragments)
    assert news["changed"] is True
    assert "down 13 min" in news["hosts"]["gpu04"]
    assert "dgx-a" not in news["hosts"]


def test_a_host_that_went_down_counts_seconds():
    def down(now: float) -> ClusterNow:
        node = samples.node("a", (), None, status="down", status_since_at=samples.NOW, error="connection refused")
        return ClusterNow(now, (node,), version=5)

    fragments = Fragments()
    assert "down 40 s" in cluster_page(down(samples.NOW + 40), ViewOptions(), fragments)
    assert "down 46 s" in live_update(down(samples.NOW + 46), ViewOptions(), 5, fragments)["hosts"]["a"]
    assert "Connection refused" in cluster_page(down(samples.NOW + 40), ViewOptions(), fragments)
    assert live_update(down(samples.NOW + 640), ViewOptions(), 5, fragments)["changed"] is False


def test_fragments_are_made_once_per_version():
    fragments = Fragments()
    first = cluster_page(LAB, ViewOptions(), fragments)
    kept = len(fragments)
    assert cluster_page(LAB, ViewOptions(), fragments) == first
    assert len(fragments) == kept
    view = LAB.nodes[0].gpus[3]
    taken = replace(view, state=GpuState("busy", LAB.taken_at))
    gpus = (*LAB.nodes[0].gpus[:3], taken, *LAB.nodes[0].gpus[4:])
    after = changed(LAB, "dgx-a", 10, gpus=gpus)
    assert 'is-busy" data-state="busy"' in row(cluster_page(after, ViewOptions(), fragments), "dgx-a", 3)


def test_no_bytes_cross_audiences():
    """A fragment made for an admin, with whole commands, is never handed to a stranger."""
    fragments = Fragments()
    secret = samples.node("a", (), samples.machine(1, 1, 2), samples.busy("a", 0, "L40S", "lisa", "train --token=hunter2", 1, 1, 60))
    plain = samples.node("a", (), samples.machine(1, 1, 2), samples.busy("a", 0, "L40S", "lisa", "train", 1, 1, 60))
    for layout in ("rows", "flat", "grid"):
        admin = cluster_page(ClusterNow(samples.NOW, (secret,), audience="admin"), ViewOptions(audience="admin", layout=layout), fragments)
        stranger = cluster_page(ClusterNow(samples.NOW, (plain,)), ViewOptions(layout=layout), fragments)
        assert ("hunter2" in admin) is (layout != "grid")
        assert "hunter2" not in stranger
        assert "hunter2" not in str(live_update(ClusterNow(samples.NOW, (plain,)), ViewOptions(layout=layout), 0, fragments))


def test_live_address_of_a_page():
    reading = Reading(cluster_page(LAB, ViewOptions(query="lisa", tag="train", state="busy", sort="memory"), Fragments()))
    body_ = reading.all("body")[0]
    assert body_["data-live"] == "/live?tag=train&sort=memory&view=rows"
    assert body_["data-version"] == "0"
    assert body_["data-poll"] == "5"
    assert Reading(EVERY_PAGE["large "]).all("body")[0]["data-poll"] == "10"


def test_flat_list_has_a_part_per_gpu():
    html = cluster_page(LAB, ViewOptions(layout="flat"), Fragments())
    assert len(shown_rows(html)) == sum(len(node.gpus) for node in LAB.nodes if node.status not in ("down", "error", "unseen"))
    assert html.count("down 12 min") == 1
    news = live_update(LAB, ViewOptions(layout="flat"), 0, Fragments())
    assert re.findall('data-key="([^"]+)"', html) == news["order"] == list(news["hosts"])
    assert len(set(news["order"])) == len(news["order"])


def test_public_names():
    assert set(as_html.__all__) == {"Fragments", "cluster_page", "gpu_page", "host_page", "live_update", "message_page"}


def test_the_footer_of_every_page_leads_to_the_pages_that_the_bar_does_not_name():
    for html in (cluster_page(LAB, ViewOptions(), Fragments()), host_page(LAB, LAB.nodes[0].name, ViewOptions())):
        footer = re.search(r"<footer>.*</footer>", html, re.DOTALL).group(0)
        assert '<a href="/hubs">Hubs</a>' in footer
        assert '<a href="/import">Imports</a>' in footer


def test_the_footer_names_the_keys_that_do_something_here():
    def keys(html):
        return re.findall(r"<kbd>(.*?)</kbd>", re.search(r'<span class="js">Keys: (.*?)</span>', html).group(1))

    assert keys(cluster_page(LAB, ViewOptions(), Fragments())) == ["/", "f", ",", "?"]
    assert keys(host_page(LAB, LAB.nodes[0].name, ViewOptions())) == [",", "?"]
    assert keys(message_page("Not found", "There is no such page.")) == ["?"]


def test_a_lost_gpu_says_how_long_as_the_other_rows_do():
    page = cluster_page(LAB, ViewOptions(), Fragments())
    row = re.search(r'<tr [^>]*class="gpu is-lost".*?</tr>', page, re.DOTALL).group(0)
    assert re.search(r'class="since" title="since [^"]+">5 h 18 m</td>', row)


def test_a_name_in_a_message_is_written_as_it_is():
    node = next(node for node in LAB.nodes if node.status == "error")
    for said, told in ((f"{node.name} answered 302. Next: x", f": {node.name} answered 302"), ("connection refused by x.", ": Connection refused")):
        html = cluster_page(replace(LAB, nodes=(replace(node, error=said),)), ViewOptions(), Fragments())
        assert told in "".join(Reading(html).text)


def test_idle_memory_of_nobody_is_as_old_as_its_last_work():
    node = next(node for node in LAB.nodes if node.name == "gpu01")
    nobody = next(view for view in node.gpus if view.state.state == "idle" and not view.reading.processes)
    late = replace(nobody, state=GpuState("idle", LAB.taken_at - 60, True, no_work_since_at=LAB.taken_at - 1860))
    node = replace(node, gpus=tuple(late if view is nobody else view for view in node.gpus))
    page = cluster_page(replace(LAB, nodes=(node,)), ViewOptions(), Fragments())
    row = next(row for row in re.findall(r"<tr .*?</tr>", page, re.DOTALL) if "idle 31 m" in row)
    assert "≥ 31 m</td>" in row


def test_a_slice_that_is_held_without_work_stands_among_the_idle():
    dgx = next(node for node in LAB.nodes if node.name == "dgx-b")
    split = dgx.gpus[-1]
    quiet = GpuState("idle", LAB.taken_at - 3600, no_work_since_at=LAB.taken_at - 5400)
    split = replace(split, mig_states=(split.mig_states[0], quiet, split.mig_states[2]))
    page = cluster_page(replace(LAB, nodes=(replace(dgx, gpus=(*dgx.gpus[:-1], split)),)), ViewOptions(), Fragments())
    row = re.search(r'<tr><th scope="row"><b><a href="/\?user=student7">.*?</tr>', page, re.DOTALL).group(0)
    assert "dgx-b</a> <b>7.1</b>" in row
    assert "4.6 GB" in row
    assert "1 h 30 m" in row
