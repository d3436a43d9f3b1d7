"""Seed 003's numbers in a hub's memory: kept while the database is the same, asked for only when a GPU is new."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gpuwatch.hub.old_systems import GpuNumbers, Means
from gpuwatch.model.errors import StoreError
from gpuwatch.store import gpu_numbers
from gpuwatch.store.database import Store, open_store


def numbers_of(store: Any) -> tuple[GpuNumbers, Any]:
    holder = SimpleNamespace(store=store)
    return GpuNumbers(cast(Means, SimpleNamespace(store=lambda: _open(holder)))), holder


def _open(holder: Any) -> Store:
    if holder.store is None:
        raise StoreError("away")
    return cast(Store, holder.store)


def test_the_database_is_asked_only_for_what_is_new(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path / "a.db"))
    numbers, holder = numbers_of(store)
    assert numbers.of(["a", "b"]) == {"a": 0, "b": 1}
    monkeypatch.setattr(gpu_numbers, "assign", lambda *_: pytest.fail("it is known"))
    assert numbers.of(["b"]) == {"a": 0, "b": 1}
    monkeypatch.undo()
    holder.store = other = open_store(str(tmp_path / "b.db"))
    assert numbers.of(["b"]) == {"b": 0}, "another database, other numbers"
    holder.store = None
    with pytest.raises(StoreError):
        numbers.of(["b"])
    store.close()
    other.close()


def test_a_full_table_is_not_asked_at_each_look(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_numbers, "MOST", 2)
    store = open_store(str(tmp_path / "a.db"))
    numbers, _ = numbers_of(store)
    assert numbers.of(["a", "b", "c"]) == {"a": 0, "b": 1}
    monkeypatch.setattr(gpu_numbers, "assign", lambda *_: pytest.fail("it is full"))
    assert numbers.of(["c"]) == {"a": 0, "b": 1}
    store.close()
