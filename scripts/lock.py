#!/usr/bin/env python3
"""Write requirements.lock and requirements-build.lock: each wheel of gpuwatch.pyz pinned with its sha256.

Resolves requirements.in for Python 3.9 through pip (the newest versions that it allows), once for each platform of
build_zipapp.py. No download address gets into the locks. Run it to take newer versions, then read the difference.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))

from build_zipapp import COMPILED, FOR_PYTHON, PLATFORMS  # noqa: E402

PURE = ["--only-binary=:all:", "--python-version", "3.9", "--implementation", "py", "--abi", "none", "--platform", "any"]


def main() -> None:
    pure = [line for line in requirements("requirements.in") if not line.startswith(COMPILED)]
    compiled = [line for line in requirements("requirements.in") if line.startswith(COMPILED)]
    wheels = download(PURE, pure)
    for platform in PLATFORMS.values():
        wheels += download([*FOR_PYTHON, "--platform", platform, "--no-deps"], compiled)
    write("requirements.lock", "requirements.in", wheels)
    write("requirements-build.lock", "requirements-build.in", download([*PURE, "--no-deps"], requirements("requirements-build.in")))


def requirements(name: str) -> list[str]:
    """The requirements of one .in file, without its comments."""
    lines = (line.split("#")[0].strip() for line in (HERE / name).read_text().splitlines())
    return [line for line in lines if line]


def download(options: list[str], names: list[str]) -> list[tuple[str, str, str]]:
    """(name==version, sha256, file name) of each wheel that pip takes for `names`."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", *options, "-d", folder, *names], check=True)
        return [pinned(wheel) for wheel in sorted(Path(folder).glob("*.whl"))]


def pinned(wheel: Path) -> tuple[str, str, str]:
    """The lock's row for one wheel."""
    name, version = wheel.name.split("-")[:2]
    return f"{re.sub('[-_.]+', '-', name).lower()}=={version}", hashlib.sha256(wheel.read_bytes()).hexdigest(), wheel.name


def write(name: str, source: str, wheels: list[tuple[str, str, str]]) -> None:
    """Write one lock: a block for each package, with the hash of each of its wheels."""
    lines = [f"# Written by scripts/lock.py from {source}: edit that, then run it again.", ""]
    for requirement in sorted({row[0] for row in wheels}):
        rows = sorted(row[1:] for row in wheels if row[0] == requirement)
        lines += [f"# {file_name}" for _, file_name in sorted(rows, key=lambda row: row[1])]
        lines += [" \\\n    ".join([requirement, *(f"--hash=sha256:{digest}" for digest, _ in rows)]), ""]
    (HERE / name).write_text("\n".join(lines))


if __name__ == "__main__":
    main()
