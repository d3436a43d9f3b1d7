"""The smallest parts of a page."""

from __future__ import annotations

import json

import pytest
from tests.render.samples import HOSTILE

from gpuwatch.model.view import ViewOptions
from gpuwatch.render import html_parts as parts


@pytest.mark.parametrize("text", HOSTILE)
def test_text_and_json_cannot_end_their_place(text):
    assert not set(parts.e(text)) & set("<>\"'\x1b\x00\u202e")
    block = parts.json_block({"name": text.encode("utf-8", "replace").decode()})
    assert not set(block) & set("<>&")
    assert json.loads(block) == {"name": text.encode("utf-8", "replace").decode()}


def test_anchors_are_different_and_plain():
    names = ["gpu_01", "gpu-01", "gpu.01", "gpu 01", "gpu_5f_01", "小林", "", "a~1", "a"]
    anchors = {parts.host_id(name) for name in names}
    assert len(anchors) == len(names)
    assert all(anchor.isascii() and not set(anchor) & set(" \"'<>&#%") for anchor in anchors)
    assert parts.gpu_id("a", 1) != parts.gpu_id("a~1", 1)


def test_addresses_are_quoted():
    assert parts.host_url("a/../b?c#d é") == "/hosts/a%2F..%2Fb%3Fc%23d%20%C3%A9"
    assert parts.gpu_url("GPU-1/x") == "/gpus/GPU-1%2Fx"
    assert parts.link(ViewOptions()) == "/"
    assert parts.link(ViewOptions(query="a&b", page=3), tag="<t>") == "/?q=a%26b&amp;tag=%3Ct%3E"
    assert parts.link(ViewOptions(sort="user", descending=True, free_only=True)) == "/?free=true&amp;sort=-user"


def test_not_reported_has_words_for_every_reader():
    assert parts.not_reported("no <x>") == '<span class="nr" title="not reported: no &lt;x&gt;">not reported</span>'
    assert "not reported</span>" in parts.not_reported(short=True)


def test_meter_stays_within_its_scale():
    assert parts.meter(120, 100) == '<meter min="0" max="100" value="100" aria-hidden="true"></meter>'
    assert 'value="0"' in parts.meter(-1, 100)


def test_sparkline_draws_values_and_hatches_gaps():
    assert parts.sparkline(()) == ""
    assert parts.sparkline((None, None)) == ""
    drawn = parts.sparkline((0.0, 100.0, None, None, 50.0))
    assert '<path d="M0 18h1V0h1V18h2V9h1V18"/>' in drawn
    assert '<rect x="2" width="2" height="18" fill="url(#gap)"/>' in drawn
    assert 'd="M0 17.5h5"' in drawn
    assert parts.sparkline((0.0, 0.0)).count("<rect") == 0
    assert parts.sparkline((None, 1.0, None)).count("<rect") == 2
    assert 'viewBox="0 0 60 96"' in parts.sparkline((1.0, 2.0), width=30, height=96)
