from __future__ import annotations

import json
import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from tests.render import samples

from gpuwatch.model import cluster as cluster_model
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import as_csv, as_gpustat, as_json, openapi
from gpuwatch.web.routes import ROUTES

DOCS = Path(__file__).resolve().parents[2] / "docs" / "http-api.md"
DOCUMENT = openapi.document()
LAB = samples.lab()

KINDS = {"string": str, "number": (int, float), "integer": int, "boolean": bool, "array": list, "object": dict, "null": type(None)}


def errors(value: Any, schema: dict[str, Any], where: str = "$") -> list[str]:
    """A validator for the part of JSON Schema that the description uses."""
    if "$ref" in schema:
        return errors(value, DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]], where)
    if "anyOf" in schema:
        tried = [errors(value, one, where) for one in schema["anyOf"]]
        return [] if [] in tried else [f"{where}: none of {schema['anyOf']}", *min(tried, key=len)]
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(isinstance(value, KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool)) for kind in kinds):
        return [f"{where}: {value!r} is not {kinds}"]
    found = [f"{where}: {value!r} is not among {schema['enum']}"] if "enum" in schema and value not in schema["enum"] else []
    if isinstance(value, dict):
        found += errors_of_object(value, schema, where)
    if isinstance(value, list):
        parts = schema.get("prefixItems") or [schema["items"]] * len(value)
        found += [f"{where}: {len(value)} items"] if len(parts) != len(value) else []
        for place, (part, inside) in enumerate(zip(value, parts)):
            found += errors(part, inside, f"{where}[{place}]")
    return found


def errors_of_object(value: dict[str, Any], schema: dict[str, Any], where: str) -> list[str]:
    known, others = schema.get("properties", {}), schema["additionalProperties"]
    found = [f"{where}: lacks {name}" for name in schema.get("required", ()) if name not in value]
    for name, part in value.items():
        if name in known:
            found += errors(part, known[name], f"{where}.{name}")
        elif others is False:
            found.append(f"{where}: {name} is not described")
        else:
            found += errors(part, others, f"{where}.{name}")
    return found


def answer_of(path: str) -> dict[str, Any]:
    schema: dict[str, Any] = DOCUMENT["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    return schema


def test_the_validator_finds_faults():
    schema = {"$ref": "#/components/schemas/Error"}
    assert errors({"error": "x", "next_step": ""}, schema) == []
    assert errors({"error": 1, "next_step": ""}, schema)
    assert errors({"error": "x"}, schema)
    assert errors({"error": "x", "next_step": "", "more": 1}, schema)
    assert errors(True, {"type": "number"})
    assert errors("x", {"type": "string", "enum": ["y"]})


@pytest.mark.parametrize("cluster", [LAB, samples.empty(), samples.hostile()], ids=["lab", "empty", "hostile"])
def test_every_answer_holds_to_the_description(cluster):
    assert errors(json.loads(as_json.cluster_json(cluster, ViewOptions())), answer_of("/api/v1/cluster")) == []
    for node in cluster.nodes:
        assert errors(json.loads(as_json.host_json(cluster, node)), answer_of("/api/v1/hosts/{name}")) == []
        for gpu in node.gpus:
            assert errors(json.loads(as_json.gpu_json(cluster, node, gpu)), answer_of("/api/v1/gpus/{uuid}")) == []
    assert errors(json.loads(as_json.error_json("x", "y")), {"$ref": "#/components/schemas/Error"}) == []


@pytest.mark.parametrize("cluster", [LAB, samples.empty(), samples.hostile()], ids=["lab", "empty", "hostile"])
def test_gpustats_answers_hold_to_theirs(cluster):
    (ours, theirs) = answer_of("/api/v1/cluster")["anyOf"]
    told = json.loads(as_gpustat.cluster_gpustat(cluster, ViewOptions()))
    assert errors(told, theirs) == []
    assert errors(told, ours), "one is not mistaken for the other"
    assert errors(told, answer_of("/api/v1/cluster")) == []
    for node in cluster.nodes:
        host = json.loads(as_gpustat.host_gpustat(cluster, node))
        assert errors(host, {"$ref": "#/components/schemas/GpustatHost"}) == []
        assert errors(host, answer_of("/api/v1/hosts/{name}")) == []


def test_gpustats_schema_finds_faults():
    host = json.loads(as_gpustat.cluster_gpustat(LAB, ViewOptions()))[0]
    schema = {"$ref": "#/components/schemas/GpustatHost"}
    assert errors({key: value for key, value in host.items() if key != "gpus"}, schema)
    assert errors({**host, "gpus": [{**host["gpus"][0], "power.draw": 388.5}]}, schema)
    assert errors({**host, "more": 1}, schema)


def test_every_reference_leads_somewhere_and_everything_is_described():
    text = json.dumps(DOCUMENT)
    schemas = DOCUMENT["components"]["schemas"]
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in schemas
    for name, schema in schemas.items():
        for field, told in schema["properties"].items():
            assert told["description"], f"{name}.{field}"


def test_every_field_of_a_state_has_its_words():
    assert set(openapi.STATE_HELP) == {field.name for field in fields(cluster_model.GpuState)}


def test_every_route_of_the_api_is_described_and_no_other():
    paths = {re.sub(r"<(\w+)>", r"{\1}", route.path) for route in ROUTES if route.path.startswith("/api/v1/")}
    assert paths - {"/api/v1/openapi.json"} == set(DOCUMENT["paths"])


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        ("Number", {"type": ["number", "null"]}),
        ("Optional[float]", {"type": ["number", "null"]}),
        ("str | None", {"type": ["string", "null"]}),
        ("ContainerRef | None", {"anyOf": [{"$ref": "#/components/schemas/ContainerRef"}, {"type": "null"}]}),
        ("Tuple[str, ...]", {"type": "array", "items": {"type": "string"}}),
        ("Mapping[str, str]", {"type": "object", "additionalProperties": {"type": "string"}}),
        ("bool", {"type": "boolean"}),
    ],
)
def test_types(annotation, schema):
    assert openapi.schema_of(annotation) == schema


# ---- docs/http-api.md


def with_tables(text: str) -> str:
    tables = openapi.docs_tables()
    for name in tables:
        assert f"<!-- table: {name} -->" in text, f"docs/http-api.md lacks the table {name}"
    return re.sub(
        r"<!-- table: (\w+) -->\n.*?<!-- end -->",
        lambda match: f"<!-- table: {match[1]} -->\n{tables[match[1]]}\n<!-- end -->",
        text,
        flags=re.DOTALL,
    )


def test_the_tables_in_the_docs_are_those_of_the_model():
    text = DOCS.read_text(encoding="utf-8")
    wanted = with_tables(text)
    if os.environ.get("GOLDEN_UPDATE") == "1":
        DOCS.write_text(wanted, encoding="utf-8")
        return
    assert text == wanted, "GOLDEN_UPDATE=1 writes the tables anew"


def test_the_docs_name_every_route():
    text = DOCS.read_text(encoding="utf-8")
    missing = [route.path for route in ROUTES if f"`{route.path}" not in text and f"`{route.path}/" not in text]
    assert missing == []


def test_the_docs_name_every_csv_column():
    text = DOCS.read_text(encoding="utf-8")
    assert [name for name in as_csv.COLUMNS if f"`{name}`" not in text] == []
