"""Run as a program: a piece of upkeep over and over, each in a process of its own that is killed (kill -9). A line of stdin a turn.

``at STATEMENT`` kills it before that statement or commit, counted from 1; ``after SECONDS`` at that time, wherever it is; ``never`` lets it end.
Prints how each ended. No test in here.
"""

import os
import signal
import sys
import time
import traceback
from contextlib import contextmanager
from types import SimpleNamespace

from tests.store.gpus import START

from gpuwatch.store import backup, migrations, partitions, retention, thinning, upkeep
from gpuwatch.store.database import open_store, unprepared
from gpuwatch.store.digests import Digester
from gpuwatch.store.sqlite import SqliteStore

NOW = START + 7200
KEPT = retention.Retention(raw=1800.0, minutes=-20_000.0, processes=3000.0)
"""So that blocks are thinned, and chunks of minutes and intervals deleted, of two hours of readings."""


class Mine:
    """Kills this process when it is stepped on for the last time."""

    def __init__(self, steps):
        self.left = steps

    def step(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def lay(self, owner, name):
        """Before and after each call of ``owner.name``."""
        real = getattr(owner, name)

        def run(*arguments, **options):
            self.step()
            found = real(*arguments, **options)
            self.step()
            return found

        setattr(owner, name, run)

    def lay_at_commits(self, store):
        """Before and after each COMMIT."""
        real = store.writing

        @contextmanager
        def writing():
            with real():
                yield
                self.step()
            self.step()

        store.writing = writing


def prune(mine, path):
    upkeep._BATCH, thinning.WINDOW_MS = 2, 600_000
    store = open_store(path)
    for name in ("change", "change_many"):
        mine.lay(store, name)
    mine.lay_at_commits(store)
    upkeep.prune(store, NOW, 3600.0, 10**12)
    retention.tend(store, NOW, KEPT, Digester(), lambda: True)
    store.close()


def prune_size(mine, url):
    """By age, then a tenth of its blocks for their size; on a server with partitions of some minutes."""
    upkeep._BATCH, thinning.WINDOW_MS = 10, 600_000
    partitions.SPANS["block"] = {0: 600_000}
    store = open_store(url)
    for name in ("change", "change_many"):
        mine.lay(store, name)
    mine.lay_at_commits(store)
    upkeep.prune(store, NOW, 5400.0, store.used_bytes() - upkeep.info(store).block_bytes // 10)
    retention.tend(store, NOW, retention.Retention(raw=3000.0), Digester(), lambda: True)
    store.close()


def migrate(mine, path):
    store = unprepared(path, create=False)
    mine.lay(store, "change")
    mine.lay(SqliteStore, "copy_to")
    mine.lay(os, "replace")
    mine.lay_at_commits(store)
    migrations.migrate(store)
    store.prepare()
    store.close()


def write_backup(mine, path):
    store = open_store(path, read_only=True)
    for name in ("open", "replace"):
        mine.lay(os, name)
    mine.lay(store, "copy_to")
    backup.write(store, f"{path}.copy")
    store.close()


def restore(mine, path):
    """All in one second, by which the database that was there is called: how many steps there are must not depend on when the last one was killed."""
    backup.time = SimpleNamespace(strftime=lambda *_: "20260921T141320", gmtime=time.gmtime)
    for name in ("open", "replace", "link"):
        mine.lay(os, name)
    mine.lay(backup, "write")
    backup.restore(f"{path}.copy", path)


def main(work, path):
    for line in sys.stdin:
        word, _, number = line.strip().partition(" ")
        child = os.fork()
        if not child:
            code = 1
            try:
                work(Mine(int(number) if word == "at" else 0), path)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        if word == "after":
            time.sleep(float(number))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        os.write(1, b"killed\n" if killed else b"ended %d\n" % os.WEXITSTATUS(status))


if __name__ == "__main__":
    main(globals()[sys.argv[1]], sys.argv[2])
