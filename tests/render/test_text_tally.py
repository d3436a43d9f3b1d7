from __future__ import annotations

from dataclasses import replace

from tests.render import samples

from gpuwatch.model.cluster import GpuState
from gpuwatch.render.fragments import Fragments
from gpuwatch.render.text_tally import by_label, tally

NODES = {node.name: node for node in samples.lab().nodes}


def test_states_and_cards_of_one_host():
    counted = tally(NODES["dgx-a"])
    assert counted.states == {"busy": 3, "idle": 2, "free": 2, "reserved": 1}
    (cards,) = counted.cards
    assert (cards.host, cards.model, cards.label, cards.total, cards.free) == ("dgx-a", "A100 80GB", "A100 80GB", 8, ("3", "6"))


def test_a_lost_card_is_counted_with_the_others_of_its_name():
    kinds = by_label(tally(NODES["gpu03"]).cards)
    assert {label: sum(one.total for one in cards) for label, cards in kinds.items()} == {"RTX 3090 24GB": 4}
    alone = replace(NODES["gpu03"], gpus=(samples.lost("gpu03", 2, "RTX 3090"),))
    assert list(by_label(tally(alone).cards)) == ["RTX 3090"]


def test_slices_are_counted_by_profile():
    cut = tally(NODES["dgx-b"])
    found = {cards.label: (cards.total, cards.free) for cards in cut.cards if cards.label.startswith("MIG ")}
    assert found["MIG 2g.20gb"] == (2, ("7.2",))
    assert len(found) > 1


def test_a_host_without_gpus():
    assert tally(NODES["new-1"]) == ({}, ())


def test_a_host_is_counted_again_only_with_a_new_version():
    cache, node = Fragments(), NODES["dgx-a"]
    counted = tally(node, cache)
    assert tally(node, cache) is counted
    gpus = tuple(replace(view, state=GpuState("free", None)) for view in node.gpus)
    assert tally(replace(node, gpus=gpus, version=node.version + 1), cache).states == {"free": 8}
