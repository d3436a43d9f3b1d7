"""What the OpenAPI description says of the addresses that machines send to. Pure."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "integer"}

REPLY_FIELDS: tuple[tuple[str, Schema, str], ...] = (
    ("push", _NUMBER, "version of the push, 1"),
    ("have", {"type": ["integer", "null"]}, "the last sequence that the hub took; null = it cannot tell now: keep all, ask again"),
    ("stored", _NUMBER, "the last sequence that is on its disk: what is not later can go"),
    ("shape", _TEXT, "id of the shape that it has; empty for none"),
    ("sample", _NUMBER, "sequence of the record whose values it has at hand, so that the next one may name only what changed; 0 for none"),
    ("hold", {"type": "number"}, "seconds in which no records are wanted, only the live one"),
    ("orders", {"type": "array", "items": {"type": "object"}}, "orders that wait for this node; none in this version"),
)
CODE_FIELDS: tuple[tuple[str, Schema, str], ...] = (
    ("code", _TEXT, "the one-time code of gpuwatch enroll create; empty where the hub takes nodes without one"),
    ("name", _TEXT, "what the node calls itself"),
)
KEY_FIELDS: tuple[tuple[str, Schema, str], ...] = (
    ("id", _TEXT, "id of the key, for the signature's key="),
    ("key", _TEXT, "the key, 64 hex digits; it is told once"),
    ("name", _TEXT, "what the hub calls the node"),
)
SCHEMAS: dict[str, tuple[tuple[str, Schema, str], ...]] = {"PushReply": REPLY_FIELDS, "EnrollRequest": CODE_FIELDS, "EnrollReply": KEY_FIELDS}


def paths() -> Schema:
    """The two addresses."""
    body = {"application/x-gpuwatch-push": {"schema": {"type": "string", "description": "one JSON line, then lines of values; docs/http-api.md tells"}}}
    refusals = {"400": "What was sent cannot be", "401": "The signature is wrong, old, or of a key that is not known", "429": "Too many wrong keys from this address", "503": "Not now; Retry-After says when"}
    codes = {"400": "What was sent cannot be", "403": "The code is wrong, used, or too old", "429": "Too many wrong codes from this address", "503": "Not now"}
    return {
        "/api/v1/push": {
            "post": {"summary": "A node's snapshots, signed", "requestBody": {"content": body, "required": True}, "responses": _responses("PushReply", refusals)}
        },
        "/api/v1/enroll": {
            "post": {
                "summary": "A key for a node that has a code",
                "requestBody": {"content": _json("EnrollRequest"), "required": True},
                "responses": _responses("EnrollReply", codes),
            }
        },
    }


def _json(schema: str) -> Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _responses(schema: str, refusals: dict[str, str]) -> Schema:
    told = {status: {"description": text, "content": _json("Error")} for status, text in refusals.items()}
    return {"200": {"description": "The answer", "content": _json(schema)}, **told}
