"""How long gpuwatch.pyz takes to start, against `python -c 'import click'` with the same interpreter, in one run.

Run it with the Python of a virtual environment that has click:  .venv/bin/python bench/startup.py [FILE]
Target: warm `--version` at most 2x of importing click. The rounds alternate, so that other load hits all alike.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGET_RATIO = 2.0
REPOSITORY = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=REPOSITORY / "dist" / "gpuwatch.pyz")
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    if not options.file.exists():
        sys.exit(f"bench/startup.py: there is no {options.file}: run python build_zipapp.py")
    with tempfile.TemporaryDirectory() as folder:
        medians = measure(options.file, Path(folder), options.rounds)
    base = medians["import click"]
    print(f"median of {options.rounds} alternating rounds, {Path(sys.executable).name} {sys.version.split()[0]}")
    for name, seconds in medians.items():
        print(f"{name:<28} {seconds * 1000:7.1f} ms  {seconds / base:5.2f}x of importing click")
    ratio = medians["--version, warm"] / base
    print(f"startup: --version / import click = {ratio:.2f} (target: at most {TARGET_RATIO:.1f})")
    return 0 if ratio <= TARGET_RATIO else 1


def measure(file: Path, folder: Path, rounds: int) -> dict[str, float]:
    """Median wall seconds of each way to start; the first starts are fewer, each into an empty folder."""
    python = [sys.executable]
    commands = {
        "python -c pass": [*python, "-c", "pass"],
        "import click": [*python, "-c", "import click"],
        "--version, warm": [*python, str(file), "--version"],
        "--help, warm": [*python, str(file), "--help"],
        "--help, PYTHONPATH set": ["env", "PYTHONPATH=/nonexistent", *python, str(file), "--help"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in [*commands, "--help, first start"]}
    for number in range(rounds + 1):
        for name, command in commands.items():
            seconds[name].append(wall_seconds(command, folder / "root"))
        if number % 5 == 1:
            seconds["--help, first start"].append(wall_seconds(commands["--help, warm"], folder / "first"))
            shutil.rmtree(folder / "first")
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first one fills caches


def wall_seconds(command: list[str], root: Path) -> float:
    """How long one run takes."""
    started = time.perf_counter()
    subprocess.run(command, env={**os.environ, "SHIV_ROOT": str(root)}, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
