"""What is stored is what came: thousands of varying snapshots through the door, restarts, packs and moves in between, compared number by number."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple
from zoneinfo import ZoneInfo

import pytest
from tests.hub.readings import busy, flat, gpu, process, snapshot

from gpuwatch.hub.ingest import Came, Ingest, report_of
from gpuwatch.hub.journal import ArrivalQueue, Mark
from gpuwatch.hub.keeper import Keeper
from gpuwatch.hub.restore import restore
from gpuwatch.model.cluster import Target
from gpuwatch.query.latest import Latest
from gpuwatch.store import machines, packing, snapshots, upkeep
from gpuwatch.store.database import Store, open_store
from gpuwatch.store.deflate import deflate
from gpuwatch.store.digests import Digester
from gpuwatch.store.journal_rows import cut, line_of
from gpuwatch.wire.changes import Given, Read, shape_in, told_since
from gpuwatch.wire.flat import Shape
from gpuwatch.wire.frame import encode, encode_values

START = 1_790_000_000
INTERVAL = 5.0
NUMBERS = (None, 0, 0.0, -0.0, 1, 1.0, -1, 7, 99, 12.5, 0.1, 1e-7, 1e17, 2**53 + 1, 2**62, -(2**62), 1_795_980_676.099)
STEPS = {False: 250, True: 100}
"""On a file, and on a server, where each takes longer."""
Exact = Tuple[str, str]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'hub.db'}"
    else:
        with request.getfixturevalue("postgres").new_url() as made:
            yield made


def exact(shape_id: str, values: List[Any]) -> Exact:
    """1 is not 1.0."""
    return shape_id, repr(values)


class Node:
    """A machine whose facts change and come back, and whose numbers vary: few of them often, others now and then, none is ever known to stay."""

    def __init__(self, number: int, dice: random.Random) -> None:
        self.dice, self.number, self.name = dice, number, f"node{number}"
        self.target = Target(self.name, "10.0.0.1", 7080)
        job = dataclasses.replace(busy(0), processes=(process(200), process(201, command="sleep 1")))
        kinds = [snapshot(1.0, busy(0)), snapshot(1.0, gpu(0)), snapshot(1.0, job), snapshot(1.0, busy(0), gpu(1), gpu(2), gpu(3))]
        self.kinds = [flat(kind) for kind in kinds]
        self.usual = [list(values) for _, values in self.kinds]
        self.given, self.known = Given(), ""
        self.sequence = 0
        self.late, self.sticks_to = 0, 0
        """So many turns still bring something late; which of the hubs it pushes to."""
        self.begin(0)

    def begin(self, kind: int) -> None:
        self.shape, self.values = self.kinds[kind][0], self.usual[kind]
        self.hot = self.dice.sample(range(len(self.values)), 6)  # of now: what varied before stays as it is

    def sample(self, at_ms: int) -> bytes:
        """The values line of the next sample; no two machines' are of the same time."""
        dice = self.dice
        if dice.random() < 0.06:
            self.begin(dice.choice((0, 0, 1, 2, 3)))
        if dice.random() < 0.1:
            self.hot[dice.randrange(6)] = dice.randrange(len(self.values))
        for place in self.hot if dice.random() < 0.98 else list(range(len(self.values))):
            self.values[place] = dice.choice(NUMBERS) if dice.random() < 0.5 else dice.randrange(10**6)
        self.values[self.shape.places().taken_at] = at_ms / 1000
        return encode_values(self.values)

    def answer(self, known: str, line: bytes, sent_at: float) -> bytes:
        """As a node answers a hub that has ``known``."""
        told, lines = self.given.answer(self.shape.id, line, known)
        header: Dict[str, Any] = {"flat": 1, "version": "1", "sent_at": sent_at, "shape_id": self.shape.id, "status": None, **told}
        if shape_in(known) != self.shape.id:
            header["shape"] = self.shape.doc
        return encode(header, lines)


class Moving:
    """In the place of a Share: which of two hubs polls and packs a machine, as the test says. Both store what is sent to them."""

    connected, leaving, id = True, frozenset[str](), "hub"

    def __init__(self) -> None:
        self.held: Dict[str, bool] = {}
        self.gains = 0

    def mine(self, store: Store, things: Any, machine_of: Any) -> Any:
        return [thing for thing in things if self.held.get(machine_of(thing)[0])]

    def owns(self, machine_id: str) -> bool:
        return bool(self.held.get(machine_id))

    packs = owns


class HubOf:
    """Door, memory and writer of one hub, without threads."""

    def __init__(self, url: str, several: bool) -> None:
        self.store = open_store(url)
        self.latest = Latest()
        self.ingest = Ingest(self.latest, ArrivalQueue())
        self.share = Moving() if several else None
        digester = Digester(zone=ZoneInfo("UTC"), shape_of=self.ingest.shape_of, asked_every_seconds=INTERVAL)
        self.keeper = Keeper(
            self.store, self.latest, self.ingest, interval_seconds=INTERVAL, per_block=4, digester=digester, lost=lambda ids: None, share=self.share
        )
        self.samples: Dict[str, Optional[Read]] = {}
        """By machine, the last one that was pushed here."""
        self.pending: Dict[str, Dict[int, Exact]] = {}


class Lab:
    """Machines, one hub or two on one database, and what must be in it."""

    def __init__(self, url: str, seed: int) -> None:
        self.url, self.dice = url, random.Random(seed)
        self.nodes = [Node(number, self.dice) for number in range(4)]
        self.docs = {shape.id: shape.doc for node in self.nodes for shape, _ in node.kinds}
        self.ids: Dict[str, str] = {}
        self.stored: Dict[str, Dict[int, Exact]] = {}
        self.now_ms = START * 1000
        self.times: Set[int] = set()
        self.compared: Set[int] = set()
        self.several = url.startswith("postgresql")
        self.hubs = [self.begun() for _ in range(2 if self.several else 1)]
        self.share_out()

    def begun(self) -> HubOf:
        hub = HubOf(self.url, self.several)
        self.follow(hub)
        restore(hub.store, hub.latest, {id: name for name, id in self.ids.items()}, hub.ingest.learn)
        return hub

    def follow(self, hub: HubOf) -> None:
        self.ids = machines.ensure_all(hub.store, {node.name: "10.0.0.1" for node in self.nodes}, now=1.0)
        hub.latest.set_targets([(node.target, self.ids[node.name]) for node in self.nodes], self.now_ms / 1000)
        hub.ingest.keep_shapes_of(dict.fromkeys(self.ids.values()))

    def share_out(self) -> None:
        """Which hub polls and packs whom; what was read is stored before."""
        self.write_all()
        for node in self.nodes if self.several else ():
            first = self.dice.random() < 0.5
            for hub, held in zip(self.hubs, (first, not first)):
                assert hub.share is not None
                hub.share.gains += held and not hub.share.owns(self.ids[node.name])
                hub.share.held[self.ids[node.name]] = held

    def one_of(self, node: Node, *, polls: bool) -> HubOf:
        if not polls:
            node.sticks_to = self.dice.randrange(len(self.hubs)) if self.dice.random() < 0.1 else node.sticks_to
            return self.hubs[node.sticks_to]
        return next(hub for hub in self.hubs if hub.share is None or hub.share.owns(self.ids[node.name]))

    def next_ms(self, node: Node, after_ms: int) -> int:
        """A time that no other sample has, of no machine."""
        at_ms = next(at_ms for at_ms in range(after_ms + node.number, after_ms + 4000, 10) if at_ms not in self.times)
        self.times.add(at_ms)
        return at_ms

    def poll(self, node: Node) -> None:
        hub, at_ms, id = self.one_of(node, polls=True), self.next_ms(node, self.now_ms), self.ids[node.name]
        line, at = node.sample(at_ms), at_ms / 1000 + 0.01
        hub.ingest.accept(node.target, id, node.answer(hub.ingest.shape_id(id), line, at), at, at)
        self.note(hub, node, at_ms)

    def push(self, node: Node, count: int, back_ms: int = 0) -> None:
        """Some in a row, each told by what changed where that is possible; ``back_ms``: they come late, for the store alone."""
        hub, id, before = self.one_of(node, polls=self.is_polled(node)), self.ids[node.name], b""
        for other in self.hubs:
            if other is not hub and id in other.pending:
                self.write(other)  # a hub takes no push as long as the ones before are not stored
        for number in range(count):
            at_ms = self.next_ms(node, self.now_ms - back_ms + 100 * number)
            line, base = node.sample(at_ms), hub.samples.get(node.name)
            told = told_since(before, line) if base is not None and base.shape_id == node.shape.id and before else None
            shape = Shape.parse(node.shape.doc)
            sample = hub.ingest.read_pushed(shape, line if told is None else told, None if told is None else base)
            hub.samples[node.name], before = sample, line
            node.sequence += 1
            came = Came(shape, sample, 0, report_of(None), None, at_ms / 1000 + 0.01)
            mark = None if back_ms and self.is_polled(node) else Mark(f"{node.name}-{id}", node.sequence)
            if back_ms:
                hub.ingest.keep_late(id, came, mark, lambda at: False)
            else:
                hub.ingest.accept_pushed(node.target, id, came, mark, at_ms / 1000)
            self.note(hub, node, at_ms)

    def is_polled(self, node: Node) -> bool:
        return node.number % 2 == 1 or not self.several

    def catch_up(self, node: Node) -> None:
        """Now and then, for some turns, what was missed comes late, and looks otherwise than what comes now."""
        if self.dice.random() < 0.02:
            node.late = self.dice.randrange(1, 8)
        if node.late:
            node.late -= 1
            now = node.shape, node.values, node.hot
            node.begin(3)
            self.push(node, self.dice.randrange(1, 4), back_ms=self.dice.randrange(1, 60) * 5_000 + 2_500)
            node.shape, node.values, node.hot = now

    def note(self, hub: HubOf, node: Node, at_ms: int) -> None:
        hub.pending.setdefault(self.ids[node.name], {})[at_ms] = exact(node.shape.id, node.values)

    def write(self, hub: HubOf) -> None:
        hub.keeper.write(self.now_ms / 1000)
        assert not hub.ingest.arrivals
        assert hub.latest.all()[2] == ()
        for id, rows in hub.pending.items():
            self.stored.setdefault(id, {}).update(rows)
        hub.pending.clear()

    def write_all(self) -> None:
        for hub in self.hubs:
            self.write(hub)

    def restart(self) -> None:
        """In order, or as after a kill: what was not written is gone."""
        place = self.dice.randrange(len(self.hubs))
        old = self.hubs[place]
        if self.dice.random() < 0.5:
            self.write(old)
        old.store.close()
        new = self.hubs[place] = self.begun()
        if new.share is not None and old.share is not None:
            new.share.held = old.share.held
        if self.dice.random() < 0.5:
            for node in self.nodes:
                node.given = Given()

    def as_older(self) -> None:
        """Some rows as older programs wrote them: whole, deflated against the example."""
        store = self.hubs[0].store
        with store.writing():
            rows = store.rows(f"{packing.JOURNAL_ROWS} ORDER BY j.taken_at_ms DESC LIMIT 30")
            store.change_many(
                'UPDATE snapshot_journal SET "values" = ? WHERE taken_at_ms = ?',
                [(deflate(line_of(cut(*row).texts), bytes(row[4])), row[0]) for row in rows if self.dice.random() < 0.3],
            )

    def prune(self) -> None:
        """What is older goes, whole blocks at once; what is left is looked at, and is what must be there from now on."""
        self.write_all()
        kept_ms = self.dice.choice((600_000, 3_600_000))
        upkeep.prune(self.hubs[0].store, self.now_ms / 1000, kept_ms / 1000, 2**40)
        for id, rows in self.stored.items():
            found = self.found(id)
            assert {at: one for at, one in rows.items() if at >= self.now_ms - kept_ms}.items() <= found.items() <= rows.items()
            self.stored[id] = found

    def move(self) -> None:
        """One machine becomes another one's past, or is forgotten; the next snapshots are of a new one."""
        self.write_all()
        one, other = (self.ids[node.name] for node in self.dice.sample(self.nodes, 2))
        store = open_store(self.url)  # as the command does
        if self.dice.random() < 0.7:
            machines.merge(store, one, other)
            self.stored.setdefault(other, {}).update(self.stored.pop(one, {}))
        else:
            machines.forget(store, one)
            self.stored.pop(one, None)
        store.close()
        for hub in self.hubs:
            self.follow(hub)
        self.share_out()

    def found(self, id: str) -> Dict[int, Exact]:
        entries = list(snapshots.read(self.hubs[0].store, id))
        found = {entry.taken_at_ms: exact(entry.shape_id, entry.values) for entry in entries}
        assert len(found) == len(entries), "a snapshot is there twice"
        self.compared.update(found)
        return found

    def compare(self) -> None:
        self.write_all()
        for id, rows in self.stored.items():
            assert self.found(id) == rows
            for shape_id in {one[0] for one in rows.values()}:
                assert snapshots.shape(self.hubs[-1].store, id, shape_id) == self.docs[shape_id]
        node = self.dice.choice(self.nodes)
        rows = self.stored.get(self.ids[node.name], {})
        for at_ms in self.dice.sample(sorted(rows), min(5, len(rows))):
            near = snapshots.nearest(self.hubs[-1].store, self.ids[node.name], at_ms / 1000)
            assert near is not None
            assert (near.entry.taken_at_ms, exact(near.entry.shape_id, near.entry.values)) == (at_ms, rows[at_ms])

    def step(self) -> None:
        dice = self.dice
        self.now_ms += 5_000 if dice.random() < 0.995 else 5_000_000
        for node in self.nodes:
            self.poll(node) if self.is_polled(node) else self.push(node, dice.randrange(1, 4))
            self.catch_up(node)
        if dice.random() < 0.8:
            self.write(dice.choice(self.hubs))
        chance = dice.random()
        for limit, what in ((0.02, self.restart), (0.04, self.as_older), (0.05, self.prune), (0.06, self.move), (0.08, self.share_out), (0.1, self.compare)):
            if chance < limit:
                what()
                break


@pytest.mark.parametrize("seed", [2, 4])
def test_each_stored_snapshot_is_what_came(url: str, seed: int) -> None:
    lab = Lab(url, seed)
    for _ in range(STEPS[lab.several]):
        lab.step()
    lab.compare()
    assert len(lab.compared) > 400
    for hub in lab.hubs:
        hub.store.close()
