"""Who may ask a node: a hub by signed requests, old clients by the plain password. Slows down guesses, counts refusals; knows no HTTP status.

A signed request is verified before anything else, so that nobody who guesses, from whatever address, locks out a hub that has the key.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections import OrderedDict
from typing import NamedTuple, Optional

from gpuwatch.serve.refusals import Refusals
from gpuwatch.serve.throttle import Throttle
from gpuwatch.wire.asking import KEY_ID
from gpuwatch.wire.signing import Refused, Verifier, derive_key

REASONS = ("wrong password", "wrong signature", "stale", "replayed", "too many tries", "plain password")
LOCKED_OUT = "Too many wrong passwords from your address."
ALL_LOCKED_OUT = "Too many wrong passwords from many addresses: only those that knew it before are let in for a while."
MOST_FAILURES = 100
"""Wrong passwords in a minute, of all addresses together."""
MOST_KNOWN = 256
_EVERYBODY = "everybody"
SIGNED_ONLY = "This node takes signed requests alone. Next: ask it with gpuwatch hub, or set plain_password = true in its [node] settings."


class Refusal(NamedTuple):
    """Why somebody is not let in, in words for them."""

    words: str
    wait_seconds: int = 0
    """Above 0: this address is locked out so long."""
    skew_seconds: Optional[float] = None
    """This machine's clock less the sender's, for who has the key and a wrong clock."""


class Door:
    """One for all threads of a node's server."""

    def __init__(self, password: str, *, plain_password: bool = True) -> None:
        """``plain_password``: whether the password itself is taken beside signatures."""
        self._password = _bytes(password)
        self._plain = plain_password
        key = derive_key(password) if password else None
        self._verifier = Verifier(lambda key_id: key if key_id == KEY_ID else None, not_before=time.time())
        self._guesses = Throttle()
        self._all = Throttle(MOST_FAILURES)
        """Of the one password, by whomever it is guessed."""
        self._known: OrderedDict[str, None] = OrderedDict()
        """Addresses that told the right password, the last ones: they need not wait for what others guess."""
        self._lock = threading.Lock()
        self._scrapers = Throttle()
        """Of its own: a Prometheus with an old password must not lock out the old hub beside it."""
        self.refusals = Refusals(REASONS)

    def signed(self, authorization: str, method: str, path: str, body: bytes, address: str) -> Optional[Refusal]:
        """None for a request that is signed well."""
        try:
            self._verifier.check(authorization, method, path, body, time.time())
        except Refused as refused:
            if refused.has_key:
                self.refusals.count(refused.reason, address)
                return Refusal(str(refused), 0, refused.skew_seconds)
            return self._guessed(self._guesses, "wrong signature", str(refused), address)
        return None

    def waits(self, address: str) -> Optional[Refusal]:
        """Whether this address may not try passwords now."""
        locked = self._locked_out(self._guesses, address)
        wait_seconds = self._all.wait_seconds(_EVERYBODY, time.monotonic())
        if locked is not None or not wait_seconds or address in self._known:
            return locked
        self.refusals.count("too many tries", address)
        return Refusal(ALL_LOCKED_OUT, wait_seconds)

    def told(self, given: object, address: str) -> Optional[Refusal]:
        """None for the plain password, from an address that need not wait."""
        if not self._plain:
            self.refusals.count("plain password", address)
            return Refusal(SIGNED_ONLY)
        if self.is_password(given):
            self._remember(address)
            return None
        return self._guessed(self._guesses, "wrong password", "The password is wrong or missing.", address)

    def scraper(self, given: Optional[str], address: str) -> Optional[Refusal]:
        """None for a scraper with the password. Who gave none at all (None) has not guessed."""
        locked = self._locked_out(self._scrapers, address)
        if locked is not None or (given is not None and self.is_password(given)):
            return locked
        words = "The password is wrong or missing."
        return Refusal(words) if given is None else self._guessed(self._scrapers, "wrong password", words, address)

    def is_password(self, given: object) -> bool:
        """In constant time. A number or null is never the password."""
        same = hmac.compare_digest(_bytes(given if isinstance(given, str) else ""), self._password)
        return same and isinstance(given, str)

    def _locked_out(self, throttle: Throttle, address: str) -> Optional[Refusal]:
        wait_seconds = throttle.wait_seconds(address, time.monotonic())
        if not wait_seconds:
            return None
        self.refusals.count("too many tries", address)
        return Refusal(LOCKED_OUT, wait_seconds)

    def _guessed(self, throttle: Throttle, reason: str, words: str, address: str) -> Refusal:
        locked = self._locked_out(throttle, address)
        if locked is not None:
            return locked
        self.refusals.count(reason, address)
        throttle.failed(address, time.monotonic())
        if throttle is self._guesses:
            self._all.failed(_EVERYBODY, time.monotonic())
        return Refusal(words)

    def _remember(self, address: str) -> None:
        with self._lock:
            self._known[address] = None
            self._known.move_to_end(address)
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
