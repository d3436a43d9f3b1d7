"""The page of a large cluster: its data, its legend, its list, and what changes."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from tests.render import samples

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.view import ViewOptions
from gpuwatch.render.as_html import Fragments, cluster_page, live_update
from gpuwatch.render.html_grid import MINUTES_FROM

LARGE = samples.large(1000)
PAGE = cluster_page(LARGE, ViewOptions(), Fragments())


def block(html: str) -> dict:
    """The data of the grid, as the script reads it."""
    return json.loads(re.search(r'<script type="application/json" id="cells">(.*?)</script>', html, re.DOTALL).group(1))


def test_large_clusters_get_the_grid_and_may_refuse_it():
    assert 'class="view-grid"' in PAGE
    assert 'id="cells"' not in cluster_page(samples.large(60, 1), ViewOptions(), Fragments())
    assert 'id="cells"' in cluster_page(samples.large(61, 1), ViewOptions(), Fragments())
    assert 'id="cells"' not in cluster_page(samples.large(61, 1), ViewOptions(layout="rows"), Fragments())
    assert 'id="cells"' in cluster_page(samples.lab(), ViewOptions(layout="grid"), Fragments())


def test_data_is_small_and_whole():
    text = re.search(r'id="cells">(.*?)</script>', PAGE, re.DOTALL).group(1)
    assert len(text.encode()) <= 300_000
    assert len(PAGE.encode()) <= 400_000
    rows = block(PAGE)["rows"]
    assert [row[0] for row in rows] == [node.name for node in LARGE.nodes]
    for row, node in zip(rows, LARGE.nodes):
        assert len(row[4]) == max(len(node.gpus), 0 if node.status == "up" else 1)
        assert len(row[5]) == len(row[6]) == len(row[8]) == len(row[9]) == len(node.gpus)


def test_a_row_says_what_the_readings_say():
    rows = {row[0]: row for row in block(cluster_page(samples.lab(), ViewOptions(layout="grid"), Fragments()))["rows"]}
    name, tag, models, total, kinds, util, memory, users, owners, since, note = rows["dgx-a"]
    assert (name, tag, models, total, kinds, note) == ("dgx-a", "train", "A100 80GB", 80, "biifbrfb", "")
    assert util[:2] == [99, 0]
    assert memory[:2] == [74.1, 71.4]
    assert [users[owner] if owner is not None else None for owner in owners] == ["chen.w", "lisa", "lisa", None, "chen.w", None, None, "root"]
    assert (since[3] + MINUTES_FROM) * 60 <= samples.NOW - 5.7 * 3600 < (since[3] + MINUTES_FROM + 1) * 60
    assert rows["old-1"][4] == "bnnb"
    assert rows["old-1"][5] == [54, None, None, 100]
    assert rows["old-1"][6][2] is None
    assert rows["gpu03"][4] == "bfdi"
    assert rows["vision-2"][4] == "btbf"
    assert rows["gpu05"][4:] == ["d", [], [], [], [], [], "down"]
    assert rows["new-1"][4] == "u"
    assert rows["cpu-big"][4] == ""


def legend(page: str) -> dict[str, tuple[int, int]]:
    """(GPUs, hosts whose GPUs nobody has seen) of each kind."""
    found = {}
    for word, told in re.findall(r"<li>(?:<svg.*?</svg>|<span.*?</span>)([^<>]+) (<b>.*?)</li>", re.search(r'<ul id="legend">(.*?)</ul>', page).group(1)):
        hosts = re.findall(r"<b>([\d,]+) hosts?</b>", told)
        gpus = re.findall(r"<b>([\d,]+)</b>", told)
        found[word] = tuple(int(numbers[0].replace(",", "")) if numbers else 0 for numbers in (gpus, hosts))
    return found


def figures(page: str) -> dict[str, int]:
    """What the figures at the top say."""
    return {state: int(count.replace(",", "")) for state, count in re.findall(r'data-state="(\w+)" aria-pressed="\w+"><span class="n">([\d,]+)<', page)}


def test_legend_counts_every_gpu_and_every_host_without_cells_of_its_own():
    counts = legend(PAGE)
    rows = block(PAGE)["rows"]
    of_gpus, of_hosts = ("".join(row[4] for row in rows if bool(row[5]) is seen) for seen in (True, False))
    assert sum(gpus for gpus, _ in counts.values()) == len(of_gpus)
    assert sum(hosts for _, hosts in counts.values()) == len(of_hosts) > 0
    assert counts["free"] == (of_gpus.count("f"), 0)
    assert counts["down or lost"] == (of_gpus.count("d"), of_hosts.count("d"))


def test_legend_and_figures_at_the_top_say_the_same_numbers():
    for cluster in (LARGE, samples.lab()):
        page = cluster_page(cluster, ViewOptions(layout="grid"), Fragments())
        top, below = figures(page), {word: gpus for word, (gpus, _) in legend(page).items()}
        assert top["down"] == below["down or lost"] > 0
        for state, word in (("free", "free"), ("idle", "idle, held"), ("stale", "stale"), ("reserved", "reserved")):
            assert top.get(state, 0) == below.get(word, 0)
    assert "down or lost <b>5</b> and <b>2 hosts</b>" in page
    assert "unseen <b>1 host</b>" in page


def test_the_list_is_the_grid_in_words_and_in_pages():
    first = re.search(r'<tbody id="rows">(.*?)</tbody>', PAGE, re.DOTALL).group(1)
    assert first.count("<tr>") == 60
    assert 'aria-label="0 ' in first
    assert 'rel="next"' in PAGE
    third = cluster_page(LARGE, ViewOptions(page=3), Fragments())
    shown = re.findall(r'<th scope="row"><a href="/hosts/([^"]+)"', re.search(r'<tbody id="rows">(.*?)</tbody>', third, re.DOTALL).group(1))
    assert shown == [node.name for node in LARGE.nodes[120:180]]
    found = cluster_page(LARGE, ViewOptions(query="teaching"), Fragments())
    assert len(block(found)["rows"]) == 1000
    assert '<small id="n">60</small>' in found
    assert len(block(cluster_page(LARGE, ViewOptions(tag="teaching", layout="grid"), Fragments()))["rows"]) == 60


def test_answers_say_which_hosts_have_8_4_2_1():
    rows = re.findall(r'data-model="([^"]+)" data-least="(\d)">([\d,]+)<', PAGE)
    expected = {}
    for node in LARGE.nodes:
        free = sum(view.state.state == "free" for view in node.gpus)
        for step in (8, 4, 2, 1):
            if free >= step and node.target.tags[0] in ("a100", "bio"):
                expected[str(step)] = expected.get(str(step), 0) + 1
    assert {step: int(count.replace(",", "")) for model, step, count in rows if model == "A100 80GB"} == expected
    assert "a GPU lost" in PAGE
    assert "unreachable" in PAGE


def test_news_of_the_grid_are_the_rows_that_changed():
    fragments = Fragments()
    nodes = tuple(replace(node, version=10) if place in (3, 7) else node for place, node in enumerate(LARGE.nodes))
    after = ClusterNow(samples.NOW + 5, nodes, version=10)
    news = live_update(after, ViewOptions(), 9, fragments)
    assert [row[0] for row in news["cells"]["rows"]] == [nodes[3].name, nodes[7].name]
    assert news["cells"]["whole"] is False
    assert "hosts" not in news
    everything = live_update(after, ViewOptions(), 0, fragments)["cells"]
    assert everything["whole"] is True
    assert len(everything["rows"]) == 1000
    json.dumps(everything)


def test_one_host_for_the_side_is_asked_for_as_rows():
    name = LARGE.nodes[0].name
    news = live_update(LARGE, ViewOptions(layout="rows", host=name), 0, Fragments())
    assert list(news["hosts"]) == [name]


def test_a_live_answer_of_rows_is_never_the_whole_cluster():
    assert len(live_update(LARGE, ViewOptions(layout="rows"), 0, Fragments())["hosts"]) == 60
