"""Mounted file systems and how full they are. Never asks a network file system for its size: a dead server would block the sampler for ever."""

from __future__ import annotations

import os
import re
from typing import Dict, List, Tuple

from gpuwatch.collect.files import KeptFile, under
from gpuwatch.model.snapshot import DiskReading

_LOCAL = frozenset(["ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "bcachefs", "vfat", "exfat", "ntfs", "ntfs3", "fuseblk", "nilfs2"])
_REMOTE = frozenset(["nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "lustre", "beegfs", "beegfs_nodev", "gpfs", "glusterfs", "orangefs", "pvfs2", "afs", "9p", "wekafs"])
_REMOTE_FUSE = re.compile(r"fuse\.(sshfs|glusterfs|ceph|s3fs|gcsfuse|juicefs|mount\.s3|rclone|cephfs|seaweedfs)")
_MOST = 64

REMOTE_REASON = "sizes of network file systems are not asked for: a dead server would block the node"


class Disks:
    """The file systems of the host. The list of mounts is taken apart only when it changes."""

    def __init__(self, root: str) -> None:
        self._root = root
        # Below another root than / the mounts are those of that machine's first process.
        self._mounts = KeptFile(under(root, "proc/1/mounts" if root.rstrip("/") else "proc/self/mounts"))
        self._chosen: List[Tuple[str, str, str]] = []

    def read(self) -> Tuple[Tuple[DiskReading, ...], bool]:
        """(file systems by mount, whether some are on the network and so without sizes)."""
        if self._mounts.has_changed():
            self._chosen = choose(self._mounts.read().decode("utf-8", "replace"))
        disks = tuple(self._disk(device, mount, kind) for device, mount, kind in self._chosen)
        return disks, any(is_remote(kind) for _, _, kind in self._chosen)

    def close(self) -> None:
        """Close what is kept open."""
        self._mounts.close()

    def _disk(self, device: str, mount: str, kind: str) -> DiskReading:
        if is_remote(kind):
            return DiskReading(mount, device, kind)
        try:
            sizes = os.statvfs(under(self._root, mount.lstrip("/")) if self._root.rstrip("/") else mount)
        except OSError:
            return DiskReading(mount, device, kind)
        total, free = sizes.f_blocks * sizes.f_frsize, sizes.f_bfree * sizes.f_frsize
        return DiskReading(mount, device, kind, total - free, total)


def choose(mounts: str) -> List[Tuple[str, str, str]]:
    """(device, mount, type) of real file systems, by mount. A device that is mounted twice counts once, at its shortest mount."""
    chosen: Dict[str, Tuple[str, str, str]] = {}
    for row in (line.split() for line in mounts.splitlines()):
        if len(row) < 3 or not (row[2] in _LOCAL or is_remote(row[2])):
            continue
        device, mount, kind = _plain(row[0]), _plain(row[1]), row[2]
        if device not in chosen or len(mount) < len(chosen[device][1]):
            chosen[device] = (device, mount, kind)
    return sorted(chosen.values(), key=lambda row: row[1])[:_MOST]


def is_remote(kind: str) -> bool:
    """Whether a type of file system lies behind a network."""
    return kind in _REMOTE or bool(_REMOTE_FUSE.fullmatch(kind))


def _plain(text: str) -> str:
    """Blanks and the like are written as octal numbers in /proc/mounts (fstab(5))."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), text)
