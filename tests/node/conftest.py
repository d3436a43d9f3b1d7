"""A supervised sampler whose source obeys a script."""

import dataclasses
import threading
import time

import pytest
from tests.node.sources import ARGV

from gpuwatch.config.settings import NodeSettings
from gpuwatch.loops import Loop
from gpuwatch.node.inventory import Inventory
from gpuwatch.node.newest import Newest
from gpuwatch.node.service import sampler_options
from gpuwatch.node.supervisor import Supervisor


class Watched(Supervisor):
    """For one sampler (``overdue_pid``) the deadline is over already. For all others it is long: a busy machine may stop them."""

    overdue_pid = None

    def _take(self, line):
        super()._take(line)
        if self._keeper.child.pid == self.overdue_pid:
            self._due = time.monotonic()


class Rig:
    """A Supervisor in its loop, with what a test wants to see of it."""

    def __init__(self, script, inventory_path, argv=ARGV, grace_seconds=20.0, **changes):
        self.script = script
        settings = NodeSettings(
            name="node1",
            interval=0.1,
            sample_deadline=60.0,
            sampler_retry=0.2,
            source="tests.node.sources:make",
            source_argument=str(script),
        )
        self.settings = dataclasses.replace(settings, **changes)
        self.newest = Newest()
        self.inventory = Inventory(inventory_path, "boot")
        self.supervisor = Watched(
            self.settings, self.newest, self.inventory, sampler_options(self.settings), argv, grace_seconds=grace_seconds
        )
        self.stop = threading.Event()
        self.loop = Loop("sampler", self.supervisor.run_once, 0.0, self.stop).start()

    def close(self):
        self.stop.set()
        self.supervisor.interrupt()
        assert self.loop.join(60.0)
        self.supervisor.close(5.0)

    @property
    def pid(self):
        """Of the sampler; None between two."""
        child = self.supervisor._keeper.child
        return None if child is None else child.pid

    @property
    def snapshot(self):
        answer = self.newest.answer()
        return None if answer is None else answer.sample.snapshot()

    @property
    def status(self):
        return self.newest.answer().status

    @property
    def message(self):
        trouble = self.newest.trouble
        return "" if trouble is None else trouble.message

    def hang(self):
        """The driver hangs, for longer than the deadline."""
        self.script.write_text("hang")
        self.wait(self.script.with_suffix(".hanging").exists)
        self.overdue()

    def overdue(self):
        """The deadline of this sampler, which says nothing more, is over."""
        child = self.supervisor._keeper.child
        self.supervisor.overdue_pid = child.pid  # what it said before may still be on its way
        self.supervisor._due = time.monotonic()
        child.interrupt()

    def wait(self, condition, seconds=60.0):
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, f"waited too long; {self.newest.trouble}; {self.loop.last_error!r}"
            time.sleep(0.01)

    def wait_for_gpus(self, count=2):
        self.wait(lambda: self.snapshot is not None and len(self.snapshot.gpus) == count)

    def wait_for_another(self, *pids):
        """Another sampler than these; its pid."""
        self.wait(lambda: self.pid not in (None, *pids))
        return self.pid

    def wait_for_newer(self):
        taken_at = self.snapshot.taken_at
        self.wait(lambda: self.snapshot.taken_at > taken_at)


@pytest.fixture
def rig(tmp_path):
    rigs = []

    def make(word="ok", **options):
        script = tmp_path / "script"
        script.write_text(word)
        rigs.append(Rig(script, tmp_path / "inventory.json", **options))
        return rigs[-1]

    yield make
    for one in rigs:
        one.script.write_text("ok")
        one.close()
        assert one.loop.last_error is None
