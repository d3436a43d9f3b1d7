"""What a hub asks a gpuwatch node for: one signed request for the newest readings. The password itself is never part of it."""

from __future__ import annotations

from functools import lru_cache

from gpuwatch.wire import frame
from gpuwatch.wire.http import build_request
from gpuwatch.wire.signing import Signer, derive_key

PATH = "/get-status"
KEY_ID = "password"
"""What a node knows the key by that is made of its password."""
SKEW_HEADER = "Gpuwatch-Skew"
"""In the answer to a request whose time is too far off: by how many seconds the node's clock is ahead. Only who has the key gets it."""
HEADERS = {"Content-Type": "application/json", "Accept": frame.CONTENT_TYPE}


@lru_cache(maxsize=4096)
def signer_of(password: str) -> Signer:
    """Signs for nodes with this password: the same object for all of them. Takes 20 ms the first time."""
    return Signer(KEY_ID, derive_key(password))


def body_for(known: str) -> bytes:
    """What is signed and sent; ``known``: what the hub has (``changes.known_as``), empty for nothing. It holds letters, digits, ``.`` and ``+``."""
    return b'{"flat": "%s"}' % known.encode("ascii")


class Question:
    """The requests to one node. Each is signed anew; the rest of its bytes is kept."""

    __slots__ = ("_address", "_after", "_before", "_length", "_signer")

    def __init__(self, address: str, signer: Signer) -> None:
        """``address``: host:port, as the Host header names it."""
        self._address, self._signer = address, signer
        self._length = -1

    def _set(self, body: bytes) -> None:
        """The sample that the hub has is another one at each poll, but its name mostly as long."""
        whole = build_request("POST", self._address, PATH, body, HEADERS)
        at = whole.index(b"\r\n") + 2
        self._before, self._after = whole[:at] + b"Authorization: ", b"\r\n" + whole[at : len(whole) - len(body)]
        self._length = len(body)

    def request(self, known: str, now: float) -> bytes:
        """The bytes to send at ``now`` (epoch seconds), once; ``known``: see ``body_for``."""
        body = body_for(known)
        if len(body) != self._length:
            self._set(body)
        return self._before + self._signer.header("POST", PATH, body, now).encode("ascii") + self._after + body
