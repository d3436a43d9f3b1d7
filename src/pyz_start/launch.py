"""Each start of gpuwatch.pyz: find the unpacked folder (or have it made), hold it, hand over to gpuwatch.boot.

Why not the start-up code that shiv puts into the archive: it unpacks below HOME without asking whose folder that is,
ends with a traceback where HOME cannot be written, lets PYTHONPATH win over what is inside, never deletes an old
version, and costs some 80 ms of imports at each start. shiv builds the file; this starts it.

Whatever another user could have put there is never run: a folder counts only if it, and every folder above it, belongs
to us or to root and cannot be written by anybody else (a sticky folder like /tmp excepted, where names cannot be
taken away). This module must never import more than Python has loaded already: every start waits for it.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys

MARK = ".gpuwatch-unpacked"  # written last; a running process holds a shared lock on it, so that nobody deletes its code
KEPT_OVER_REBOOT = "kept over a reboot"  # in the mark: this folder needs no second look
OVERFLOW_UID = "/proc/sys/kernel/overflowuid"
KEPT = 2  # unpacked versions that stay: this one and the one before
TRIES = 5  # to hold what was unpacked


class StartError(Exception):
    """Gpuwatch cannot start here; the text says why and what to do."""


def launch(place: str, name: str) -> None:
    """Start the program at `place` (the archive, or its unpacked folder), whose unpacked folder is called `name`."""
    try:
        folder = place
        if os.path.isdir(place):
            archive = None
            hold(place)
        else:
            archive = place
            folder = unpacked(place, name)
    except StartError as error:
        sys.exit(f"gpuwatch: {error}")
    site_packages = os.path.join(folder, "site-packages")
    foreign = foreign_entries()
    sys.path[:] = [site_packages] + [entry for entry in sys.path[1:] if entry not in foreign]
    sys.dont_write_bytecode = False  # it spares a user's folders; ours is a cache, and without it each start compiles
    from gpuwatch import boot

    boot.main(unpacked=folder, archive=archive)


def foreign_entries() -> set[str]:
    """What PYTHONPATH put on sys.path, where no isolated interpreter could be started instead."""
    if sys.flags.isolated:
        return set()
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {"", "."} | set(entries) | {os.path.abspath(entry) for entry in entries}


def unpacked(archive: str, name: str) -> str:
    """The folder that `archive` is unpacked to, held against deletion. Raises StartError with every place tried."""
    reasons = []
    for root in roots():
        try:
            root = private_folder(root)
            folder = held(archive, root, name)
            clean_if_needed(root, name)
            return folder
        except OSError as error:
            reasons.append(f"{root}: {error.strerror or error}")
        except StartError as error:
            reasons.append(str(error))
    raise StartError("; ".join(reasons) + ". Set SHIV_ROOT to a folder that only you can write")


def held(archive: str, root: str, name: str) -> str:
    """The folder in `root`, whole and held. Starts of other versions may delete it until it is held: then it is unpacked again."""
    folder = os.path.join(root, name)
    for _ in range(TRIES):
        try:
            check_own(folder)
        except FileNotFoundError:
            pass
        mark = hold(folder)
        if mark is None:
            unpack_now(archive, folder)
            if hold(folder) is not None:
                return folder
        else:
            if not is_whole(mark, root):
                try:
                    unpack_now(archive, folder)
                except OSError:
                    pass  # read-only: used as it is
            return folder
    raise StartError(f"{folder} vanished while starting: start again")


def unpack_now(archive: str, folder: str) -> None:
    """Load the code that unpacks, which most starts do not need, and run it."""
    from pyz_start.unpack import unpack

    unpack(archive, folder)


def roots() -> list[str]:
    """Where to unpack, best first. A SHIV_ROOT is an order: nothing else is tried."""
    environ = os.environ
    if environ.get("SHIV_ROOT"):
        return [os.path.abspath(os.path.expanduser(environ["SHIV_ROOT"]))]
    found = []
    if environ.get("CACHE_DIRECTORY"):  # set by systemd's CacheDirectory=
        found.append(environ["CACHE_DIRECTORY"].split(":")[0])
    caches = environ.get("XDG_CACHE_HOME", "")
    home = os.path.expanduser("~") if environ.get("HOME") != "" else ""
    if os.path.isabs(caches):
        found.append(os.path.join(caches, "gpuwatch"))
    elif os.path.isabs(home) and os.path.isdir(home):
        found.append(os.path.join(home, ".cache", "gpuwatch"))
    if os.path.isabs(environ.get("XDG_RUNTIME_DIR", "")):
        found.append(os.path.join(environ["XDG_RUNTIME_DIR"], "gpuwatch"))
    for temporary in (environ.get("TMPDIR", ""), "/tmp", "/var/tmp", "/dev/shm"):
        if os.path.isabs(temporary) and os.path.isdir(temporary):
            found.append(os.path.join(temporary, temporary_name()))
    return found


def private_folder(path: str) -> str:
    """Make `path` (0700) where missing and return its real path, or raise StartError if others could change it."""
    path = os.path.realpath(path)
    missing = []
    head = path
    while not os.path.lexists(head):
        missing.append(head)
        head = os.path.dirname(head)
    if missing:
        check_above(head)  # first: root with a user's HOME leaves nothing there
    for folder in reversed(missing):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass  # another start was faster; the checks below judge what it made
    check_above(os.path.dirname(path))
    check_own(path)
    return path


def check_own(folder: str) -> None:
    """Raise StartError unless `folder` is a folder of this user that nobody else can write."""
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode):
        raise StartError(f"{folder} is not a folder")
    if status.st_uid != os.geteuid():
        raise StartError(f"{folder} belongs to another user (uid {status.st_uid})")
    if status.st_mode & 0o022:
        raise StartError(f"{folder} can be written by others (chmod go-w {folder})")


def check_above(folder: str) -> None:
    """Raise StartError if somebody but us and root could rename or replace what lies below `folder` (a real path)."""
    while True:
        status = os.lstat(folder)
        if not stat.S_ISDIR(status.st_mode):
            raise StartError(f"{folder} is not a folder")
        if status.st_uid not in (0, os.geteuid()) and not is_unmapped(status.st_uid):
            raise StartError(f"{folder} belongs to another user (uid {status.st_uid})")
        if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
            raise StartError(f"{folder} can be written by others")
        if folder == "/":
            return
        folder = os.path.dirname(folder)


def is_unmapped(uid: int) -> bool:
    """Whether `uid` stands for the machine's root: in a container that root has no number in, its files are nobody's."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as uid_map, open(OVERFLOW_UID, encoding="ascii") as overflow:
            has_root = any(line.split()[1] == "0" for line in uid_map)  # inside, outside, how many
            return not has_root and uid == int(overflow.read())
    except (OSError, ValueError, IndexError):
        return False


def hold(folder: str) -> str | None:
    """Take a shared lock on `folder` for the life of this process and return what its mark says.

    None if the folder is not wholly unpacked (any more).
    """
    mark = os.path.join(folder, MARK)
    try:
        descriptor = os.open(mark, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits only for a deletion under way
    except OSError:
        pass  # a file system without locks: there nothing is ever deleted either
    try:
        alive = os.path.samestat(os.fstat(descriptor), os.stat(mark))
    except FileNotFoundError:
        alive = False
    if not alive:
        os.close(descriptor)
        return None
    try:
        os.utime(descriptor)  # "newest" means last started
    except OSError:
        pass
    return os.read(descriptor, 100).decode()  # the descriptor stays open until this process ends


def is_whole(mark: str, root: str) -> bool:
    """Whether no file of a folder can be missing or cut short, by its mark.

    Right after unpacking the files are not on disk yet, and a power failure leaves empty ones. So the first start after
    a reboot looks at each file, once; the mark tells the boots apart. Where a system deletes what nobody read for days
    (a temporary folder), each start looks.
    """
    return mark in (KEPT_OVER_REBOOT, boot_id()) and os.path.basename(root) != temporary_name()


def boot_id() -> str:
    """The kernel's name for the time since it was started; empty where it tells none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def temporary_name() -> str:
    """What our folder is called in a temporary folder, which all users share."""
    return f"gpuwatch-{os.geteuid()}"


def clean_if_needed(root: str, name: str) -> None:
    """Delete what older versions and broken starts left in `root`; look first, since usually there is nothing."""
    ours = [entry for entry in os.listdir(root) if entry.lstrip(".").startswith("gpuwatch-")]
    if len(ours) > KEPT or any(entry.startswith(".") for entry in ours):
        from pyz_start.unpack import clean

        clean(root, name)
