"""The Pythons of this machine that gpuwatch.pyz promises to run on."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path


def find_pythons() -> dict[str, str]:
    """Each CPython from 3.9 up on PATH and under pyenv, by version; at least the one that runs this."""
    candidates = [sys.executable, "/usr/bin/python3"]
    candidates += [str(path) for path in Path.home().glob(".pyenv/versions/3.*/bin/python")]
    candidates += [path for minor in range(9, 14) if (path := shutil.which(f"python3.{minor}"))]
    found: dict[str, str] = {}
    for python in candidates:
        try:
            text = subprocess.run([python, "-V"], capture_output=True, text=True, timeout=60).stdout
        except OSError:
            continue
        version = re.fullmatch(r"Python (3\.(\d+)\.\d+)\s*", text)
        if version and 9 <= int(version[2]) <= 13:
            found.setdefault(version[1], python)
    assert found
    return dict(sorted(found.items(), key=lambda item: [int(part) for part in item[0].split(".")]))
