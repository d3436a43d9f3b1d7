"""Compares a text with a file of ``tests/golden`` and shows what differs. ``GOLDEN_UPDATE=1`` rewrites the files: then look at each."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

MOST_LINES = 60
FOLDER = Path(__file__).resolve().parents[1] / "golden"


def check(name: str, text: str) -> None:
    """Fails with a diff unless ``golden/<name>`` holds exactly this text."""
    path = FOLDER / name
    if os.environ.get("GOLDEN_UPDATE") == "1":
        path.write_bytes(text.encode("utf-8"))
        return
    wanted = path.read_bytes().decode("utf-8") if path.exists() else ""
    if text != wanted:
        lines = list(difflib.unified_diff(wanted.split("\n"), text.split("\n"), f"golden/{name}", "now", lineterm="", n=2))
        diff = "\n".join(lines[:MOST_LINES] + [f"... and {len(lines) - MOST_LINES} lines more"] * (len(lines) > MOST_LINES))
        raise AssertionError(f"differs (GOLDEN_UPDATE=1 accepts it; then look at the file):\n{visible(diff)}")


def visible(text: str) -> str:
    """Escape sequences as text, so that a failing test does not colour the terminal."""
    return text.replace("\x1b", "\\e")
