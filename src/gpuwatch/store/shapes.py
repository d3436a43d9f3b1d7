"""The shapes (facts) that snapshots refer to. Each is stored once per machine, compressed against an earlier one: most differ by a process."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, Mapping, Sequence, Tuple

from gpuwatch.model.errors import StoreError
from gpuwatch.store.database import Store
from gpuwatch.store.deflate import deflate_against, inflate
from gpuwatch.store.journal_rows import Example
from gpuwatch.store.memory import ShapeKey
from gpuwatch.wire.numbers import texts_of

_POOR = 0.25
"""A shape that stays larger than this share of its text, in spite of its base, stands on its own and is the next ones' base."""
_SAME_EXAMPLES = """SELECT string_agg(wish.machine_id, ' ')
    FROM unnest(string_to_array(?, ' '), string_to_array(?, ' '), string_to_array(?, ' ')) AS wish (machine_id, id, digest)
    JOIN shape ON shape.machine_id = wish.machine_id AND shape.id = wish.id WHERE encode(sha256(shape.example), 'hex') = wish.digest"""
"""Machines whose example is still the one with this hash. Texts in and out: lists and rows take a client three times as long."""


def read(store: Store, machine_id: str, shape_id: str) -> Dict[str, Any]:
    """The shape's document; shared between callers, so do not change it. Raises StoreError if it is missing or damaged."""
    key = (machine_id, shape_id)
    doc: Dict[str, Any] = store.memory.docs.get(key)
    if doc is None:
        try:
            doc = json.loads(_text(store, key))
        except (ValueError, RecursionError):
            raise StoreError(f"The shape {shape_id} of machine {machine_id} is damaged.") from None
        store.memory.docs.put(key, doc)
    return doc


def write_missing(
    store: Store, used: Mapping[ShapeKey, Tuple[int, Sequence[str]]], docs: Mapping[ShapeKey, Mapping[str, Any]]
) -> Dict[ShapeKey, Example]:
    """Inside ``writing()``: store those of ``used`` (shape -> time in ms and texts of a snapshot with it) that are not stored yet.

    Returns the example of each, which the journal's rows are written against. Raises ValueError when a shape is neither
    stored nor in ``docs``.
    """
    known = _remembered(store, used)
    return {key: known[key] if key in known else _example(store, key, at_ms, texts, docs) for key, (at_ms, texts) in used.items()}


def _remembered(store: Store, used: Iterable[ShapeKey]) -> Dict[ShapeKey, Example]:
    """The examples of ``used`` that need not be asked for. Of a server's database another hub may have dropped them, or made others: their hashes are compared."""
    memory = store.memory.example
    known = {key: memory[key[0]][1] for key in used if key[0] in memory and memory[key[0]][0] == key[1]}
    if store.in_a_file or not known:
        return known
    ((found,),) = store.rows(_SAME_EXAMPLES, [" ".join(column) for column in zip(*((*key, example.digest) for key, example in known.items()))])
    there = frozenset((found or "").split(" "))
    return {key: example for key, example in known.items() if key[0] in there}


def _example(store: Store, key: ShapeKey, at_ms: int, texts: Sequence[str], docs: Mapping[ShapeKey, Mapping[str, Any]]) -> Example:
    rows = store.rows("SELECT example FROM shape WHERE machine_id = ? AND id = ?", key)
    if rows and rows[0][0] is not None:
        return Example(texts_of(bytes(rows[0][0])))
    example = Example(texts)
    if rows:
        store.change("UPDATE shape SET example = ? WHERE machine_id = ? AND id = ?", (example.line, *key))
    elif key not in docs:
        raise ValueError(f"no document for shape {key[1]} of machine {key[0]}")
    else:
        _write(store, key, at_ms, example.line, docs[key])
    return example


def _write(store: Store, key: ShapeKey, at_ms: int, example: bytes, doc: Mapping[str, Any]) -> None:
    text = json.dumps(doc, separators=(",", ":"), ensure_ascii=True).encode()
    base_id, base = _newest_base(store, key[0])
    data = deflate_against(text, base)
    if base_id and len(data) > _POOR * len(text):
        base_id, data = None, deflate_against(text, b"")
    store.change(
        "INSERT INTO shape (machine_id, id, base_id, last_ms, doc, example) VALUES (?, ?, ?, ?, ?, ?)",
        (*key, base_id, at_ms, data, example),
    )


def _newest_base(store: Store, machine_id: str) -> Tuple[Any, bytes]:
    rows = store.rows("SELECT id, doc FROM shape WHERE machine_id = ? AND base_id IS NULL ORDER BY last_ms DESC LIMIT 1", (machine_id,))
    for base_id, data in rows:
        try:
            return base_id, inflate(data)
        except StoreError:  # a damaged one is no reason not to store the next
            break
    return None, b""


def _text(store: Store, key: ShapeKey) -> bytes:
    rows = store.rows(
        """SELECT shape.doc, shape.base_id, base.doc, base.base_id IS NOT NULL FROM shape LEFT JOIN shape AS base
           ON base.machine_id = shape.machine_id AND base.id = shape.base_id WHERE shape.machine_id = ? AND shape.id = ?""",
        key,
    )
    if not rows:
        raise StoreError(f"The shape {key[1]} of machine {key[0]} is missing.")
    data, base_id, base, is_based = rows[0]
    try:
        if is_based:  # it came with another machine that was merged into this one, which has the base against a base of its own
            return inflate(data, _text(store, (key[0], base_id)))
        return inflate(data, inflate(base) if base else b"")
    except StoreError as error:
        raise StoreError(f"The shape {key[1]} of machine {key[0]} cannot be read: {error.message}") from None


def needed_until(store: Store, machine_id: str, last_ms: Mapping[str, int]) -> None:
    """Inside ``writing()``: remember that these shapes are used by snapshots up to these times (ms)."""
    store.change_many(
        "UPDATE shape SET last_ms = ? WHERE machine_id = ? AND id = ? AND last_ms < ?",
        [(at_ms, machine_id, shape_id, at_ms) for shape_id, at_ms in last_ms.items()],
    )


def drop_examples(store: Store, machine_id: str, shape_ids: Iterable[str]) -> None:
    """Inside ``writing()``: forget the examples of those shapes that no row of the journal refers to any more."""
    store.change_many(
        """UPDATE shape SET example = NULL WHERE machine_id = ? AND id = ?
           AND NOT EXISTS (SELECT 1 FROM snapshot_journal j WHERE j.machine_id = shape.machine_id AND j.shape_id = shape.id)""",
        [(machine_id, shape_id) for shape_id in shape_ids],
    )


def delete_unused(store: Store, machine_id: str) -> int:
    """Inside ``writing()``: delete shapes that no snapshot of the machine refers to any more; how many."""
    return store.change(
        """DELETE FROM shape WHERE machine_id = ?
           AND last_ms < coalesce((SELECT min(start_ms) FROM block WHERE block.machine_id = shape.machine_id), last_ms + 1)
           AND id NOT IN (SELECT shape_id FROM snapshot_journal j WHERE j.machine_id = shape.machine_id)
           AND id NOT IN (SELECT s.base_id FROM shape s WHERE s.machine_id = shape.machine_id AND s.base_id IS NOT NULL)""",
        (machine_id,),
    )
