"""docs/security.md claims nothing that no test holds: each test that it names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_every_test_that_the_page_names_exists():
    there = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        there |= set(re.findall(r"^\s*def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 25
    assert named - there == set()


def test_every_line_of_a_table_names_one():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| who")]
    assert len(rows) > 15
    assert [row for row in rows if "`test_" not in row] == []
