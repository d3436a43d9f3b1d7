"""The hub: wires hosts file, poller, ingest, newest state and store together, and runs them. Never serves HTTP: ``web`` reads from here.

Threads: the poller's event loop; a beat a second for what time alone changes; the writer; retention; on PostgreSQL the beats of several hubs.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import socket
import threading
import time
from dataclasses import astuple
from typing import Dict, FrozenSet, List, Optional, Sequence, Set, Tuple, Union
from zoneinfo import ZoneInfo

from gpuwatch import __version__
from gpuwatch.boot import archive
from gpuwatch.config.load import state_dir, timezone_name
from gpuwatch.config.settings import HubSettings
from gpuwatch.hub.enrol import Roster
from gpuwatch.hub.enrolment import Enrolment
from gpuwatch.hub.guesses import Guesses
from gpuwatch.hub.hosts import HostsFile
from gpuwatch.hub.ingest import Ingest
from gpuwatch.hub.journal import ArrivalQueue
from gpuwatch.hub.keeper import NOTICE, Keeper
from gpuwatch.hub.lines import LineSender
from gpuwatch.hub.missed import Missed
from gpuwatch.hub.old_systems import GpuNumbers, Means
from gpuwatch.hub.passwords import Passwords
from gpuwatch.hub.poller import Poller
from gpuwatch.hub.pushes import Pushes
from gpuwatch.hub.restore import display_of, limits_of, restore
from gpuwatch.hub.share import Share
from gpuwatch.hub.ssh_link import SshLinks
from gpuwatch.hub.vesta import VestaSenders
from gpuwatch.hub.workers import Workers
from gpuwatch.loops import AsyncLoop, Loop, Repeats, Stop
from gpuwatch.model.cluster import ClusterNow, Target
from gpuwatch.model.errors import StoreError
from gpuwatch.model.hubs import HubShare
from gpuwatch.query.cluster import cluster
from gpuwatch.query.latest import Latest
from gpuwatch.store import leases, machines, upkeep, worker_commands, workers
from gpuwatch.store.address import is_postgres
from gpuwatch.store.database import Store, open_store
from gpuwatch.store.digests import Digester
from gpuwatch.store.enrolled import Enrolled
from gpuwatch.store.hub_lock import HubLock
from gpuwatch.store.leases import HubFacts
from gpuwatch.store.retention import Retention, Tended, tend
from gpuwatch.wire.ssh import Way

log = logging.getLogger(__name__)
BEAT_SECONDS = 1.0
STOOD_STILL_SECONDS = 5.0
"""The clock's beat is so late: this hub stood still (a machine that was moved or saved, or has too much to do), not its nodes."""
RETENTION_SECONDS = 600.0
TENDING_SECONDS = 60.0
"""So long the database is tended in one turn of retention; what is left is done in the next."""
REOPEN_SECONDS = 5.0
GATHER_SECONDS = 0.02
"""Polls begin together (``poller.SLOT_SECONDS``), and their answers are taken in together."""
STOP_SECONDS = 12.0
"""For all threads to end: a little more than a write may wait for another process's."""


class Hub:
    """Everything of a hub but its HTTP face. ``start``, then read ``latest``, ``store``, ``cluster()``; at the end ``stop``."""

    def __init__(self, settings: HubSettings) -> None:
        """Raises UsageError for a time zone or a database address that is none; nothing is opened yet."""
        self.settings = settings
        self.database = settings.database or f"sqlite:///{state_dir(settings) / 'gpuwatch'}.db"
        self.timezone = timezone_name(settings)
        self.store: Optional[Store] = None
        """The open database; None while it cannot be opened (a notice says why)."""
        self.latest = Latest(limits_of(settings), display_of(settings, self.timezone))
        self.ingest = Ingest(self.latest, ArrivalQueue())
        by_ssh = SshLinks(Way(settings.ssh_config, settings.ssh_python, settings.ssh_file), archive())
        passwords = Passwords(settings.password, settings.password_file)
        self.poller = Poller(
            self.ingest,
            passwords,
            interval_seconds=settings.interval,
            deadline_seconds=settings.poll_deadline,
            max_bytes=settings.poll_max_bytes,
            links=by_ssh.kinds,
            at_end=(by_ssh.finish,),
        )
        self._hosts = HostsFile(settings.hosts, settings.node_port)
        self.roster = Roster()
        """The machines that send by themselves."""
        self.pushes = Pushes(self.roster, self.ingest, self.pair, lambda: self.store, time.time())
        self.guesses = Guesses()
        self.enrolment = Enrolment(lambda: self.store, self.guesses, lambda: self._listed, settings.push.auto_enroll, self.learned)
        self._listed: Sequence[Target] = ()
        """Those of the hosts file."""
        self._targets: Sequence[Target] = ()
        """Those, and the enrolled ones."""
        self._ids: Dict[str, str] = {}
        self._ids_are_stored = False
        self._digester = Digester(limits_of(settings), ZoneInfo(self.timezone), self.ingest.shape_of, settings.interval)
        self._lock = HubLock(self.database, shared=True)
        self._me = HubFacts(secrets.token_hex(16), socket.gethostname(), _address(settings), __version__)
        self._started_at = time.time()
        self._pairs: Sequence[Tuple[Target, str]] = ()
        self._pair_of: Dict[str, Tuple[Target, str]] = {}
        self._steering = threading.Lock()
        self._ticked_at = self._judged_from = 0.0
        means = Means(
            settings.compat, ZoneInfo(self.timezone), self.roster, self.ingest, self.pair, lambda: self.store, self.listed_names, self.enrolled, self.latest.notice
        )
        self.vesta, self.workers, self.gpu_numbers = VestaSenders(means), Workers(means), GpuNumbers(means)
        self._share: Optional[Share] = None
        """This hub's share, where several hubs share the database; None: it is the only one."""
        self._keeper: Optional[Keeper] = None
        self._reopen_at = 0.0
        self._opening = Repeats("database")
        self._stop = Stop()
        missed = Missed(self.ingest, passwords, lambda: self.store, self._stop)
        self.ingest.missed = missed.note
        self._polling = AsyncLoop("poller", GATHER_SECONDS)
        self._clock = Loop("clock", self._tick, BEAT_SECONDS, self._stop)
        # what came in is on the disk before the next reading comes
        self._writer = Loop("writer", self.write, min(BEAT_SECONDS, settings.interval / 2), self._stop)
        self._retention = Loop("retention", self.prune, RETENTION_SECONDS, self._stop)
        self._missed = Loop("missed", missed.run_once, BEAT_SECONDS, self._stop)
        self._loops = [self._clock, self._writer, self._retention, self._missed]
        self._watched: List[Loop] = []
        self.lines: Optional[LineSender] = None
        """Sends numbers on, where line_url is set."""
        if settings.line_url:
            self.lines = LineSender(settings.line_url, settings.line_token_file, self.cluster, lambda id: self.ingest.owns(id), self.latest.notice, self._stop)
            self._loops.append(Loop("lines", self.lines.run_once, settings.line_interval, self._stop))
        if is_postgres(self.database):
            share = Share(
                self.database, self._me, self.ingest, interval_seconds=settings.interval, steer=self._steer, cut_off=self._abandon
            )
            self._share, self.ingest.owns = share, share.owns
            self._loops.append(Loop("heartbeat", share.run_once, share.beat_seconds, self._stop))

    def start(self) -> None:
        """Open the store, show what was known, begin to poll. Only UsageError is raised: trouble of the store becomes a notice."""
        self.write(time.time())
        if self._share is not None:
            self._share.run_once(time.time())
        self._polling.start(self.poller.run)
        for loop in self._loops:
            loop.start()

    def stop(self) -> None:
        """Stop polling, write what waits, close the store."""
        self._polling.stop()
        self._stop.set()
        until = time.monotonic() + STOP_SECONDS
        ended = [loop.join(max(0.1, until - time.monotonic())) for loop in self._loops]
        if not all(ended):
            log.error("the database is still at work after %g s; what waits is not written", STOP_SECONDS)
        elif self._keeper is not None:
            self._keeper.finish(time.time())
            if self._share is not None:
                self._share.leave()
            self._keeper.store.close()
        if all(ended):
            self._lock.release()

    def cluster(self, audience: str = "stranger", *, host: Optional[str] = None, gpu: Optional[str] = None) -> ClusterNow:
        """The cluster as ``audience`` may see it now; with ``host`` or ``gpu`` that node alone."""
        return cluster(self.latest, time.time(), audience, host=host, gpu=gpu)

    def watch(self, loop: Loop) -> None:
        """A loop that others run for this hub, once it was started: its trouble is the hub's, too."""
        self._watched.append(loop)

    def health(self) -> str:
        """Which part of the hub does not do its work, in words for strangers; empty = it is well."""
        own = [loop for loop in self._loops if loop not in (self._retention, self._missed)]
        parts: List[Union[AsyncLoop, Loop]] = [self._polling, *own, *self._watched]
        troubles = [(part.name, part.trouble()) for part in parts]
        return " ".join(f"The hub's {name} {trouble}." for name, trouble in troubles if trouble)

    def hubs(self) -> Tuple[HubShare, ...]:
        """All hubs that share the database, with their shares of the targets, as of the last beat; this one alone on SQLite."""
        if self._share is not None and self._share.hubs:
            return self._share.hubs
        me = self._me
        alone = self._share is None
        return (HubShare(me.id, me.name, me.address, me.version, self._started_at, None, True, len(self._pairs), None, alone, True),)

    def version(self) -> int:
        """Changes when anything of the cluster changes; cheap."""
        return self.latest.version

    def write(self, now: float) -> None:
        """The writer's beat: open the store if it is not, follow the hosts file, write what waits."""
        hosts = self._hosts.changed()
        opened = self._open(now)
        if hosts is not None:
            self._listed = hosts.targets
            self.latest.notice("hosts", hosts.notice)
            if hosts.notice:
                log.warning("%s", hosts.notice)
        enrolled = self._enrolled(now, opened or hosts is not None)
        self.workers.tell()
        if hosts is not None or opened or enrolled:
            self._apply_targets(now, opened)
        if self._keeper is not None:
            self._keeper.write(now)

    def pair(self, name: str) -> Optional[Tuple[Target, str]]:
        """The target of this name and its machine's id, for what was sent; None = it is no target (yet). Any thread."""
        return self._pair_of.get(name)

    def listed_names(self) -> FrozenSet[str]:
        """The names in the hosts file: nobody who sends by itself may take them. Any thread."""
        return frozenset(target.name for target in self._listed)

    def enrolled(self) -> None:
        """Somebody was enrolled or approved: it becomes a target at once. Any thread."""
        self.roster.look_again()
        self._writer.wake()

    def learned(self, row: Enrolled) -> None:
        """This one was enrolled by this hub: it is known at once, and soon a target. Any thread."""
        self.roster.learn(row)
        self.enrolled()

    def _enrolled(self, now: float, at_once: bool) -> bool:
        """Follow who is enrolled; True when the targets changed."""
        store = self.store
        if store is None or not (at_once or self.roster.is_due()):
            return False
        try:
            return self.roster.refresh(store, self._listed, now)
        except StoreError as error:
            self.latest.notice(NOTICE, f"{error} The live view goes on; nothing is kept meanwhile.")
            return False

    def prune(self, now: float) -> None:
        """Retention's beat. Raises StoreError (its Loop says it)."""
        store, settings = self.store, self.settings  # the writer may open another one meanwhile
        if store is None or (self._share is not None and not self._share.elected):
            return
        if self._share is not None:
            leases.tidy(store)
        worker_commands.give_up_silent(store, now)
        workers.forget_silent(store, now)
        result = upkeep.prune(store, now, max(settings.raw_retention, settings.thinned_retention), settings.max_database)
        if result.snapshots:
            log.info("retention: %d snapshots deleted, %d bytes", result.snapshots, result.bytes)
        if result.rollups:
            log.warning("retention: the database is larger than max_database: %d pieces of rollups were deleted", result.rollups)
        kept = Retention(settings.raw_retention, settings.minutes_retention, settings.quarters_retention, settings.processes_retention)
        until = time.monotonic() + TENDING_SECONDS
        done = tend(store, now, kept, self._digester, lambda: not self._stop.is_set() and time.monotonic() < until)
        if done != Tended():
            log.info("retention: %d blocks digested late, %d thinned; %d rollups and %d intervals deleted", *astuple(done))

    def _open(self, now: float) -> bool:
        """Open the store if it is not open, or is not where it was; True when it was opened just now."""
        if self.store is not None and not self.store.is_in_place():
            log.error("The database %s was removed, replaced or cut off under the hub; it is opened anew.", self.store.label)
            self._keeper = self.store = None  # other threads may still read it: closed when they are done
            self._lock.release()  # its file may have been removed too
        if self._keeper is not None or 0 < self._reopen_at - now <= REOPEN_SECONDS:  # the clock may have been set back
            return False
        try:
            self._claim()
            store = open_store(self.database)
        except StoreError as error:
            self._reopen_at = now + REOPEN_SECONDS
            self.latest.notice(NOTICE, f"{error} The live view goes on; nothing is kept meanwhile.")
            self._opening.failed(error)
            return False
        self._opening.worked()
        self.store = store
        self.roster.forget()
        self.pushes.forget()
        self._keeper = Keeper(
            store,
            self.latest,
            self.ingest,
            interval_seconds=self.settings.interval,
            per_block=self.settings.pack_snapshots,
            digester=self._digester,
            lost=self._machines_lost,
            share=self._share,
            stored=self.pushes.stored,
        )
        self.latest.notice(NOTICE, None)
        return True

    def _claim(self) -> None:
        """Two hubs that write one file would store each snapshot twice. Raises StoreError while another hub has it, or a command that needs it alone."""
        if self._lock.take():
            return
        self.ingest.forget_waiting()  # the other one stores it
        self.pushes.forget()
        raise StoreError(
            f"{'Another hub' if self._share is None else 'A command'} ({self._lock.holder()}) keeps the database {self._lock.label}.",
            "This one takes over when that one ends; for a database of its own: --database.",
        )

    def _apply_targets(self, now: float, opened: bool) -> None:
        self._targets = self.roster.targets(self._listed)
        self._ids = self._machine_ids(now)
        pairs: Tuple[Tuple[Target, str], ...] = tuple((target, self._ids[target.name]) for target in self._targets)
        self._pairs, self._pair_of = pairs, {pair[0].name: pair for pair in pairs}
        self.latest.set_targets(pairs, now)
        self.ingest.keep_shapes_of({machine_id: None for _, machine_id in pairs})
        if opened and self.store is not None:
            try:
                restore(self.store, self.latest, {machine_id: target.name for target, machine_id in pairs}, self.ingest.learn)
            except StoreError as error:
                self.latest.notice(NOTICE, f"{error} The last known states are not shown.")
                log.error("%s", error)
        self.ingest.tick(now)  # notes who was never seen before the first answers come
        if self._share is not None and self._ids_are_stored and self.store is not None:
            self._share.set_targets(pairs, self.store)
        self._steer()

    def _steer(self) -> None:
        """Poll what this hub is to poll. The writer, the beats and the clock come here: who is late must not undo what another one did."""
        with self._steering:
            asked = [pair for pair in self._pairs if not pair[0].sends]
            self.poller.set_targets(asked if self._share is None else self._share.polled(asked))

    def _tick(self, now: float) -> None:
        before, self._ticked_at = self._ticked_at, now
        patience = max(self.settings.interval, *(pair[0].interval_seconds or 0.0 for pair in self._pairs), 0.0) + self.settings.poll_deadline
        waits = 0 < self._judged_from - now <= patience
        if before and now - before > STOOD_STILL_SECONDS and not waits:
            log.warning("this hub stood still for %.0f s: its nodes have %.0f s to answer before they count as silent", now - before, patience)
            self._judged_from, waits = now + patience, True
        if not waits:
            self.ingest.tick(now)
        if self._share is not None:
            self._share.watch()

    def _abandon(self) -> None:
        """The database's server does not answer: whoever waits for it, waits no more. The writer opens it anew."""
        store = self.store
        if store is not None:
            store.abandon()

    def _machine_ids(self, now: float) -> Dict[str, str]:
        """Ids by name: the store's, else those known before, else made from the name until there is a store."""
        addresses = {target.name: target.host for target in self._targets}
        made_up = {name: hashlib.sha256(name.encode()).hexdigest()[:32] for name in addresses}
        self._ids_are_stored = False
        if self.store is None:
            return {**made_up, **{name: id for name, id in self._ids.items() if name in addresses}}
        try:
            found = machines.ensure_all(self.store, addresses, now=now)
            machines.set_present(self.store, found.values(), now)
            self._ids_are_stored = True
            return found
        except StoreError as error:
            self.latest.notice(NOTICE, f"{error} The live view goes on; nothing is kept meanwhile.")
            return {**made_up, **{name: id for name, id in self._ids.items() if name in addresses}}

    def _machines_lost(self, machine_ids: Set[str]) -> None:
        """Somebody removed machines from the store (``gpuwatch host forget``): those still in the hosts file get new ids."""
        if machine_ids & set(self._ids.values()):
            self._apply_targets(time.time(), opened=False)


def _address(settings: HubSettings) -> str:
    host = socket.gethostname() if settings.host in ("", "0.0.0.0", "::") else settings.host
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.port}{settings.base_path.rstrip('/')}"
