"""Who this node is to the hub that it pushes to: the id and key that it was given once, in a file that its owner alone can read. Never logs the key."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import NamedTuple, Optional

from gpuwatch.wire.signing import Signer

log = logging.getLogger(__name__)
FILE = "push.json"
_KEY_BYTES = 32


class Identity(NamedTuple):
    """What the hub gave."""

    id: str
    key: str
    """64 hex digits."""
    name: str
    """What the hub calls this node."""

    @property
    def signer(self) -> Signer:
        """Signs its pushes."""
        return Signer(self.id, bytes.fromhex(self.key))


def parsed(doc: object) -> Optional[Identity]:
    """An identity from JSON: a file of ours, or a hub's answer; None where it is none."""
    if not isinstance(doc, dict):
        return None
    id, key, name = doc.get("id"), doc.get("key"), doc.get("name")
    if not (isinstance(id, str) and isinstance(key, str) and isinstance(name, str) and 0 < len(id) <= 64 and id.isalnum() and id.isascii()):
        return None
    try:
        return Identity(id, key, name[:200]) if len(bytes.fromhex(key)) == _KEY_BYTES else None
    except ValueError:
        return None


def load(folder: Optional[Path]) -> Optional[Identity]:
    """The identity that lies in the state folder; None: there is none, or it is damaged."""
    if folder is None:
        return None
    try:
        return parsed(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.error("%s cannot be read (%s); this node enrols anew", folder / FILE, getattr(error, "strerror", None) or "it is damaged")
        return None


def save(folder: Optional[Path], identity: Identity) -> None:
    """Keep it, replaced as a whole; where that cannot be, it holds until the node ends, and the log says so."""
    if folder is None:
        return
    new = folder / f"{FILE}.new"
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            json.dump(identity._asdict(), file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(folder / FILE)
    except OSError as error:
        log.error("the key from the hub cannot be kept in %s (%s): after a restart this node needs another code", folder, error.strerror)
