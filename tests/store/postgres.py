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

USER = "gpuwatch"
PASSWORD = "pw-s3cret"


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
    def new_url(self):
        """The address of a schema of its own, for one test."""
        schema = f"test_{secrets.token_hex(6)}"
        self.execute(f"CREATE SCHEMA {schema}")
        yield self.address(schema=schema)
        self.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid() AND usename = '{USER}'",
            f"DROP SCHEMA {schema} CASCADE",
        )
