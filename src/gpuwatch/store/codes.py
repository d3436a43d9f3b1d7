"""One-time codes for enrolling a node: kept as hashes, used once by compare-and-set, gone after a while."""

from __future__ import annotations

import hashlib
import secrets
from typing import List, NamedTuple, Optional

from gpuwatch.store.database import Store

_LETTERS = "ABCDEFGHJKMNPQRSTVWXYZ23456789"
"""Without those that look alike."""
_GROUPS, _GROUP = 4, 5
LABEL = _GROUP
KEPT_MS = 30 * 86_400_000
"""So long a code that is used or too old is still listed."""


class Code(NamedTuple):
    """A code as stored. Times in epoch seconds; ``label``: its first characters, which tell nobody the others."""

    hash: str
    label: str
    for_name: str
    created_at: float
    expires_at: float
    used_at: Optional[float]
    used_by: str


def new(store: Store, for_name: str, valid_seconds: float, now: float) -> str:
    """A new code, told once: of 20 characters, 98 bits. ``for_name``: the node that it is for; empty: any."""
    code = "-".join("".join(secrets.choice(_LETTERS) for _ in range(_GROUP)) for _ in range(_GROUPS))
    at_ms = round(now * 1000)
    with store.writing():
        store.change("DELETE FROM enroll_code WHERE expires_at_ms < ?", (at_ms - KEPT_MS,))
        store.change(
            "INSERT INTO enroll_code (hash, label, for_name, created_at_ms, expires_at_ms, used_at_ms, used_by) VALUES (?, ?, ?, ?, ?, NULL, '')",
            (_hash(code), code[:LABEL], for_name, at_ms, at_ms + round(valid_seconds * 1000)),
        )
    return code


def use(store: Store, code: str, now: float) -> Optional[Code]:
    """Use it up; None for one that is wrong, used or too old."""
    with store.writing():
        at_ms, hash = round(now * 1000), _hash(code)
        found = store.change("UPDATE enroll_code SET used_at_ms = ? WHERE hash = ? AND used_at_ms IS NULL AND expires_at_ms > ?", (at_ms, hash, at_ms))
        return next((one for one in list_all(store) if one.hash == hash), None) if found else None


def used_by(store: Store, code: str, name: str) -> None:
    """Note which node used it."""
    with store.writing():
        store.change("UPDATE enroll_code SET used_by = ? WHERE hash = ?", (name, _hash(code)))


def list_all(store: Store) -> List[Code]:
    """All codes, the newest first."""
    rows = store.rows("SELECT hash, label, for_name, created_at_ms, expires_at_ms, used_at_ms, used_by FROM enroll_code ORDER BY created_at_ms DESC, hash")
    return [Code(hash, label, name, made / 1000, ends / 1000, None if used is None else used / 1000, by) for hash, label, name, made, ends, used, by in rows]


def revoke(store: Store, label_or_name: str) -> int:
    """End the codes that are not used yet, by label, or by the name they are for; how many there were."""
    with store.writing():
        return store.change("DELETE FROM enroll_code WHERE used_at_ms IS NULL AND (label = ? OR (for_name = ? AND for_name != ''))", (label_or_name.upper(), label_or_name))


def _hash(code: str) -> str:
    """Whatever case and hyphens a person writes."""
    return hashlib.sha256("".join(code.upper().replace("-", "").split()).encode("utf-8", "replace")).hexdigest()
