"""The first line of a text view of the past."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.render import samples

from gpuwatch.model.view import ViewOptions
from gpuwatch.render.text_past import marked

THEN = replace(samples.lab(), at=samples.NOW, asked_at=samples.NOW + 90_000, timezone="Europe/Berlin")


def test_now_is_not_marked() -> None:
    assert marked(samples.lab(), ViewOptions(), "text\n") == "text\n"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_past_is(width: int) -> None:
    first, rest = marked(THEN, ViewOptions(width=width), "text\n").split("\n", 1)
    assert first.startswith("PAST  as it was on Wed 18 Nov 2026 14:32:10 CET, 1 d ")
    assert len(first) <= width
    assert rest == "text\n"


def test_colour_only_where_it_is_asked_for() -> None:
    assert marked(THEN, ViewOptions(color=True), "").startswith("\x1b[7mPAST")
    assert marked(THEN, ViewOptions(ascii_only=True), "").isascii()
