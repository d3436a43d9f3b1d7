"""Kill -9 of the hub under load, again and again; trouble with the disk; an orderly end."""

from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Optional

import pytest
from tests.e2e.processes import Lab, Running, address, eventually, get, get_json, nodes_of, until_status

KILLS = 20
NODES = 4
INTERVAL_SECONDS = 0.3
NOBODY = 65534


LOOK_SECONDS = 0.05


class Seen:
    """Every reading that the hub has shown, with when it was first seen: by (host, taken_at).

    ``clock`` counts the seconds in which the hub was seen at work: while it, or this test, is stopped by a busy machine, it stands still.
    """

    def __init__(self) -> None:
        self.at: dict[tuple[str, float], float] = {}
        self.clock = 0.0
        self.url = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        looked_at = time.monotonic()
        while not self._stop.wait(LOOK_SECONDS):
            try:
                nodes = get_json(f"{self.url}/api/v1/cluster")["nodes"] if self.url else []
            except (OSError, ValueError, AssertionError, HTTPException):  # the last: it was killed in the middle of its answer
                continue
            before, looked_at = looked_at, time.monotonic()
            self.clock += min(looked_at - before, 4 * LOOK_SECONDS)
            for node in nodes:
                if node["snapshot"] is not None:
                    self.at.setdefault((node["name"], node["snapshot"]["taken_at"]), self.clock)

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()


def stored(path: Path) -> set[tuple[str, float]]:
    """(host, taken_at) of every snapshot in the database, read through the program's own store; the file passes its check."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    from gpuwatch.store import machines, snapshots
    from gpuwatch.store.database import open_store

    store = open_store(f"sqlite:///{path}", create=False, read_only=True)
    try:
        return {(one.name, entry.taken_at_ms / 1000) for one in machines.list_all(store) for entry in snapshots.read(store, one.id)}
    finally:
        store.close()


def test_twenty_kills_lose_nothing_older_than_an_interval(lab: Lab) -> None:
    dice = random.Random(20)
    nodes = {f"n{number}": lab.simulated(f"n{number}", f"4xh100:mixed:{number}", interval=INTERVAL_SECONDS) for number in range(NODES)}
    hosts = "".join(f"{name}={address(node)}\n" for name, node in nodes.items())
    settings: dict[str, Any] = {"interval": INTERVAL_SECONDS, "pack_snapshots": 6, "no_access_log": True}
    seen = Seen()
    killed_at: list[float] = []
    try:
        for _ in range(KILLS):
            hub = lab.hub(hosts, settings)
            seen.url = hub.url()
            count = len(seen.at)
            assert eventually(lambda: len(seen.at) >= count + 2 * NODES), hub.output  # noqa: B023
            time.sleep(dice.uniform(0, 0.6))
            killed_at.append(seen.clock)
            os.kill(hub.process.pid, signal.SIGKILL)
            hub.process.wait(20)
            assert "Traceback" not in hub.output
            assert "is damaged" not in hub.output
            found = stored(lab.folder / "hub.db")
            old = {key for key, at in seen.at.items() if not any(0 <= kill - at < MOST_UNSTORED_SECONDS for kill in killed_at)}
            assert not old - found, f"kill {len(killed_at)}: {sorted(old - found)[:5]}"
    finally:
        seen.close()
    assert len(killed_at) == KILLS
    with sqlite3.connect(f"file:{lab.folder / 'hub.db'}?mode=ro", uri=True) as database:
        assert database.execute("SELECT count(*) FROM block").fetchone()[0] > NODES, "some were packed meanwhile"
        assert database.execute("SELECT count(*) FROM machine").fetchone()[0] == NODES


MOST_UNSTORED_SECONDS = 1.0 + INTERVAL_SECONDS
"""The writer's beat of a second, and the interval; a reading is promised to be durable one interval (of 5 s, usually) after it came."""


@pytest.mark.parametrize("what", ["hub", "node"])
def test_sigterm_ends_quickly_and_well(lab: Lab, what: str) -> None:
    node = lab.simulated("n")
    hub = lab.hub(f"n={address(node)}\n")
    until_status(hub, "n", "up")
    running = hub if what == "hub" else node
    below = running.children()
    began = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - began < 10
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]
    assert "Traceback" not in running.output
    if what == "hub":
        assert stored(lab.folder / "hub.db"), "what waited was written"


# ---- trouble with the disk


class NobodysLab(Lab):
    """Starts hubs as an unprivileged user, for root may write anywhere."""

    def start(self, name: str, *argv: object, env: Optional[Mapping[str, str]] = None) -> Running:
        """As ``Lab.start``, a hub as nobody."""
        if os.getuid() != 0 or "hub" not in argv:
            return super().start(name, *argv, env=env)
        (self.folder / name).mkdir(exist_ok=True)
        os.chown(self.folder / name, NOBODY, NOBODY)
        setpriv = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        environ = {**self.env(name), **(env or {}), "SHIV_ROOT": str(self.folder / "nobodys-root")}
        running = Running([*setpriv, str(self.pyz), *map(str, argv)], environ, self.folder)
        self._running.append(running)
        return running


@pytest.fixture
def nobodys(pyz: Path, open_folder: Path) -> Iterator[NobodysLab]:
    """A lab in a folder that an unprivileged user can enter."""
    copy = open_folder / "gpuwatch.pyz"
    copy.write_bytes(pyz.read_bytes())
    copy.chmod(0o755)
    made = NobodysLab(copy, open_folder)
    try:
        yield made
    finally:
        made.close()


def notices(hub: Running) -> str:
    """What the hub says of itself."""
    return "\n".join(get_json(f"{hub.url()}/api/v1/cluster")["notices"])


def said_everywhere(hub: Running, words: str) -> None:
    """The notice stands on the page and in the text views."""
    for path in ("/", "/?term=true&view=rows&width=300", "/?term=true&width=300"):
        assert eventually(lambda: words in " ".join(get(hub.url() + path)[1].split()), 20), path  # noqa: B023


def still_lives(hub: Running, name: str) -> None:
    """The live view goes on: new readings come."""
    first = until_status(hub, name, "up")["snapshot"]["taken_at"]
    assert eventually(lambda: nodes_of(hub)[name]["snapshot"]["taken_at"] > first)


def test_a_read_only_database(nobodys: NobodysLab) -> None:
    node = nobodys.simulated("n")
    place = nobodys.folder / "data"
    place.mkdir()
    place.chmod(0o755)
    if os.getuid() != 0:
        place.chmod(0o555)
    hub = nobodys.hub(f"n={address(node)}\n", {"database": f"sqlite:///{place}/x.db"})
    still_lives(hub, "n")
    assert "live view goes on" in notices(hub)
    assert str(place) in notices(hub)
    said_everywhere(hub, "live view goes on")
    assert get(f"{hub.url()}/states/n/?fetch_num=5")[0] == 200
    assert "Traceback" not in hub.output
    # repaired while it runs: it stores again by itself
    place.chmod(0o777)
    assert eventually(lambda: notices(hub) == "")
    assert eventually(lambda: len(stored(place / "x.db")) > 1)
    assert hub.stop() == 0


def test_a_database_that_becomes_read_only(nobodys: NobodysLab) -> None:
    node = nobodys.simulated("n")
    place = nobodys.folder / "data"
    place.mkdir()
    place.chmod(0o777)
    hub = nobodys.hub(f"n={address(node)}\n", {"database": f"sqlite:///{place}/x.db"})
    until_status(hub, "n", "up")
    assert eventually(lambda: len(stored(place / "x.db")) > 1)
    before = stored(place / "x.db")
    hub.kill()
    for path in place.iterdir():
        path.chmod(0o444)
    place.chmod(0o555)
    if os.getuid() == 0:
        for path in place.iterdir():
            os.chown(path, 0, 0)
    hub = nobodys.hub(f"n={address(node)}\n", {"database": f"sqlite:///{place}/x.db"})
    still_lives(hub, "n")
    assert "live view goes on" in notices(hub)
    assert "Traceback" not in hub.output
    place.chmod(0o755)
    for path in place.iterdir():
        path.chmod(0o644)
    assert before <= stored(place / "x.db"), "what was stored is unharmed"


@pytest.mark.parametrize("damage", ["not a database", "beginning", "middle"])
def test_a_corrupt_database(lab: Lab, damage: str) -> None:
    node = lab.simulated("n")
    path = lab.folder / "hub.db"
    if damage == "not a database":
        path.write_bytes(b"this is a letter to my aunt\n" * 500)
    else:
        hub = lab.hub(f"n={address(node)}\n")
        until_status(hub, "n", "up")
        assert eventually(lambda: stored(path))
        assert hub.stop() == 0
        content = bytearray(path.read_bytes())
        start, length = (0, 100) if damage == "beginning" else (4096, len(content) - 4096)
        content[start : start + length] = os.urandom(length)
        path.write_bytes(bytes(content))
    before = path.read_bytes()
    hub = lab.hub(f"n={address(node)}\n")
    still_lives(hub, "n")
    assert eventually(lambda: "live view goes on" in notices(hub) or "not shown" in notices(hub)), hub.output
    assert str(path) in notices(hub)
    said_everywhere(hub, "hub.db")
    for view in ("/states/", "/states/n/?fetch_num=3", "/get-status", "/hosts/n", "/?format=csv"):
        assert get(hub.url() + view)[0] == 200, view
    assert "Traceback" not in hub.output, hub.output
    assert hub.stop() == 0
    if damage != "middle":
        assert path.read_bytes() == before, "nobody writes into a file that is not ours"


def test_a_full_disk(lab: Lab) -> None:
    """A file system of a few megabytes, made for this test."""
    mount = lab.folder / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this kernel forbids: mounting a small file system ({done.stderr.strip()})")
    try:
        node = lab.simulated("n")
        hub = lab.hub(f"n={address(node)}\n", {"database": f"sqlite:///{mount}/x.db", "interval": 0.2})
        until_status(hub, "n", "up")
        assert eventually(lambda: len(stored(mount / "x.db")) > 1)
        fill(mount / "filler")
        assert eventually(lambda: "disk is full" in notices(hub)), hub.output[-2000:]
        still_lives(hub, "n")
        said_everywhere(hub, "disk is full")
        before = stored(mount / "x.db")
        (mount / "filler").unlink()
        assert eventually(lambda: notices(hub) == "")
        assert eventually(lambda: len(stored(mount / "x.db")) > len(before))
        assert before <= stored(mount / "x.db")
        assert "Traceback" not in hub.output
        assert hub.stop() == 0
    finally:
        lab.close()
        subprocess.run(["umount", "-l", str(mount)], check=True)


def fill(path: Path) -> None:
    """Write a file until there is no room: how much there is changes meanwhile, since the hub writes too."""
    with path.open("wb", buffering=0) as file:
        for length in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * length)
            except OSError as error:
                assert error.errno == errno.ENOSPC
