"""A store with one machine, on each kind of database: what is tested with ``store`` is the contract of both."""

import pytest

from gpuwatch.store import machines
from gpuwatch.store.database import open_store


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The address of a database that does not exist yet (on a server: that is empty)."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'gpuwatch.db'}"
    else:
        server = request.getfixturevalue("postgres")
        with server.new_url() if "short_partitions" in request.fixturenames else server.empty_url() as made:
            yield made


@pytest.fixture
def store(url):
    opened = open_store(url)
    yield opened
    opened.close()


@pytest.fixture
def file_store(tmp_path):
    """A SQLite store, for what only a file has."""
    opened = open_store(str(tmp_path / "gpuwatch.db"))
    yield opened
    opened.close()


@pytest.fixture
def server_store(postgres):
    """A PostgreSQL store, for what only a server has."""
    with postgres.new_url() as made:
        opened = open_store(made)
        yield opened
        opened.close()


@pytest.fixture
def machine(request):
    """The id of ``gpu01`` in whichever store the test uses."""
    name = next(name for name in ("store", "file_store", "server_store") if name in request.fixturenames)
    return machines.ensure(request.getfixturevalue(name), "gpu01", "10.0.0.1", now=1.0)
