from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.render import golden, samples

from gpuwatch.model.view import ViewOptions
from gpuwatch.render import as_csv
from gpuwatch.render.fragments import Fragments

LAB = samples.lab()


def rows(text: str) -> list[dict[str, str]]:
    found = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert all(None not in row and None not in row.values() for row in found), "a line has more or fewer fields than the head"
    return found


def test_golden():
    golden.check("gpus.csv", as_csv.cluster_csv(LAB, ViewOptions()))


def test_a_line_a_gpu_and_one_for_a_host_without():
    found = rows(as_csv.cluster_csv(LAB, ViewOptions()))
    assert len(found) == sum(len(node.gpus) or 1 for node in LAB.nodes)
    first = found[0]
    assert (first["host"], first["index"], first["state"], first["users"]) == ("dgx-a", "0", "busy", "chen.w")
    assert (first["utilization_percent"], first["memory_total_bytes"], first["temperature_celsius"]) == ("99", "85899345920", "67")
    away = next(row for row in found if row["host"] == "gpu05")
    assert (away["node_status"], away["uuid"]) == ("down", "")
    assert away["node_error"].startswith("Connection refused")


def test_unknown_is_empty_and_zero_is_zero():
    found = {(row["host"], row["index"]): row for row in rows(as_csv.cluster_csv(LAB, ViewOptions()))}
    lost = found["gpu03", "2"]
    assert (lost["utilization_percent"], lost["memory_used_bytes"], lost["process_count"], lost["error"]) == ("", "", "", "GPU is lost")
    assert found["gpu03", "1"]["utilization_percent"] == "0"
    assert found["spark", "0"]["memory_total_bytes"] == ""


def test_lines_end_as_the_rfc_says():
    text = as_csv.cluster_csv(LAB, ViewOptions())
    assert text.endswith("\r\n")
    assert "\n" not in text.replace("\r\n", "")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", " =1", '"=1', "＝1", "\x00=1", "\u202e=1"])
def test_formulas_are_made_harmless(text):
    assert as_csv.harmless(text).startswith("'")


@pytest.mark.parametrize("text", ["chen.w", "a-b", "GPU-1", "", "'", "小林"])
def test_other_text_stays(text):
    assert as_csv.harmless(text) == text


@given(st.text())
def test_no_text_is_a_formula_or_breaks_a_line(text):
    node = replace(LAB.nodes[0], target=replace(LAB.nodes[0].target, name=text), error=text)
    out = as_csv.host_csv(LAB, node)
    out.encode("utf-8")
    for row in rows(out):
        assert row["host"].lstrip(' "')[:1] not in ("=", "+", "-", "@", "\t", "\r")
        assert row["host"].isprintable() or not row["host"].isascii()


def test_fields_are_quoted_as_the_csv_module_does_it():
    texts = ["a,b", 'say "hi"', '"', ",", "a b", "'", "x\ty", "a;b", " lead"]
    tagged = replace(LAB.nodes[0], target=replace(LAB.nodes[0].target, tags=tuple(texts)), error='x,"y"')
    (head, *lines) = csv.reader(io.StringIO(as_csv.host_csv(LAB, tagged), newline=""), strict=True)
    again = io.StringIO(newline="")
    csv.writer(again, lineterminator="\r\n").writerows([head, *lines])
    assert again.getvalue() == as_csv.host_csv(LAB, tagged)
    assert lines[0][2:4] == ['x,"y"', 'a,b say "hi" " , a b \' x y a;b  lead']


def test_hostile_names_keep_the_columns():
    cluster = samples.hostile()
    found = rows(as_csv.cluster_csv(cluster, ViewOptions()))
    assert len(found) >= sum(len(node.gpus) for node in cluster.nodes) > 0
    assert all(tuple(row) == as_csv.COLUMNS and None not in row.values() for row in found)


def test_filters_one_host_one_gpu_and_fragments():
    assert {row["host"] for row in rows(as_csv.cluster_csv(LAB, ViewOptions(user="yuki.t")))} == {"gpu01"}
    assert len(rows(as_csv.host_csv(LAB, LAB.nodes[1]))) == 8
    assert [row["index"] for row in rows(as_csv.gpu_csv(LAB, LAB.nodes[1], LAB.nodes[1].gpus[3]))] == ["3"]
    cache = Fragments()
    fresh = as_csv.cluster_csv(LAB, ViewOptions())
    assert as_csv.cluster_csv(LAB, ViewOptions(), cache) == fresh == as_csv.cluster_csv(LAB, ViewOptions(), cache)


def test_every_column_has_its_unit_or_is_explained():
    assert len(set(as_csv.COLUMNS)) == len(as_csv.COLUMNS)
    assert all(meaning for _, meaning in as_csv.FIXED)
