"""A PostgreSQL server of the test run's own: in a temporary folder, on a unix socket there, as a user that is not root."""

import glob
import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psycopg

from gpuwatch.store.database import open_store
from gpuwatch.store.migrations import STEPS
from gpuwatch.store.tables import TABLES

USER = "gpuwatch"
PASSWORD = "pw-s3cret"
_END_OTHERS = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid() AND usename = '{USER}'"


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
        self._used = self._first = None
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

    def _run(self, program, *arguments):
        options = {"user": self._as[0], "group": self._as[1], "extra_groups": []} if self._as else {}
        command = [str(self._bin / program), *map(str, arguments)]
        done = subprocess.run(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, **options)
        log = self.folder / "log"
        assert done.returncode == 0, done.stdout + (log.read_text() if log.exists() else "")

    def start(self):
        options = {"listen_addresses": "", "unix_socket_directories": self.folder, "fsync": "off", "shared_buffers": "32MB", "autovacuum": "off"}
        text = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        self._run("pg_ctl", "start", "-w", "-s", "-D", self.folder / "data", "-l", self.folder / "log", "-o", text)

    def stop(self, mode="fast"):
        self._run("pg_ctl", "stop", "-w", "-s", "-m", mode, "-D", self.folder / "data")

    def restart(self):
        self.stop("immediate")
        self.start()

    def close(self):
        if (self.folder / "data" / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder)

    def address(self, *, user=USER, password=PASSWORD, database="postgres", schema="public"):
        return f"postgresql://{user}:{password}@/{database}?host={self.folder}&options=-csearch_path%3D{schema}"

    def execute(self, *statements):
        with psycopg.connect(self.address(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

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
