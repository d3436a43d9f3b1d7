"""The colours of the style sheet: text and shapes can be read on every ground, light and dark. Computed from the file (WCAG 2 contrast)."""

from __future__ import annotations

import re

import pytest

from gpuwatch.render.static_files import static_file

CSS = static_file("app.css")[0].decode()
GROUNDS = ("--bg", "--raise", "--hair", "--go-tint", "--hold-tint", "--bad-tint")
TEXTS = ("--ink", "--ink-2", "--ink-3", "--go", "--hold", "--bad")
SHAPES = ("--bar", "--bar-2", "--edge", "--go-fill", "--hold-fill", "--bad-fill")


def tokens(selector: str) -> dict[str, str]:
    """The colours that a rule sets."""
    rule = re.search(re.escape(selector) + r"\s*\{(.*?)\}", CSS, re.DOTALL)
    assert rule, selector
    return dict(re.findall(r"(--[\w-]+):\s*(#[0-9a-f]{6});", rule.group(1)))


LIGHT = tokens(":root")
DARK = {**LIGHT, **tokens(':root:not([data-theme="light"])')}
SCHEMES = {"light": LIGHT, "dark": DARK}


def luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_dark_changes_every_colour():
    changed = tokens(':root:not([data-theme="light"])')
    assert set(changed) == set(LIGHT)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("text", TEXTS)
def test_text_is_read_on_the_page_and_on_every_tint(scheme, text):
    colors = SCHEMES[scheme]
    for ground in GROUNDS:
        assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("text", "ground"), [("--on-go", "--go-fill"), ("--bg", "--ink"), ("--on-past", "--past")])
def test_text_is_read_on_filled_controls(scheme, text, ground):
    assert contrast(SCHEMES[scheme][text], SCHEMES[scheme][ground]) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_and_borders_are_seen(scheme, shape):
    assert contrast(SCHEMES[scheme][shape], SCHEMES[scheme]["--bg"]) >= 3


@pytest.mark.parametrize("scheme", SCHEMES)
def test_fills_are_seen_on_their_tint(scheme):
    colors = SCHEMES[scheme]
    for fill, ground in (("--go-fill", "--go-tint"), ("--hold-fill", "--hold-tint"), ("--bad-fill", "--bad-tint"), ("--past", "--bg")):
        assert contrast(colors[fill], colors[ground]) >= 3, fill


@pytest.mark.parametrize("scheme", SCHEMES)
def test_grid_gets_darker_or_lighter_step_by_step(scheme):
    steps = [contrast(SCHEMES[scheme][f"--r{step}"], SCHEMES[scheme]["--bg"]) for step in range(1, 6)]
    assert steps == sorted(steps)
    assert steps[-1] >= 3


def test_style_sheet_asks_for_nothing_from_outside():
    assert "@import" not in CSS
    assert "//" not in re.sub(r"/\*.*?\*/", "", CSS, flags=re.DOTALL)
    assert re.findall(r"url\(([^)]*)\)", CSS) == []
