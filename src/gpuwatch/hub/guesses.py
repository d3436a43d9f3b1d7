"""Who is not let in by the hub (wrong keys of pushes, wrong codes, wrong tokens of foreign senders), slowed by address and counted. One for all doors of a hub; never holds what was sent."""

from __future__ import annotations

import time

from gpuwatch.serve.refusals import Refusals
from gpuwatch.serve.throttle import Throttle
from gpuwatch.wire.signing import Refused

CODE, TOKEN = "wrong code", "wrong token"
TOO_MANY = "too many tries"
REASONS = ("wrong signature", "stale", "replayed", CODE, TOKEN, TOO_MANY)


class Guesses:
    """Any thread. A good signature is looked at before this is asked, so that nobody locks out who has the key."""

    def __init__(self) -> None:
        self.refusals = Refusals(REASONS)
        self.codes = Throttle()
        """Apart from keys: a node whose key was taken away must not keep another one of its address from enrolling."""
        self._keys = Throttle()
        self._tokens = Throttle()

    def refused(self, refusal: Refused, address: str) -> int:
        """A push was refused. 0, or for how many seconds its address is told nothing more. Who has the key is counted as no guesser."""
        if refusal.has_key:
            self.refusals.count(refusal.reason, address)
            return 0
        now = time.monotonic()
        wait_seconds = self._keys.wait_seconds(address, now)
        if not wait_seconds:
            self._keys.failed(address, now)
        self.refusals.count(TOO_MANY if wait_seconds else "wrong signature", address)
        return wait_seconds

    def token(self, is_right: bool, address: str) -> bool:
        """Whether a foreign sender is let in. Its token crosses as it is, so from an address that guessed even the right one is not taken for a while."""
        now = time.monotonic()
        if self._tokens.wait_seconds(address, now):
            self.refusals.count(TOO_MANY, address)
            return False
        if not is_right:
            self._tokens.failed(address, now)
            self.refusals.count(TOKEN, address)
        return is_right
