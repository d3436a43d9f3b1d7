"""A PostgreSQL server of the test run's own: in a temporary folder, on a unix socket there, as a user that is not root."""

import ctypes
import glob
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg

from gpuwatch.store.database import open_store
from gpuwatch.store.migrations import STEPS
from gpuwatch.store.tables import TABLES

USER = "gpuwatch"
PASSWORD = "pw-s3cret"
_END_OTHERS = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid() AND usename = '{USER}'"


def _end_with_parent():
    """In the child: the kernel ends it when the test run is gone, even by a SIGKILL."""
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG


def programs():
    """The folder with initdb and pg_ctl; Debian keeps them off the PATH."""
    versions = glob.glob("/usr/lib/postgresql/*/bin/initdb") + glob.glob("/usr/pgsql-*/bin/initdb")
    newest = max(versions, default=None, key=lambda path: int(re.findall(r"\d+", path)[0]))
    found = newest or shutil.which("initdb")
    assert found, "PostgreSQL is not installed. Next: make prepare, or apt-get install postgresql"
    return Path(found).resolve().parent


class Server:
    """``start`` and ``stop`` as often as wanted; ``close`` at the end."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="gpuwatch-pg-"))
        self._bin = programs()
        self._as = self._user()
        self._used = self._first = self._process = None
        password = self.folder / "password"
        password.write_text(PASSWORD)
        for path in (self.folder, password):
            if self._as:
                shutil.chown(path, *self._as)
        self._run("initdb", "-D", self.folder / "data", "-U", USER, "--auth=scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C", "--no-sync")

    @staticmethod
    def _user():
        """Uid and gid to run as: PostgreSQL refuses to run as root. None: as we are."""
        if os.getuid():
            return None
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
                return entry.pw_uid, entry.pw_gid
            except KeyError:
                pass
        return 65534, 65534

    def _call(self, program, *arguments):
        """Command and options to run a program of PostgreSQL."""
        options = {"user": self._as[0], "group": self._as[1], "extra_groups": []} if self._as else {}
        return [str(self._bin / program), *map(str, arguments)], {"cwd": self.folder, "stderr": subprocess.STDOUT, **options}

    def _run(self, program, *arguments):
        command, options = self._call(program, *arguments)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, **options)
        assert done.returncode == 0, done.stdout

    def start(self):
        """Returns when it answers. It ends with this process, however that ends."""
        options = {"listen_addresses": "", "unix_socket_directories": self.folder, "fsync": "off", "shared_buffers": "32MB", "autovacuum": "off"}
        command, more = self._call("postgres", "-D", self.folder / "data", *(word for pair in options.items() for word in ("-c", "{}={}".format(*pair))))
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, preexec_fn=_end_with_parent, **more)
        until = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until, "it does not answer"
            time.sleep(0.02)

    def _answers(self):
        try:
            psycopg.connect(self.address()).close()
            return True
        except psycopg.OperationalError:
            return False

    def stop(self, how=signal.SIGINT):
        """SIGINT: in order; SIGQUIT: as after a crash."""
        self._process.send_signal(how)
        self._process.wait(60)
        self._process = None

    def restart(self):
        self.stop(signal.SIGQUIT)
        self.start()

    def close(self):
        if self._process is not None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def address(self, *, user=USER, password=PASSWORD, database="postgres", schema="public"):
        return f"postgresql://{user}:{password}@/{database}?host={self.folder}&options=-csearch_path%3D{schema}"

    def execute(self, *statements):
        with psycopg.connect(self.address(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def end_sessions(self, where):
        """End the sessions of which ``where`` is true in pg_stat_activity, and wait until they are gone with all that they held."""
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {where}")
        self.until_gone(where)

    def until_gone(self, where):
        """Wait until there is no such session any more: one that a process left, or that was told to end, lives on for a moment."""
        until = time.monotonic() + 60
        with psycopg.connect(self.address(), autocommit=True) as connection:
            while connection.execute(f"SELECT 1 FROM pg_stat_activity WHERE pid != pg_backend_pid() AND {where}").fetchone():
                assert time.monotonic() < until, f"there are still sessions with {where}"
                time.sleep(0.02)

    @contextmanager
    def empty_url(self):
        """The address of an empty database that other tests had before: three times as fast as a new one."""
        if self._used is None:
            self._used = self.address(schema="used")
            self.execute("CREATE SCHEMA used")
            open_store(self._used).close()
            self._first = self._parts()
        yield self._used
        meta = f"INSERT INTO used.meta VALUES ('schema_version', '{len(STEPS)}'), ('journal_epoch', '0')"
        tables = ", ".join(f"used.{table._meta.table_name}" for table in TABLES)
        made = [f"DROP TABLE used.{name}" for name in self._parts() - self._first]
        self.execute(_END_OTHERS, f"TRUNCATE {tables} RESTART IDENTITY", meta, *made)

    def _parts(self):
        with psycopg.connect(self.address()) as connection:
            found = connection.execute("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' AND relnamespace = 'used'::regnamespace")
            return {name for (name,) in found}

    @contextmanager
    def new_url(self):
        """The address of a schema of its own, for one test."""
        schema = f"test_{secrets.token_hex(6)}"
        self.execute(f"CREATE SCHEMA {schema}")
        yield self.address(schema=schema)
        self.execute(_END_OTHERS, f"DROP SCHEMA {schema} CASCADE")
