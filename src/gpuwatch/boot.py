"""What runs first inside gpuwatch, before click: the right psutil, output that never fails, and --version.

gpuwatch.pyz comes here through its start-up code (src/pyz_start), a checkout through `python -m gpuwatch`. This module
also knows how the program starts itself again (self_argv). It must never import psutil, click or another room: an
unknown processor must still get an answer, and `--version` must come at once.
"""

from __future__ import annotations

import os
import sys
from typing import Optional

import gpuwatch

_archive: Optional[str] = None  # absolute path of the running gpuwatch.pyz, None from source
_unpacked: Optional[str] = None  # where it was unpacked to


def main(archive: Optional[str] = None, unpacked: Optional[str] = None) -> None:
    """Run the command line and exit.

    `archive` is the .pyz that was started, None from source or where a child was started from the unpacked folder;
    `unpacked` the folder with its files, None from source.
    """
    global _archive, _unpacked
    _archive, _unpacked = archive, unpacked
    try:
        _run(unpacked)
    except KeyboardInterrupt:  # a Ctrl-C while it is still being imported
        sys.exit(130)
    finally:
        # a KeyboardInterrupt that left code given as text (each namedtuple and dataclass is made by some) is remembered by CPython, which then
        # kills itself by SIGINT at its end, whatever the exit code; the next code given as text makes it forget
        exec("")


def _run(unpacked: Optional[str]) -> None:
    make_output_safe()
    if sys.argv[1:] in (["--version"], ["-V"]):
        print(f"gpuwatch {gpuwatch.__version__}")
        return
    if unpacked is not None:
        sys.path.insert(0, os.path.join(unpacked, "site-packages", "_arch", architecture()))
    if sys.argv[1:] == ["_sampler"]:
        from gpuwatch.node.sampler import main as sample  # without click: a node's memory counts twice

        sample()
        return
    from gpuwatch.cli.main import main as run_command_line

    run_command_line()


def self_argv() -> list[str]:
    """The start of an argv that runs this same program, whatever its working directory and environment.

    From the .pyz that is its unpacked folder, not the file: this process holds the folder against deletion, while
    the file may meanwhile have been replaced by another version, which a child would then speak with.
    """
    if _unpacked is not None and os.path.isdir(_unpacked):
        return [sys.executable, "-I", _unpacked]
    if _archive is not None:
        return [sys.executable, "-I", _archive]
    isolated = ["-I"] if sys.flags.isolated else []
    return [sys.executable, *isolated, os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")]


def archive() -> Optional[str]:
    """The path of the running gpuwatch.pyz; None from source."""
    return _archive


def make_output_safe() -> None:
    """Let no character make print() fail: under an ASCII or Latin-1 locale it is shown as \\xNN or \\uNNNN instead.

    Also under UTF-8, where a file name that is not valid UTF-8 (a lone surrogate in Python) would fail.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a closed stream is None
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def architecture() -> str:
    """Which of the compiled parts fits this interpreter: `x86_64-glibc`, `aarch64-musl`, ... (it may be none)."""
    machine = os.uname().machine
    if sys.maxsize < 2**32:
        machine += "-32bit"  # a 32-bit Python on a 64-bit kernel
    try:
        libc = "glibc" if os.confstr("CS_GNU_LIBC_VERSION") else "musl"
    except (ValueError, OSError):  # musl does not know the name
        libc = "musl"
    return f"{machine}-{libc}"
