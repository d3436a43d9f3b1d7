"""What the system refuses: full disks, read-only files and folders, tried as a process that the system really refuses."""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from tests.store.samples import docs_for, journal_entry

from gpuwatch.store import machines, snapshots
from gpuwatch.store.database import open_store
from gpuwatch.store.failures import in_words

NOBODY = 65534


def run(tmp_path, code, *, as_nobody=False):
    """Run code in a child that may have given up root; its output."""
    head = """
        import os, resource, sys
        sys.path[:0] = [{src!r}, {root!r}]
        path = {path!r}
        from gpuwatch.model.errors import StoreError
        from gpuwatch.store import machines, snapshots, upkeep
        from gpuwatch.store.database import open_store
        from tests.store.samples import docs_for, journal_entry, numbers_of
        if {drop} and os.getuid() == 0:
            os.setgid({nobody}); os.setuid({nobody})
        def told(function, *arguments, **options):
            try:
                return function(*arguments, **options)
            except StoreError as error:
                print("StoreError:", error)
    """
    root = str(Path(__file__).resolve().parents[2])
    head = textwrap.dedent(head).format(
        src=os.path.join(root, "src"), root=root, path=str(tmp_path / "gpuwatch.db"), drop=as_nobody, nobody=NOBODY
    )
    done = subprocess.run([sys.executable, "-c", head + textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def open_folder():
    """A folder that other users can reach: not tmp_path, whose parent each pytest that starts closes to them."""
    made = folder = Path(tempfile.mkdtemp(prefix="gpuwatch-open-"))
    while folder != folder.parent and folder.stat().st_uid == os.getuid() and str(folder).count("/") > 1:
        folder.chmod(folder.stat().st_mode | 0o055)
        folder = folder.parent
    yield made
    shutil.rmtree(made)


@pytest.fixture
def filled(open_folder):
    store = open_store(str(open_folder / "gpuwatch.db"))
    machine = machines.ensure(store, "gpu01", "a")
    snapshots.append(store, [journal_entry(machine, number) for number in range(10)], docs_for(machine))
    store.close()
    os.chmod(store.path, 0o644)
    return store.path, machine


def test_a_file_size_limit_stops_storing_and_harms_nothing(tmp_path):
    output = run(
        tmp_path,
        """
        store = open_store(path)
        machine = machines.ensure(store, "gpu01", "a")
        snapshots.append(store, [journal_entry(machine, 0)], docs_for(machine))
        size = os.path.getsize(path + "-wal")
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, resource.RLIM_INFINITY))
        kept = 1
        for step in range(40):
            numbers = range(1 + 50 * step, 51 + 50 * step)
            try:
                snapshots.append(store, [journal_entry(machine, number) for number in numbers], docs_for(machine))
            except StoreError as error:
                print(error)
                break
            kept += 50
        assert 1 < kept + 50 < 2000, kept
        assert numbers_of(snapshots.read(store, machine)) == list(range(kept))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        snapshots.append(store, [journal_entry(machine, number) for number in numbers], docs_for(machine))
        assert numbers_of(snapshots.read(store, machine)) == list(range(kept + 50))
        assert upkeep.check(store, thorough=True) == []
        store.close()
        """,
    )
    assert "input/output error" in output or "full" in output
    assert len(set(output.splitlines())) == 1, "one sentence while the disk fills, for it stands on every page"


def test_a_read_only_file(filled):
    path, machine = filled
    os.chmod(path, 0o444)
    output = run(
        Path(path).parent,
        f"""
        told(open_store, path)
        store = open_store(path, read_only=True)
        print(numbers_of(snapshots.read(store, {machine!r})))
        """,
        as_nobody=True,
    )
    assert "may not be written: the file" in output
    assert str(list(range(10))) in output


def test_a_read_only_folder(filled):
    path, machine = filled
    os.chmod(path, 0o666)
    output = run(
        Path(path).parent,
        f"""
        told(open_store, path)
        told(open_store, path + ".new")
        store = open_store(path, read_only=True)
        print(numbers_of(snapshots.read(store, {machine!r})))
        """,
        as_nobody=True,
    )
    assert "may not be written: the folder" in output
    assert "cannot be made" in output
    assert str(list(range(10))) in output


def test_a_file_that_may_not_be_read(filled):
    path, _ = filled
    os.chmod(path, 0o600)
    output = run(Path(path).parent, "told(open_store, path, read_only=True)", as_nobody=True)
    assert "cannot be read: Permission denied. Change its rights." in output


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("database is locked", "in use by another writer"),
        ("database or disk is full", "disk is full"),
        ("attempt to write a readonly database", "may not be written"),
        ("database disk image is malformed", "is damaged"),
        ("disk I/O error", "input/output error"),
        ("unable to open database file", "cannot be opened"),
        ("no such table: block", "lacks a table"),
        ("something\nnew", "failed: something new"),
    ],
)
def test_words(said, meaning, tmp_path):
    error = in_words(Exception(said), "gpuwatch.db")
    assert meaning in str(error)
    assert "\n" not in str(error)
    assert error.next_step
