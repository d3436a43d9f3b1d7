"""Packed files on a Python that was built without lzma, as many are."""

from __future__ import annotations

import io
import sys

import pytest

from gpuwatch.model.errors import UsageError
from gpuwatch.store import import_source


def test_without_lzma_the_module_loads_and_an_xz_file_is_refused_in_words(monkeypatch):
    assert "lzma" not in vars(import_source), "it is imported for a packed file alone: a hub starts without it"
    monkeypatch.setitem(sys.modules, "lzma", None)
    with pytest.raises(UsageError, match="built without lzma.*xz -d"):
        import_source._unxz(io.BytesIO(b"\xfd7zXZ\0"))
