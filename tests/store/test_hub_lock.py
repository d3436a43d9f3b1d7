"""One hub at a time keeps a database; where locks are impossible nobody is stopped by it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gpuwatch.model.errors import UsageError
from gpuwatch.store.hub_lock import HubLock


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'hub.db'}"


def test_one_holds_it_until_it_lets_go(url):
    first, second = HubLock(url), HubLock(url)
    assert first.take()
    assert first.take()
    assert not second.take()
    assert second.holder() == f"process {os.getpid()}"
    first.release()
    first.release()
    assert second.take()
    assert not first.take()
    second.release()


def test_it_ends_with_a_killed_process(url):
    code = f"""
import sys, time; sys.path.insert(0, {str(Path(__file__).resolve().parents[2] / "src")!r})
from gpuwatch.store.hub_lock import HubLock
lock = HubLock({url!r}); print(lock.take(), flush=True); time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    lock = HubLock(url)
    try:
        assert process.stdout.readline() == "True\n"
        assert not lock.take()
        assert lock.holder() == f"process {process.pid}"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert lock.take()
    lock.release()


def test_a_lock_file_that_was_removed_is_made_anew(url, tmp_path):
    first, second = HubLock(url), HubLock(url)
    assert first.take()
    (tmp_path / "hub.db.hub-lock").unlink()
    assert second.take()
    assert not HubLock(url).take()
    first.release()
    second.release()


def test_where_no_lock_file_can_be_made_the_database_itself_tells(tmp_path):
    lock = HubLock(f"sqlite:///{tmp_path}/none/hub.db")
    assert lock.take()
    assert lock.holder() == "unknown process"
    lock.release()


def test_an_address_that_is_none():
    with pytest.raises(UsageError):
        HubLock("mysql://x@y/z")
