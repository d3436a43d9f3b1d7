"""What is made once of a host's facts and filled in at each poll, against what is written anew each time."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Callable, Dict

import pytest
from tests.render import samples
from tests.render.live import Live, by_hand, is_built

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import as_ascii, as_html
from gpuwatch.render.filling import Pool
from gpuwatch.render.fragments import Fragments
from gpuwatch.render.stencil import Hole, Stencil, written


def _some(cache: Any) -> Fragments:
    return Fragments() if cache is None else cache


View = Callable[[ClusterNow, Any], str]
TEXTS: Dict[str, View] = {
    "table": lambda now, cache: as_ascii.table(now, ViewOptions(now.audience), cache),
    "wide table": lambda now, cache: as_ascii.table(now, ViewOptions(now.audience, width=200, color=True), cache),
    "gpu_table": lambda now, cache: as_ascii.gpu_table(now, ViewOptions(now.audience, width=140), cache),
    "detail": lambda now, cache: as_ascii.detail(now, ViewOptions(now.audience, color=True), cache),
    "narrow detail": lambda now, cache: as_ascii.detail(now, ViewOptions(now.audience, width=60, ascii_only=True), cache),
    "rows": lambda now, cache: as_ascii.rows(now, ViewOptions(now.audience, width=120), cache),
    "rows with processes": lambda now, cache: as_ascii.rows(now, ViewOptions(now.audience, detail=True), cache),
    "rows in colour": lambda now, cache: as_ascii.rows(now, ViewOptions(now.audience, detail=True, color=True), cache),
}
PAGES: Dict[str, View] = {
    "page": lambda now, cache: as_html.cluster_page(now, ViewOptions(now.audience, layout="rows"), _some(cache)),
    "grid": lambda now, cache: as_html.cluster_page(now, ViewOptions(now.audience, layout="grid"), _some(cache)),
    "live": lambda now, cache: json.dumps(as_html.live_update(now, ViewOptions(now.audience, layout="rows"), 0, _some(cache))),
    "live grid": lambda now, cache: json.dumps(as_html.live_update(now, ViewOptions(now.audience, layout="grid"), 0, _some(cache))),
}
VIEWS = {**TEXTS, **PAGES}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_what_is_filled_in_is_what_would_be_written(view: View) -> None:
    """Through polls that change numbers, facts, states and the time, of all states of nodes and GPUs."""
    live, cache = Live(*samples.hostile().nodes[:3]), Fragments()

    def look() -> None:
        for audience in ("stranger", "member"):
            now = live.cluster(audience)
            shown = view(now, cache)
            assert shown == view(by_hand(now), None)

    live.poll()
    look()
    for _ in range(4):
        live.poll(live.numbers)
        look()
    live.poll(lambda snapshot: replace(snapshot, gpus=tuple(replace(gpu, processes=gpu.processes[1:]) for gpu in snapshot.gpus)))
    look()
    away = ("gpu01", "dgx-a")
    for passed in (20, 3600, 86400):  # stale, down, long down
        live.now += passed
        live.poll(live.numbers, without=away)
        look()
        live.latest.fail("gpu01", "No answer. Next: look there.", live.now)
    live.poll(live.numbers)
    look()
    tagged = [(replace(node.target, tags=("moved",)), node.machine_id) for node in reversed(list(live.nodes.values()))]
    live.latest.set_targets(tagged, live.now)
    look()


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_hosts_whose_facts_are_known_are_shown_without_their_readings(view: View) -> None:
    live, cache = Live(), Fragments()
    live.poll()
    view(live.cluster(), cache)
    live.poll()
    now = live.cluster()
    view(now, cache)
    built = {node.name for node in now.nodes if is_built(node)}
    assert built <= {"dgx-b", "gpu03", "old-1", "vision-2", "nlp-2"}  # slices; a lost, an unknown, a hot GPU; a host in error


def test_a_stencil_is_filled_in_with_what_stands_at_its_places() -> None:
    pieces = ["a ", Hole("{}:{:.1f}".format, (2,), ("x",)), " b", Hole("{}".format, (None,)), Hole("{}:{:.1f}".format, (0,), ("y",)), "\n"]
    numbers = [1.0, 2.0, 3.0]
    stencil = Stencil(pieces, 3)
    for _ in range(2):
        assert stencil.fill(Pool(numbers, [None])) == "a x:3.0 bNoney:1.0\n"
    assert stencil.fill(Pool([7.0, *numbers[1:]], [None])) == "a x:3.0 bNoney:7.0\n"
    assert written(pieces) == "a x:2.0 bNoney:0.0\n"
    assert Stencil([], 0).fill(Pool([], [None])) == ""
