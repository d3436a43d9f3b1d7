"""A store in a real file, with one machine."""

import pytest

from gpuwatch.store import machines
from gpuwatch.store.database import open_store


@pytest.fixture
def store(tmp_path):
    opened = open_store(str(tmp_path / "gpuwatch.db"))
    yield opened
    opened.close()


@pytest.fixture
def machine(store):
    return machines.ensure(store, "gpu01", "10.0.0.1", now=1.0)
