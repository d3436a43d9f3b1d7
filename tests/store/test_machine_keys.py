"""What a database that spreads large tables over servers by machine (Citus) needs of ours: see docs/postgresql.md.

The machine stands first in the key of each large table; unique indexes hold it; joins and upserts stay within one machine.
"""

import ast
import re
from pathlib import Path

import pytest

from gpuwatch.store import derived, tables, usage

SMALL = {"meta", "machine", "hub", "lease", "enrolled", "enroll_code", "pushed", "worker_command", "gpu_number"}
"""Of a row a machine at most, or of none: every server may have them whole. All others are large."""
ROOT = Path(__file__).resolve().parents[2]
LARGE = {model._meta.table_name for model in tables.TABLES} - SMALL
SPREAD = re.compile(r"ARRAY\[(.*?)\]", re.DOTALL)


def statements():
    """(file, SQL) of each text in the code that is a statement, or a part of one; what an f-string fills in is ``{}``."""
    for path in sorted((ROOT / "src" / "gpuwatch").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            if re.search(r"\b(JOIN|ON CONFLICT)\b", text):
                yield path.name, " ".join(text.split())


def test_the_tables_in_the_docs_are_the_large_ones():
    told = SPREAD.search((ROOT / "docs" / "postgresql.md").read_text(encoding="utf-8"))
    assert set(re.findall(r"'(\w+)'", told.group(1))) == LARGE


def test_the_machine_stands_first_in_each_large_key(store):
    for model in tables.TABLES:
        if model._meta.table_name in LARGE - {"event"}:
            assert model._meta.primary_key.field_names[0] == "machine_id", model
    assert {keys[0] for keys in (usage.GPU_KEYS, usage.USER_KEYS, *derived._KEYS.values())} == {"machine_id"}


def test_no_table_refers_to_another(store):
    if store.path.startswith("postgresql:"):
        assert store.rows("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND connamespace = current_schema()::regnamespace") == [(0,)]
    else:
        assert [store.rows(f"PRAGMA foreign_key_list({name})") for name in sorted(store.table_names())] == [[] for _ in store.table_names()]


def test_unique_indexes_of_large_tables_hold_the_machine(server_store):
    rows = server_store.rows(
        """SELECT t.relname, array_to_string(array(SELECT attname FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = ANY(i.indkey)), ',')
           FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
           WHERE i.indisunique AND t.relkind IN ('r', 'p') AND t.relnamespace = current_schema()::regnamespace"""
    )
    found = [(table, set(columns.split(","))) for table, columns in rows if table in LARGE]
    assert {table for table, _ in found} >= LARGE - {"event"}
    assert [one for one in found if "machine_id" not in one[1]] in ([], [("event", {"id"})])


def _aliases(text):
    """Large tables by the names that a statement gives them."""
    pairs = re.findall(r"\b(?:FROM|JOIN) (\w+)(?: (?:AS )?(?!ON\b|WHERE\b|LEFT\b|JOIN\b|CROSS\b|ORDER\b|LIMIT\b|SET\b)(\w+))?", text)
    return {alias or table: table for table, alias in pairs if table in LARGE}


@pytest.mark.parametrize(("name", "text"), [one for one in statements() if "JOIN" in one[1]])
def test_joins_stay_within_a_machine(name, text):
    known = _aliases(text)
    for alias in re.findall(r"(?<!CROSS )\bJOIN (?!LATERAL)(\w+(?: (?:AS )?(?!ON\b)\w+)?)", text):
        alias = alias.split()[-1]
        if alias in known:
            assert re.search(rf"\b{alias}\.machine_id = \w+\.(machine_)?id\b|\b\w+\.machine_id = {alias}\.machine_id\b", text), (name, text)


@pytest.mark.parametrize(("name", "text"), [one for one in statements() if "ON CONFLICT" in one[1]])
def test_upserts_stay_within_a_machine(name, text):
    table = re.search(r"INSERT INTO (\w+|\{\})", text)
    if table is None or table.group(1) in SMALL:
        return
    target = re.search(r"ON CONFLICT \((.*?)\)", text)
    if target is None:
        assert "ON CONFLICT DO NOTHING" in text
    else:
        assert target.group(1).split(",")[0].strip() in ("machine_id", "{}"), (name, text)  # {}: usage's keys, tried above


def test_something_is_looked_at():
    found = list(statements())
    assert sum("ON CONFLICT" in text for _, text in found) > 8
    assert {"snapshots.py", "packing.py", "rollups.py", "intervals.py", "usage.py", "shapes.py", "states.py"} <= {name for name, _ in found}
