"""How a node gets its key: with a one-time code, or, where the hub says so, without one from a private network. Must never say why a code is refused."""

from __future__ import annotations

import ipaddress
import logging
import secrets
from typing import Callable, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.hub.enrol import PUSH, clean_name
from gpuwatch.hub.guesses import CODE, TOO_MANY, Guesses
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import StoreError
from gpuwatch.store import codes, enrolled
from gpuwatch.store.database import Store
from gpuwatch.store.enrolled import Enrolled

log = logging.getLogger(__name__)
MOST_WITHOUT_CODE = 10_000
KEY_BYTES = 32


class Asked(NamedTuple):
    """A node's request. ``code``: empty for none; ``name``: what it calls itself."""

    code: str
    name: str
    address: str


class Made(NamedTuple):
    """``row``: the node, with its key; or a refusal in words; or how long this address has to wait."""

    row: Optional[Enrolled] = None
    refusal: Tuple[str, str] = ("", "")
    wait_seconds: int = 0


REFUSED = ("The code is wrong, used, or too old.", "Make another one on the hub: gpuwatch enroll create")
NEEDS_CODE = ("This hub enrols with a code only.", "Make one on the hub: gpuwatch enroll create; then: gpuwatch node --push URL --enroll CODE")


class Enrolment:
    """Any thread."""

    def __init__(
        self, store: Callable[[], Optional[Store]], guesses: Guesses, hosts: Callable[[], Sequence[Target]], auto_enroll: bool,
        learned: Callable[[Enrolled], None],
    ) -> None:  # fmt: skip
        """``hosts``: the targets of the hosts file; ``learned``: called when a node was enrolled, before it is told: what it pushes next must find it known."""
        self._store, self._guesses, self._hosts, self._auto, self._learned = store, guesses, hosts, auto_enroll, learned

    def enrol(self, asked: Asked, now: float, monotonic: float) -> Made:
        """The key for a node, or why there is none. Raises StoreError while the database is away."""
        wait = self._guesses.codes.wait_seconds(asked.address, monotonic)
        if wait:
            self._guesses.refusals.count(TOO_MANY, asked.address)
            return Made(wait_seconds=wait)
        store = self._store()
        if store is None:
            raise StoreError("The hub's database is not open.", "Try again in a minute.")
        if not asked.code:
            return self._without_code(store, asked, now)
        row = self._with_code(store, asked, now)
        if row is None:
            self._guesses.codes.failed(asked.address, monotonic)
            self._guesses.refusals.count(CODE, asked.address)
            return Made(refusal=REFUSED)
        return self._made(row)

    def _with_code(self, store: Store, asked: Asked, now: float) -> Optional[Enrolled]:
        with store.writing():
            code = codes.use(store, asked.code, now)
            if code is None:
                return None
            name = code.for_name or clean_name(asked.name)
            before = enrolled.named(store, code.for_name) if code.for_name else None
            if before is not None:  # it lost its key, or was set up anew
                enrolled.remove(store, before.id)
            row = self._add(store, name, asked.address, now, may_take={name})
            codes.used_by(store, asked.code, row.name)
            return row

    def _without_code(self, store: Store, asked: Asked, now: float) -> Made:
        if not (self._auto and is_private(asked.address)):
            return Made(refusal=NEEDS_CODE)
        with store.writing():
            if len(enrolled.list_all(store, PUSH)) >= MOST_WITHOUT_CODE:
                return Made(refusal=("So many nodes are enrolled that this hub wants a code.", NEEDS_CODE[1]))
            row = self._add(store, clean_name(asked.name), asked.address, now, may_take=set())
        return self._made(row)

    def _add(self, store: Store, name: str, address: str, now: float, may_take: set[str]) -> Enrolled:
        hosts = {target.name for target in self._hosts()} - may_take
        return enrolled.add(store, kind=PUSH, name=name, address=address, now=now, secret=secrets.token_hex(KEY_BYTES), taken=hosts, may_take=may_take)

    def _made(self, row: Enrolled) -> Made:
        log.info("%s is enrolled and will push from %s", row.name, row.last_address)
        self._learned(row)
        return Made(row)


def is_private(address: str) -> bool:
    """An address of this machine or of a network that the Internet does not reach."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return found.is_private or found.is_loopback
