"""Files of what the database holds: cells, and the tables of docs/export.md."""

import json
import os
import re
from pathlib import Path

from gpuwatch.render import csv_export

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export.md"


def test_cells_are_harmless_and_what_is_not_reported_is_empty():
    rows = [(None, 0, 0.5, "=1+1", 'a, "b"', "line\nend", "\ud800")]
    assert csv_export.rows_csv(rows).decode() == ",0,0.5,'=1+1,\"a, \"\"b\"\"\",line end,\ufffd\r\n"
    (line,) = csv_export.rows_json("events", [row[:6] for row in rows]).splitlines()
    assert list(json.loads(line).values()) == [None, 0, 0.5, "=1+1", 'a, "b"', "line\nend"]


def test_names_of_columns_are_told_once():
    for what, columns in csv_export.COLUMNS.items():
        names = [name for name, _ in columns]
        assert len(set(names)) == len(names), what
        assert all(told for _, told in columns), what


def test_the_tables_in_the_docs_are_those_of_the_code():
    text = DOCS.read_text(encoding="utf-8")
    wanted = text
    for what, columns in csv_export.COLUMNS.items():
        table = "| column | what it holds |\n| --- | --- |\n" + "".join(f"| `{name}` | {told} |\n" for name, told in columns)
        wanted = re.sub(rf"(<!-- table: {what} -->\n).*?(<!-- end -->)", lambda match, table=table: f"{match[1]}{table}{match[2]}", wanted, flags=re.DOTALL)
    assert wanted.count("| column | what it holds |") == 5
    if os.environ.get("GOLDEN_UPDATE") == "1":
        DOCS.write_text(wanted, encoding="utf-8")
        return
    assert text == wanted, "GOLDEN_UPDATE=1 writes the tables anew"
