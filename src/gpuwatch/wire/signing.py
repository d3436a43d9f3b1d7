"""Requests that prove who sends them, without the secret on the wire: made by a Signer, checked by a Verifier. Pure; no clock, no network.

It proves who sent a request, that nobody changed it, and that it is not an old one. It hides nothing: without TLS everybody on the way can read along.
Must never say to somebody without the key more than that the request was refused.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import threading
from collections import OrderedDict
from functools import lru_cache
from typing import Callable, Dict, List, Optional

ROUNDS = 50_000
WINDOW_SECONDS = 120.0
"""How far the two clocks may be apart."""
MOST_NONCES = 1024
"""Kept for one key: at more requests than this in two windows the oldest are forgotten, and what is as old as they are is stale."""

_VERSION = "gpuwatch-1"
_LABEL = b"gpuwatch: key of a password, version 1"
_STRANGER = b"\0" * 32
"""The key of a stranger: what checking costs tells nobody which keys there are."""
_HEADER = re.compile(
    r"Gpuwatch key=(?P<key>[A-Za-z0-9_.:-]{1,64}), time=(?P<time>[0-9]{1,11}\.[0-9]{3}), nonce=(?P<nonce>[0-9a-f]{32}), mac=(?P<mac>[0-9a-f]{64})"
)


class Refused(Exception):
    """A request that is not taken. ``str()`` may be answered to whoever sent it.

    ``reason``: missing | malformed | unknown key | wrong mac | stale | replayed; for counters and the log. Only stale and replayed came
    from somebody who has the key. ``skew_seconds``: the receiver's clock less the sender's, where the clocks are the reason; else None.
    """

    def __init__(self, reason: str, skew_seconds: Optional[float] = None) -> None:
        super().__init__(_words(reason, skew_seconds))
        self.reason = reason
        self.skew_seconds = skew_seconds

    @property
    def has_key(self) -> bool:
        """Whoever sent it (or whoever's request was sent again) has the key: this was no guess."""
        return self.reason in ("stale", "replayed")


def _words(reason: str, skew_seconds: Optional[float]) -> str:
    if reason == "stale" and skew_seconds is None:
        return "The request is older than what this machine remembers of those before it. Next: sign it anew."
    if reason == "stale" and skew_seconds is not None:
        side = "ahead of" if skew_seconds > 0 else "behind"
        return f"The request is stale: this machine's clock is {abs(skew_seconds):.0f} s {side} yours. Next: set both clocks (timedatectl)."
    if reason == "replayed":
        return "The request came before: it is taken once only."
    if reason in ("missing", "malformed"):
        return f"The signature of the request is {reason}."
    return "The signature of the request is wrong."


@lru_cache(maxsize=4096)
def derive_key(password: str) -> bytes:
    """The 32 bytes that stand for a password: PBKDF2-HMAC-SHA256, 50,000 rounds, about 20 ms; kept, since it is asked for at each poll.

    The salt is fixed, because both sides must come to the same key and have nothing in common but the password. So two labs with one password have
    one key. The rounds make it slow to try a list of words on a request that somebody saw pass by. They do not save a short password: choose a long one.
    """
    return hashlib.pbkdf2_hmac("sha256", password.encode("utf-8", "surrogatepass"), _LABEL, ROUNDS)


def _signed(key_id: str, method: str, path: str, time: str, nonce: str, body: bytes) -> bytes:
    """What is signed. Only ``path`` may hold anything, and what follows it has a fixed form: no two requests have the same text."""
    text = f"{_VERSION}\n{key_id}\n{method}\n{path}\n{time}\n{nonce}\n{hashlib.sha256(body).hexdigest()}"
    return text.encode("utf-8", "surrogatepass")


class _Nonces:
    """Random numbers of 128 bits, drawn many at once: each look into the system's pool makes the poller give the interpreter to other threads."""

    def __init__(self, at_once: int = 64) -> None:
        self._at_once = at_once
        self._waiting: List[str] = []
        os.register_at_fork(after_in_child=self._waiting.clear)

    def next(self) -> str:
        """One that was never given before, in hex; also in a process that was forked meanwhile."""
        try:
            return self._waiting.pop()
        except IndexError:
            drawn = os.urandom(16 * self._at_once).hex()
            self._waiting += [drawn[start : start + 32] for start in range(32, len(drawn), 32)]
            return drawn[:32]


_NONCES = _Nonces()


class Signer:
    """Signs requests with one key. For any thread."""

    __slots__ = ("_begun", "key_id")

    def __init__(self, key_id: str, key: bytes) -> None:
        """``key_id``: what the receiver knows the key by; 1 to 64 letters, digits and ``_ . : -``."""
        self.key_id = key_id
        self._begun = hmac.new(key, digestmod="sha256")

    def header(self, method: str, path: str, body: bytes, now: float, nonce: Optional[str] = None) -> str:
        """The value of ``Authorization``. ``path`` with its query, as the receiver's routes know it; ``now`` in epoch seconds; ``nonce`` for tests."""
        nonce = nonce or _NONCES.next()
        time = f"{now:.3f}"
        mac = self._begun.copy()
        mac.update(_signed(self.key_id, method, path, time, nonce, body))
        return f"Gpuwatch key={self.key_id}, time={time}, nonce={nonce}, mac={mac.hexdigest()}"


class Verifier:
    """Checks signed requests. For all threads of a server; keeps the nonces of its window, so it must be the only one for its keys."""

    def __init__(
        self,
        key_of: Callable[[str], Optional[bytes]],
        window_seconds: float = WINDOW_SECONDS,
        *,
        not_before: float = 0.0,
        most_nonces: int = MOST_NONCES,
    ) -> None:
        """``key_of(key_id)``: the key, None for an unknown one. ``not_before``: epoch seconds, when the memory of nonces began (the start of the process)."""
        self._key_of = key_of
        self._window_seconds = window_seconds
        self._not_before = min(not_before, round(not_before, 3))  # a request that is signed now tells a time of three decimals
        self._most_nonces = most_nonces
        self._lock = threading.Lock()
        self._seen: Dict[str, _Seen] = {}

    def check(self, authorization: Optional[str], method: str, path: str, body: bytes, now: float) -> str:
        """The id of the key that signed this request at about ``now``, for the first time. Raises Refused.

        The mac comes first: who has no key learns neither this machine's time nor what came before.
        """
        if not authorization:
            raise Refused("missing")
        header = _HEADER.fullmatch(authorization)
        if header is None:
            raise Refused("malformed")
        key_id, time, nonce, mac = header.groups()
        key = self._key_of(key_id)
        wanted = hmac.digest(_STRANGER if key is None else key, _signed(key_id, method, path, time, nonce, body), "sha256").hex()
        same = hmac.compare_digest(wanted, mac)
        if key is None:
            raise Refused("unknown key")
        if not same:
            raise Refused("wrong mac")
        self._once(key_id, nonce, float(time), now)
        return key_id

    def _once(self, key_id: str, nonce: str, signed_at: float, now: float) -> None:
        skew_seconds = now - signed_at
        if abs(skew_seconds) > self._window_seconds:
            raise Refused("stale", skew_seconds)
        with self._lock:
            seen = self._seen.get(key_id)
            if seen is None or seen.floor > now + self._window_seconds:  # or this machine's clock was set back
                seen = self._seen[key_id] = _Seen(min(self._not_before, now))
            if bytes.fromhex(nonce) in seen.nonces:
                raise Refused("replayed")
            if signed_at < seen.floor:
                raise Refused("stale")
            seen.add(bytes.fromhex(nonce), signed_at, now - self._window_seconds, self._most_nonces)

    def forget(self, key_id: str) -> None:
        """The key was taken away."""
        with self._lock:
            self._seen.pop(key_id, None)


class _Seen:
    """The nonces of one key, oldest first, and the time before which nothing is taken, since its nonces are not known any more."""

    __slots__ = ("floor", "nonces")

    def __init__(self, floor: float) -> None:
        self.floor = floor
        self.nonces: OrderedDict[bytes, float] = OrderedDict()

    def add(self, nonce: bytes, signed_at: float, expired_before: float, most: int) -> None:
        """Keep one more; let go of those that would be stale anyway, and of the oldest beyond ``most``."""
        nonces = self.nonces
        nonces[nonce] = signed_at
        while nonces and next(iter(nonces.values())) < expired_before:
            nonces.popitem(last=False)
        while len(nonces) > most:
            self.floor = max(self.floor, nonces.popitem(last=False)[1] + 0.0005)
