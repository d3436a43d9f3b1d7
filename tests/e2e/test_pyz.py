"""The file as users meet it: any Python, any folder, any user, any environment, many at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any, Optional

import pytest

NOBODY = 65534
PROBE = "def main():\n    import sys\n    exec(sys.argv[1], {})\n"


def run(argv: list[Any], environ: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run to its end with nothing but `environ`; text output."""
    options = {"capture_output": True, "text": True, "timeout": 100, **options}
    return subprocess.run([str(part) for part in argv], env={"PATH": os.environ["PATH"], **environ}, **options)


def probe(pyz: Path, output: Path, build: str = "0123456789abcdef", code: str = PROBE, module: str = "gpuwatch/cli/main.py") -> Path:
    """The same file under another build name, with `code` (by default what runs its first argument) for a module (by default the command line)."""
    output.write_bytes(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(pyz) as source, zipfile.ZipFile(output, "a") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename == f"site-packages/{module}":
                content = code.encode()
            elif entry.filename == "environment.json":
                content = json.dumps({**json.loads(content), "build_id": build}).encode()
            elif entry.filename == "__main__.py":
                content = re.sub(rb'BUILD = "\w+"', b'BUILD = "' + build.encode() + b'"', content)
            target.writestr(entry, content)
    output.chmod(0o755)
    return output


@pytest.fixture(scope="session")
def prober(pyz: Path) -> Path:
    """The file with a command line that runs its first argument as Python."""
    output = pyz.with_name(f"prober-{os.getpid()}.pyz")
    return probe(pyz, output)


def unpacked_in(root: Path) -> list[str]:
    """The names of the unpacked folders in a root."""
    return sorted(path.name for path in root.iterdir() if path.name.startswith("gpuwatch-"))


def test_every_python_found_runs_it(pyz: Path, prober: Path, pythons: dict[str, str], tmp_path: Path) -> None:
    code = "import psutil, bottle, waitress, pynvml, peewee, tabulate, click, wcwidth, tomli, sys; print(psutil.Process().pid)"
    for version, python in pythons.items():
        environ = {"SHIV_ROOT": str(tmp_path / "root")}
        assert run([python, pyz, "--version"], environ).stdout.startswith("gpuwatch "), version
        done = run([python, pyz, "--help"], environ)
        assert (done.returncode, done.stderr) == (0, ""), version
        assert "Usage: gpuwatch" in done.stdout
        done = run([python, prober, code], environ)
        assert done.stdout.strip().isdigit(), done.stderr


def test_an_old_python_is_told_in_one_line(pyz: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(pyz) as archive:
        start = archive.read("__main__.py").decode()
    old = "import sys, collections\nsys.version_info = (3, 6, 8)\nsys.version = '3.6.8 (default)'\n"
    done = run([sys.executable, "-c", old + start], {})
    assert done.returncode == 1
    assert done.stderr == "gpuwatch: needs Python 3.9 or newer, this is 3.6.8: try python3.11 gpuwatch.pyz\n"


def test_version_unpacks_nothing(pyz: Path, tmp_path: Path) -> None:
    done = run([pyz, "--version"], {"SHIV_ROOT": str(tmp_path / "root")})
    assert re.fullmatch(r"gpuwatch \d+\.\d+\.\d+\n", done.stdout)
    assert not (tmp_path / "root").exists()


def test_version_with_nobody_reading(pyz: Path, tmp_path: Path) -> None:
    done = run(["sh", "-c", '"$0" --version >&-', pyz], {})
    assert (done.returncode, done.stderr) == (1, "")


def test_psutil_is_the_one_of_this_machine(prober: Path, tmp_path: Path) -> None:
    done = run([prober, "import psutil; print(psutil.__file__)"], {"SHIV_ROOT": str(tmp_path)})
    assert f"/_arch/{os.uname().machine}-" in done.stdout


def test_an_unknown_machine_still_starts(pyz: Path, tmp_path: Path) -> None:
    code = "def main():\n    try:\n        import psutil\n    except ImportError:\n        print('none')\n"
    other = probe(pyz, tmp_path / "other.pyz", "00000000000000aa", code)
    with zipfile.ZipFile(other) as source, zipfile.ZipFile(tmp_path / "bare.pyz", "w") as target:
        for entry in source.infolist():
            if "/_arch/" not in entry.filename:
                target.writestr(entry, source.read(entry))
    # -S: this test's own Python may have a psutil
    assert run([sys.executable, "-S", tmp_path / "bare.pyz"], {"SHIV_ROOT": str(tmp_path / "root")}).stdout == "none\n"


def test_starts_by_any_name_from_any_folder(pyz: Path, tmp_path: Path) -> None:
    odd = tmp_path / "mé dir" / "gpu watch"
    odd.parent.mkdir()
    shutil.copy(pyz, odd)
    (tmp_path / "gpuwatch").symlink_to(odd)
    environ = {"SHIV_ROOT": str(tmp_path / "root"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert run([odd, "--help"], environ).returncode == 0
    assert run([sys.executable, "gpu watch", "--help"], environ, cwd=odd.parent).returncode == 0
    assert run(["sh", "-c", "gpuwatch --help"], environ, cwd="/").returncode == 0
    assert len(unpacked_in(tmp_path / "root")) == 1


# Whose folder it is


def as_nobody(argv: list[Any], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run as the user nobody (as ourselves where we are not root, who could write everywhere)."""
    if os.geteuid():
        return run(argv, environ, cwd="/")
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return run([*drop, *argv], environ, cwd="/")


def python_for_all() -> str:
    """A Python that other users can run too."""
    return "/usr/bin/python3" if os.geteuid() == 0 else sys.executable


@pytest.fixture
def open_pyz(pyz: Path, open_folder: Path) -> Path:
    """The file where other users can read it."""
    shutil.copy(pyz, open_folder / "gpuwatch.pyz")
    (open_folder / "gpuwatch.pyz").chmod(0o755)
    return open_folder / "gpuwatch.pyz"


@pytest.mark.parametrize("home", ["unwritable", "missing", "unset", "relative"])
def test_without_a_home_it_unpacks_to_a_private_temporary_folder(open_pyz: Path, open_folder: Path, home: str) -> None:
    (open_folder / "home").mkdir(mode=0o555)
    values = {"unwritable": str(open_folder / "home"), "missing": "/nonexistent/home", "relative": "home", "unset": None}
    environ = {"TMPDIR": str(open_folder)}
    if values[home] is not None:
        environ["HOME"] = str(values[home])
    if home in ("unset", "relative") and os.geteuid():
        environ["XDG_CACHE_HOME"] = "/nonexistent"  # a common user's passwd entry names a good home
    for _ in range(2):
        done = as_nobody([python_for_all(), open_pyz, "--help"], environ)
        assert (done.returncode, done.stderr) == (0, "")
    folder = open_folder / f"gpuwatch-{os.geteuid() or NOBODY}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(unpacked_in(folder)) == 1


def test_systemds_cache_directory_is_taken(pyz: Path, tmp_path: Path) -> None:
    environ = {"CACHE_DIRECTORY": f"{tmp_path}/one:{tmp_path}/two", "HOME": str(tmp_path)}
    assert run([pyz, "--help"], environ).returncode == 0
    assert len(unpacked_in(tmp_path / "one")) == 1
    assert not (tmp_path / ".cache").exists()


def test_home_is_taken_and_made_private(pyz: Path, tmp_path: Path) -> None:
    assert run([pyz, "--help"], {"HOME": str(tmp_path)}, umask=0).returncode == 0
    cache = tmp_path / ".cache" / "gpuwatch"
    assert cache.stat().st_mode & 0o777 == 0o700
    writable = [path for path in cache.rglob("*") if path.stat().st_mode & 0o022 and not path.is_dir()]
    assert [path for path in writable if "__pycache__" not in path.parts] == []


def test_a_folder_that_others_can_write_is_refused(pyz: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o770)
    done = run([pyz, "--help"], {"SHIV_ROOT": str(root)})
    assert done.returncode == 1
    assert done.stderr == (
        f"gpuwatch: {root} can be written by others (chmod go-w {root}). Set SHIV_ROOT to a folder that only you can write\n"
    )
    root.chmod(0o700)
    inner = root / "deep" / "er"
    (root / "deep").mkdir()
    (root / "deep").chmod(0o777)
    done = run([pyz, "--help"], {"SHIV_ROOT": str(inner)})
    assert done.returncode == 1
    assert "deep can be written by others" in done.stderr
    assert not inner.exists()


def test_a_folder_made_by_another_user_is_not_trusted(open_pyz: Path, prober: Path, open_folder: Path) -> None:
    """What lies ready in it is never run, for a root chosen by hand and for the one in a temporary folder."""
    shutil.copy(prober, open_folder / "prober.pyz")
    (open_folder / "prober.pyz").chmod(0o644)
    own = os.geteuid()
    trap = open_folder / f"gpuwatch-{own}"
    package = trap / "gpuwatch-0.1.0-0123456789abcdef" / "site-packages" / "gpuwatch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("print('trapped')")
    (package.parents[1] / ".gpuwatch-unpacked").write_text("kept over a reboot")
    if own == 0:
        for path in [trap, *trap.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
    else:
        trap.chmod(0o777)
    environ = {"SHIV_ROOT": str(trap)}
    done = run([python_for_all(), open_folder / "prober.pyz", "print('ours')"], environ)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "belongs to another user" in done.stderr or "can be written by others" in done.stderr
    environ = {"TMPDIR": str(open_folder), "HOME": "/nonexistent", "XDG_RUNTIME_DIR": str(open_folder / "run")}
    (open_folder / "run").mkdir(mode=0o700)
    done = run([python_for_all(), open_folder / "prober.pyz", "print('ours')"], environ)
    assert (done.returncode, done.stdout) == (0, "ours\n")
    assert len(unpacked_in(open_folder / "run" / "gpuwatch")) == 1


def test_root_leaves_nothing_in_a_users_home(open_pyz: Path, open_folder: Path) -> None:
    """`sudo` may keep HOME: root must neither run what the user can replace nor block the user's folder."""
    home = open_folder / "home"
    home.mkdir()
    (home / ".cache").mkdir()
    if os.geteuid() == 0:
        os.chown(home, NOBODY, NOBODY)
        os.chown(home / ".cache", NOBODY, NOBODY)
    else:
        home.chmod(0o777)
    (open_folder / "run").mkdir(mode=0o700)
    environ = {"HOME": str(home), "XDG_RUNTIME_DIR": str(open_folder / "run")}
    assert run([python_for_all(), open_pyz, "--help"], environ).returncode == 0
    assert list((home / ".cache").iterdir()) == []


def test_an_unwritable_temporary_folder_is_passed_over(open_pyz: Path, open_folder: Path) -> None:
    (open_folder / "closed").mkdir(mode=0o555)
    (open_folder / "run").mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(open_folder / "run", NOBODY, NOBODY)
    environ = {"HOME": "/nonexistent", "XDG_RUNTIME_DIR": str(open_folder / "closed"), "TMPDIR": str(open_folder)}
    done = as_nobody([python_for_all(), open_pyz, "--help"], environ)
    assert (done.returncode, done.stderr) == (0, "")


def test_nowhere_to_unpack_is_one_line(open_pyz: Path, open_folder: Path) -> None:
    (open_folder / "closed").mkdir(mode=0o555)
    done = as_nobody([python_for_all(), open_pyz, "--help"], {"SHIV_ROOT": str(open_folder / "closed" / "unpacked")})
    assert done.returncode == 1
    assert done.stderr == (f"gpuwatch: {open_folder}/closed/unpacked: Permission denied. Set SHIV_ROOT to a folder that only you can write\n")


def test_a_full_disk_is_one_line_and_leaves_nothing(pyz: Path, tmp_path: Path) -> None:
    limited = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", sys.executable, pyz, "--help"]
    done = run(limited, {"SHIV_ROOT": str(tmp_path / "root")})
    assert done.returncode == 1
    assert done.stderr.startswith("gpuwatch: ")
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in (tmp_path / "root").iterdir()] == [".lock-of-gpuwatch"]


# Hostile neighbours

HOSTILE = ["pynvml", "bottle", "click", "psutil", "waitress", "peewee", "tabulate", "wcwidth", "tomli", "gpuwatch", "pyz_start"]
HOSTILE_STANDARD = ["fcntl", "zipfile", "json", "logging", "sqlite3", "shutil", "tempfile", "stat", "typing", "contextlib"]
SHOW = f"import importlib; print([importlib.import_module(n).__file__ for n in {HOSTILE[:-1] + ['json', 'logging']}])"


def hostile_folder(folder: Path, names: list[str]) -> Path:
    """A folder with modules that give away that they were imported."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.py").write_text(f"raise SystemExit('hostile {name} was imported')\n")
    (folder / "psutil.py").unlink(missing_ok=True)
    (folder / "psutil").mkdir()
    (folder / "psutil" / "__init__.py").write_text("raise SystemExit('hostile psutil was imported')\n")
    return folder


def user_site(python: str, home: Path) -> Path:
    """That Python's user site-packages for a home."""
    code = "import site; print(site.getusersitepackages())"
    return Path(run([python, "-c", code], {"HOME": str(home)}).stdout.strip())


@pytest.mark.parametrize(
    ("where", "isolation"),
    [
        ("PYTHONPATH", "isolated"),
        ("relative PYTHONPATH", "isolated"),
        ("working directory", "isolated"),
        ("user site", "isolated"),
        ("PYTHONPATH", "with PYTHONHOME"),
    ],
)
def test_our_modules_win(prober: Path, pythons: dict[str, str], tmp_path: Path, where: str, isolation: str) -> None:
    for version, python in pythons.items():
        python = os.path.realpath(python)  # a virtual environment has no user site
        home = tmp_path / version
        environ = {"SHIV_ROOT": str(tmp_path / "root"), "HOME": str(home)}
        site = user_site(python, home)
        names = HOSTILE + (HOSTILE_STANDARD if isolation == "isolated" and where != "user site" else [])
        # what a Python loads before our first line cannot be kept out of it, only out of its successor
        loaded = run([python, "-c", "import sys, os, runpy, zipimport; print(*sys.modules)"], {}).stdout.split()
        bad = hostile_folder(site if where == "user site" else home / "bad", [n for n in names if n not in loaded])
        if "PYTHONPATH" in where:
            environ["PYTHONPATH"] = ":bad" if "relative" in where else str(bad)
        if isolation == "with PYTHONHOME":
            environ["PYTHONHOME"] = run([python, "-c", "import sys; print(sys.base_prefix)"], {}).stdout.strip()
        done = run([python, prober, SHOW], environ, cwd=home if "relative" in where else bad)
        assert (done.returncode, done.stderr) == (0, ""), version
        files = json.loads(done.stdout.replace("'", '"'))
        assert all(file.startswith(str(tmp_path / "root")) for file in files[:-2]), files
        assert not any(file.startswith(str(home)) for file in files[-2:]), files


def test_the_stale_pynvml_loses(prober: Path, tmp_path: Path) -> None:
    (tmp_path / "pynvml").mkdir()
    (tmp_path / "pynvml" / "__init__.py").write_text("__version__ = '11.4.1'\n")
    environ = {"SHIV_ROOT": str(tmp_path / "root"), "PYTHONPATH": str(tmp_path)}
    done = run([prober, "import pynvml; print(hasattr(pynvml, '_nvmlGetFunctionPointer'))"], environ, cwd=tmp_path)
    assert done.stdout == "True\n"


def test_what_the_user_set_reaches_our_children(prober: Path, tmp_path: Path) -> None:
    """PYTHONPATH is ignored by us, not taken away from a program that we start for the user."""
    environ = {"SHIV_ROOT": str(tmp_path / "root"), "PYTHONPATH": "/somewhere"}
    assert run([prober, "import os; print(os.environ['PYTHONPATH'])"], environ).stdout == "/somewhere\n"


# Many at once, and what stays behind


def test_twelve_first_starts_at_once(pyz: Path, tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "SHIV_ROOT": str(tmp_path / "root")}
    starts = [
        subprocess.Popen([sys.executable, pyz, "--help"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(12)
    ]
    results = [(*start.communicate(timeout=100), start.returncode) for start in starts]
    assert {(error, code) for _, error, code in results} == {(b"", 0)}
    assert len({output for output, _, _ in results}) == 1
    (folder,) = unpacked_in(tmp_path / "root")
    with zipfile.ZipFile(pyz) as archive:
        for entry in archive.infolist():
            assert (tmp_path / "root" / folder / entry.filename).stat().st_size == entry.file_size


def test_a_killed_first_start_harms_nobody(pyz: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    environ = {"PATH": os.environ["PATH"], "SHIV_ROOT": str(root)}
    start = subprocess.Popen([sys.executable, pyz, "--help"], env=environ, stdout=subprocess.DEVNULL)
    wait_for(lambda: root.exists() and any(path.is_dir() for path in root.iterdir()))
    start.kill()
    start.wait()
    for path in root.iterdir():
        os.utime(path, (0, 0))  # long ago
    assert run([sys.executable, pyz, "--help"], environ).returncode == 0
    assert run([sys.executable, pyz, "--help"], environ).returncode == 0
    assert [path.name for path in root.iterdir() if path.is_dir()] == unpacked_in(root)
    assert len(unpacked_in(root)) == 1


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    """Return when the condition holds, fail after some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def start_holding(pyz: Path, environ: dict[str, str]) -> subprocess.Popen[str]:
    """Start a prober that runs until its input is closed; it has unpacked and begun when this returns."""
    code = "import sys; print('up', flush=True); sys.stdin.read(); import tabulate; print('still here')"
    command = [sys.executable, str(pyz), code]
    process = subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def test_older_versions_are_deleted_but_not_under_a_running_process(pyz: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    environ = {"PATH": os.environ["PATH"], "SHIV_ROOT": str(root)}
    builds = [f"{number:016x}" for number in range(5)]
    files = [probe(pyz, tmp_path / f"{build}.pyz", build) for build in builds]
    running = start_holding(files[0], environ)
    try:
        for number, file in enumerate(files[1:4], 1):
            assert run([sys.executable, file, "print('ok')"], environ).stdout == "ok\n"
            mark = root / f"gpuwatch-0.1.0-{builds[number]}" / ".gpuwatch-unpacked"
            os.utime(mark, (number * 1000, number * 1000))
        stranger = root / "another-program_0123"
        stranger.mkdir()
        assert run([sys.executable, files[4], "print('ok')"], environ).stdout == "ok\n"
        kept = [name[-1] for name in unpacked_in(root)]
        assert kept == ["0", "4"], "the running one is also the one started last before"
        assert stranger.exists()
        output, _ = running.communicate(timeout=60)
        assert output == "still here\n"
    finally:
        running.kill()
        running.wait()
    for number in (1, 2):
        assert run([sys.executable, files[number], "print('ok')"], environ).stdout == "ok\n"
    assert [name[-1] for name in unpacked_in(root)] == ["1", "2"]


def test_after_a_reboot_lost_files_come_back_once(pyz: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    environ = {"SHIV_ROOT": str(root)}
    assert run([pyz, "--help"], environ).returncode == 0
    folder = root / unpacked_in(root)[0]
    mark = folder / ".gpuwatch-unpacked"
    victim = folder / "site-packages" / "gpuwatch" / "boot.py"
    whole = victim.read_bytes()
    mark.write_text("another boot")
    victim.write_bytes(b"")
    (folder / "site-packages" / "click" / "core.py").unlink()
    assert run([pyz, "--help"], environ).returncode == 0
    assert victim.read_bytes() == whole
    assert mark.read_text() == "kept over a reboot"


@pytest.mark.parametrize("code", ["raise KeyboardInterrupt", "exec('raise KeyboardInterrupt')"], ids=["anywhere", "while a dataclass is made"])
@pytest.mark.parametrize("module", ["pyz_start/launch.py", "pyz_start/unpack.py", "gpuwatch/boot.py", "click/__init__.py", "gpuwatch/cli/status.py"])
def test_ctrl_c_while_it_starts_says_nothing(pyz: Path, tmp_path: Path, module: str, code: str) -> None:
    stopped = probe(pyz, tmp_path / "stopped.pyz", code=code, module=module)
    done = run([sys.executable, stopped, "status", "127.0.0.1:1"], {"SHIV_ROOT": str(tmp_path / "root")})
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")


def test_a_damaged_file_is_one_line(pyz: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "gpuwatch.pyz"
    content = bytearray(pyz.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = b"\0" * 2000
    damaged.write_bytes(content)
    done = run([sys.executable, damaged, "--help"], {"SHIV_ROOT": str(tmp_path / "root")})
    assert done.returncode == 1
    assert re.fullmatch(r"gpuwatch: \S+ is damaged \(.*\): copy it here again\..*\n", done.stderr)


# Children, output, completion


@pytest.mark.parametrize("gone", ["nothing", "deleted", "replaced"])
def test_self_argv_starts_the_same_program_again(pyz: Path, prober: Path, tmp_path: Path, gone: str) -> None:
    file, newer = tmp_path / "gpuwatch.pyz", tmp_path / "newer"
    shutil.copy(prober, file)
    shutil.copy(pyz, newer)
    loss = {"nothing": "", "deleted": f"os.unlink({str(file)!r})", "replaced": f"os.replace({str(newer)!r}, {str(file)!r})"}
    child = "import sys; from gpuwatch.boot import self_argv; print(sys.argv[2:] == self_argv(), sys.flags.isolated)"
    parent = f"""
import os, subprocess
from gpuwatch.boot import self_argv
os.chdir("/")
{loss[gone]}
print(subprocess.run([*self_argv(), {child!r}, *self_argv()], capture_output=True, text=True))
"""
    done = run([sys.executable, "gpuwatch.pyz", parent], {"SHIV_ROOT": str(tmp_path / "root")}, cwd=tmp_path)
    assert "returncode=0" in done.stdout, done.stdout + done.stderr
    assert "True 1" in done.stdout


def test_self_argv_from_source(tmp_path: Path) -> None:
    source = Path(__file__).resolve().parents[2] / "src"
    code = "from gpuwatch.boot import self_argv; print('\\n'.join(self_argv()))"
    argv = run([sys.executable, "-c", code], {"PYTHONPATH": str(source)}).stdout.splitlines()
    assert run([*argv, "--version"], {}, cwd=tmp_path).stdout.startswith("gpuwatch ")
    assert "Usage: gpuwatch" in run([*argv, "--help"], {}, cwd=source / "gpuwatch").stdout


@pytest.mark.parametrize(
    "locale",
    [
        {"LANG": "C"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "utf-8:strict"},
    ],
)
def test_output_never_fails(prober: Path, tmp_path: Path, locale: dict[str, str]) -> None:
    code = r"import sys; print('n\xe4me \u4e2d \udc80'); print('\u2502', file=sys.stderr)"
    done = run([prober, code], {"SHIV_ROOT": str(tmp_path), **locale}, text=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"n")
    assert b"\\udc80" in done.stdout
    assert done.stderr.count(b"\n") == 1


def complete(pyz: Path, shell: Optional[str], words: str, tmp_path: Path) -> str:
    """What the program named gpuwatch answers a shell."""
    program = tmp_path / "gpuwatch"
    if not program.exists():
        shutil.copy(pyz, program)
    environ = {"SHIV_ROOT": str(tmp_path / "root"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    if shell:
        return run(["gpuwatch"], {**environ, "_GPUWATCH_COMPLETE": f"{shell}_source"}, executable=program).stdout
    environ.update(_GPUWATCH_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1))
    return run(["gpuwatch"], environ, executable=program).stdout


def test_shell_completion(pyz: Path, tmp_path: Path) -> None:
    source = complete(pyz, "bash", "", tmp_path)
    assert "complete -o nosort -F _gpuwatch_completion gpuwatch" in source
    environ = {"SHIV_ROOT": str(tmp_path / "root")}
    for shell in ("bash", "zsh", "fish"):
        done = run([pyz, "completion", shell], environ)
        assert done.stdout == complete(pyz, shell, "", tmp_path)
    assert "plain,completion" in complete(pyz, None, "gpuwatch comp", tmp_path)
    assert "plain,fish" in complete(pyz, None, "gpuwatch completion f", tmp_path)
