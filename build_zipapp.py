#!/usr/bin/env python3
"""Build dist/gpuwatch.pyz: the whole program in one file. Needs Python >= 3.9 with venv and pip, nothing else.

Wheels come through pip, pinned and hash-checked by requirements.lock; psutil, the only compiled one, once for each
machine and C library. shiv packs them with src/gpuwatch. Then this script replaces shiv's start-up code by src/pyz_start
(its docstrings say why) and writes the archive again in one fixed form, so that the same sources give the same bytes in
any folder and with any Python that has the same zlib. It must never write outside build/ and the output's folder.
"""

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

if sys.version_info < (3, 9):  # noqa: UP036
    sys.exit("build_zipapp.py: needs Python 3.9 or newer, this is " + sys.version.split()[0] + ": try python3.11")

HERE = Path(__file__).resolve().parent
LOCK = HERE / "requirements.lock"
BUILD_LOCK = HERE / "requirements-build.lock"
COMPILED = "psutil"  # the one package with a wheel for each platform
PLATFORMS = {  # our folder's name for it -> pip's name; the first one's wheels include all pure ones
    "x86_64-glibc": "manylinux2014_x86_64",
    "aarch64-glibc": "manylinux2014_aarch64",
    "x86_64-musl": "musllinux_1_2_x86_64",
    "aarch64-musl": "musllinux_1_2_aarch64",
}
FOR_PYTHON = ["--only-binary=:all:", "--python-version", "3.9", "--implementation", "cp", "--abi", "abi3"]
DATE = (1980, 1, 1, 0, 0, 0)  # the zip format's first day
NOT_PACKED = re.compile(
    r"""
    /$ | (^|/)__pycache__/ | \.pyc$ | \.pyi$ | (^|/)tests?/ | (^|/)\.[^/]*$
    | ^[^/]+\.data/                                                 # scripts
    | ^[^/]+\.dist-info/(?!METADATA$|licenses/|LICEN[CS]E|COPYING)  # licences stay, installers' records go
    | ^psutil/_ps(bsd|osx|sunos|aix|windows)\.py$
    | ^(example|pwiz)\.py$                                          # of nvidia-ml-py and peewee
    """,
    re.VERBOSE,
)


class BuildError(Exception):
    """The file cannot be built; the text says why and what to do."""


def main() -> int:
    """Build the file named on the command line; 0 if it is there, 1 if not."""
    parser = argparse.ArgumentParser(description="Build gpuwatch.pyz, the whole program in one file.")
    parser.add_argument("--output", type=Path, default=HERE / "dist" / "gpuwatch.pyz", help="default: %(default)s")
    output = parser.parse_args().output.absolute()
    try:
        build(output)
    except (BuildError, OSError) as error:
        print(f"build_zipapp.py: {error}", file=sys.stderr)
        return 1
    print(f"{hashlib.sha256(output.read_bytes()).hexdigest()}  {output}")
    return 0


def build(output: Path) -> None:
    """Write the finished archive to `output`, replacing an older one at once. Raises BuildError, OSError."""
    work = HERE / "build"
    work.mkdir(exist_ok=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir=work) as temporary:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two builds in one checkout share the environment and the wheels
        python = build_environment(work)
        wheels = fetch_wheels(python, work)
        stage = Path(temporary, "site-packages")
        fill(stage, wheels)
        packed = Path(temporary, "packed.pyz")
        pack(python, stage, packed)
        finished = Path(temporary, "finished.pyz")
        finish(packed, finished, version())
        shutil.copyfile(finished, output.with_name(output.name + ".new"))
        output.with_name(output.name + ".new").chmod(0o755)
        os.replace(output.with_name(output.name + ".new"), output)


def version() -> str:
    """The program's version, as its package says."""
    found = re.search(r'^__version__ = "([^"]+)"', (HERE / "src/gpuwatch/__init__.py").read_text(), re.MULTILINE)
    if not found:
        raise BuildError("src/gpuwatch/__init__.py has no __version__ line")
    return found[1]


def call(argv: list[str], trouble: str) -> None:
    """Run a command quietly; raise BuildError with its last line and `trouble` (what it means, what to do)."""
    environ = {key: value for key, value in os.environ.items() if not re.match("PYTHON|PIP_(USER|TARGET|PREFIX|ROOT)", key)}
    environ["SOURCE_DATE_EPOCH"] = "315532800"
    done = subprocess.run(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith(("WARNING", "[notice"))]
        raise BuildError(f"{trouble} ({lines[-1].strip() if lines else f'exit code {done.returncode}'})")


def build_environment(work: Path) -> str:
    """The Python of a virtual environment with shiv as requirements-build.lock pins it; made once per lock and Python."""
    key = hashlib.sha256(BUILD_LOCK.read_bytes() + sys.version.encode() + sys.executable.encode()).hexdigest()[:16]
    folder = work / f"environment-{key}"
    python = str(folder / "bin" / "python")
    if (folder / "ready").exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    call(
        [sys.executable, "-I", "-m", "venv", str(folder)],
        "cannot make a virtual environment: install Python's venv (Debian, Ubuntu: apt install python3-venv)",
    )
    call(
        pip(python, "install", "--no-deps", "--only-binary=:all:", "-r", str(BUILD_LOCK)),
        "cannot install shiv as requirements-build.lock pins it: is the package index reachable",
    )
    (folder / "ready").touch()
    return python


def pip(python: str, *arguments: str) -> list[str]:
    """The argv of a pip that takes nothing without its hash."""
    return [python, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments, "--require-hashes"]


def fetch_wheels(python: str, work: Path) -> dict[str, list[Path]]:
    """The wheels of each platform (the first with the pure ones), fetched once per requirements.lock, always checked."""
    text = LOCK.read_text()
    hashes = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", text))
    folder = work / f"wheels-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=work) as temporary:
            download(python, text, Path(temporary))
            os.rename(temporary, folder)
            os.mkdir(temporary)  # for TemporaryDirectory to delete
    wheels = {name: sorted((folder / name).glob("*.whl")) for name in PLATFORMS}
    for wheel in (wheel for group in wheels.values() for wheel in group):
        if hashlib.sha256(wheel.read_bytes()).hexdigest() not in hashes:
            raise BuildError(f"{wheel} is not what requirements.lock pins: delete {folder} and build again")
    return wheels


def download(python: str, lock: str, folder: Path) -> None:
    """Let pip fetch into one folder per platform; all packages for the first, the compiled one for the others."""
    compiled = re.search(rf"^{COMPILED}==(?:.*\\\n)*.*\n", lock, re.MULTILINE)
    if not compiled:
        raise BuildError(f"requirements.lock does not pin {COMPILED}: run python scripts/lock.py")
    only_compiled = folder / "compiled.lock"
    only_compiled.write_text(compiled[0])
    for number, (name, platform) in enumerate(PLATFORMS.items()):
        requirements = only_compiled if number else LOCK
        arguments = ["--no-deps", *FOR_PYTHON, "--platform", platform, "-d", str(folder / name), "-r", str(requirements)]
        call(pip(python, "download", *arguments), f"cannot fetch the wheels for {name} that requirements.lock pins")


def fill(stage: Path, wheels: dict[str, list[Path]]) -> None:
    """Unpack the wheels into `stage`, the compiled package below _arch/<platform>, and copy our own packages."""
    for name, group in wheels.items():
        for wheel in group:
            with zipfile.ZipFile(wheel) as archive:
                for entry in archive.namelist():
                    place = stage / "_arch" / name if entry.startswith(f"{COMPILED}/") else stage
                    put(place, entry, archive.read(entry))
    for package in ("gpuwatch", "pyz_start"):
        for path in sorted((HERE / "src" / package).rglob("*")):
            name = str(path.relative_to(HERE / "src"))
            if not NOT_PACKED.search(name) and path.is_file():  # a program that runs from here may be writing its __pycache__
                put(stage, name, path.read_bytes())


def put(folder: Path, name: str, content: bytes) -> None:
    """Write one file, unless it is of those that are not packed."""
    if NOT_PACKED.search(name):
        return
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def pack(python: str, stage: Path, output: Path) -> None:
    """Let shiv make the archive."""
    options = ["--site-packages", str(stage), "-e", "gpuwatch.boot:main", "-p", "/usr/bin/env python3", "--reproducible"]
    call([python, "-I", "-m", "shiv", *options, "-o", str(output)], "shiv could not pack the file")


def finish(packed: Path, output: Path, program_version: str) -> None:
    """Write shiv's archive again with our start-up code, sorted, with the same date and rights for every file."""
    with zipfile.ZipFile(packed) as source, output.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        build_id = re.search(r'"build_id": "([0-9a-f]{16})', source.read("environment.json").decode())
        if not build_id:
            raise BuildError("shiv wrote no build_id: is requirements-build.lock's shiv another one")
        start = source.read("site-packages/pyz_start/__main__.py").decode()
        start = start.replace('VERSION = "source"', f'VERSION = "{program_version}"', 1)
        start = start.replace('BUILD = "source"', f'BUILD = "{build_id[1]}"', 1)
        with zipfile.ZipFile(file, "w") as target:
            # not compressed: --version then needs no zlib
            add(target, "__main__.py", start.encode(), zipfile.ZIP_STORED)
            for name in sorted(source.namelist()):
                if name != "__main__.py" and not name.startswith("_bootstrap/"):
                    add(target, name, source.read(name), zipfile.ZIP_DEFLATED)


def add(archive: zipfile.ZipFile, name: str, content: bytes, method: int) -> None:
    """Add one file in the fixed form."""
    entry = zipfile.ZipInfo(name, DATE)
    entry.create_system = 3  # Unix, whatever this runs on
    entry.external_attr = 0o100644 << 16
    entry.compress_type = method
    archive.writestr(entry, content, compresslevel=9)


if __name__ == "__main__":
    sys.exit(main())
