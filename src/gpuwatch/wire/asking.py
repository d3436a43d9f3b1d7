"""What a hub asks a gpuwatch node for: one signed request for the newest readings. The password itself is never part of it."""

from __future__ import annotations

from gpuwatch.wire import frame
from gpuwatch.wire.http import build_request
from gpuwatch.wire.signing import Signer, derive_key

PATH = "/get-status"
KEY_ID = "password"
"""What a node knows the key by that is made of its password."""
SKEW_HEADER = "Gpuwatch-Skew"
"""In the answer to a request whose time is too far off: by how many seconds the node's clock is ahead. Only who has the key gets it."""
HEADERS = {"Content-Type": "application/json", "Accept": frame.CONTENT_TYPE}


def signer_of(password: str) -> Signer:
    """Signs for a node with this password. Takes 20 ms the first time."""
    return Signer(KEY_ID, derive_key(password))


def body_for(shape_id: str) -> bytes:
    """What is signed and sent; ``shape_id``: the shape that the hub has, empty for none. Raises no error: it is hex or empty."""
    return b'{"flat": "%s"}' % shape_id.encode("ascii")


class Question:
    """The requests to one node. Each is signed anew; the rest of its bytes is kept."""

    __slots__ = ("_address", "_after", "_before", "_body", "_shape_id", "_signer")

    def __init__(self, address: str, signer: Signer) -> None:
        """``address``: host:port, as the Host header names it."""
        self._address, self._signer = address, signer
        self._shape_id = ""
        self._set("")

    def _set(self, shape_id: str) -> None:
        self._shape_id, self._body = shape_id, body_for(shape_id)
        whole = build_request("POST", self._address, PATH, self._body, HEADERS)
        at = whole.index(b"\r\n") + 2
        self._before, self._after = whole[:at] + b"Authorization: ", b"\r\n" + whole[at:]

    def request(self, shape_id: str, now: float) -> bytes:
        """The bytes to send at ``now`` (epoch seconds), once."""
        if shape_id != self._shape_id:
            self._set(shape_id)
        return self._before + self._signer.header("POST", PATH, self._body, now).encode("ascii") + self._after
