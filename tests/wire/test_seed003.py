"""Seed 003's body of a hub, read as its page reads it: every key a number, every number one that can be written with decimals."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.render import samples

from gpuwatch.wire.legacy import seed003

LAB = samples.lab()


def page(body: bytes) -> list[str]:
    """What its page makes of the body: a card for each number, in their order. A null among the four numbers ends it."""
    cards = []
    data = json.loads(body)
    for number in sorted(int(key) for key in data):
        gpu = data[str(number)]
        cards.append(
            f"GPU {number} ({gpu['gpu_type'] or 'Unknown'}) {gpu['utilization']:.1f}% {gpu['memory_used']:.0f} / {gpu['memory_total']:.0f} ({gpu['memory_percent']:.1f}%)"
        )
    return cards


def test_the_page_shows_a_card_for_each_gpu_that_has_values():
    uuids = seed003.uuids(LAB)
    numbers = {uuid: number for number, uuid in enumerate(dict.fromkeys(uuids))}
    cards = page(seed003.gpu_status(LAB, numbers))
    known = [
        gpu for node in LAB.nodes if node.snapshot is not None and node.status in ("up", "stale") for gpu in node.snapshot.gpus
        if not gpu.error and None not in (gpu.utilization_percent, gpu.memory_used_bytes, gpu.memory_total_bytes)
    ]  # fmt: skip
    assert len(cards) == len({gpu.uuid for gpu in known}) > 3
    assert any(gpu.error or gpu.utilization_percent is None for node in LAB.nodes if node.snapshot for gpu in node.snapshot.gpus), "the lab has some to leave out"


def test_numbers_are_those_given_whatever_the_order_and_what_has_none_is_left_out():
    node = next(node for node in LAB.nodes if node.status == "up" and len(node.snapshot.gpus) > 1)
    first, second = node.snapshot.gpus[:2]
    alone = replace(LAB, nodes=(node,))
    got = json.loads(seed003.gpu_status(alone, {second.uuid: 40, first.uuid: 7}))
    assert set(got) == {"7", "40"}
    assert got["7"]["memory_used"] == round(first.memory_used_bytes / 1024**2, 2)
    assert json.loads(seed003.gpu_status(alone, {})) == {}
    assert seed003.gpu_status(replace(LAB, nodes=()), {}) == b"{}\n"
