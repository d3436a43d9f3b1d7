"""Mounted file systems and how full they are. Never asks a network file system for its size: a dead server would block the sampler for ever."""

from __future__ import annotations

import os
import re
from typing import Dict, List, Tuple

from gpuwatch.collect.files import read_text, under
from gpuwatch.model.snapshot import DiskReading

_LOCAL = frozenset(["ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "bcachefs", "vfat", "exfat", "ntfs", "ntfs3", "fuseblk", "nilfs2"])
_REMOTE = frozenset(["nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "lustre", "beegfs", "beegfs_nodev", "gpfs", "glusterfs", "orangefs", "pvfs2", "afs", "9p", "wekafs"])
_REMOTE_FUSE = re.compile(r"fuse\.(sshfs|glusterfs|ceph|s3fs|gcsfuse|juicefs|mount\.s3|rclone|cephfs|seaweedfs)")
_MOST = 64

REMOTE_REASON = "sizes of network file systems are not asked for: a dead server would block the node"


def read_disks(root: str) -> Tuple[Tuple[DiskReading, ...], bool]:
    """(file systems by mount, whether some are on the network and so without sizes). A device mounted twice counts once, at its shortest mount."""
    chosen: Dict[str, Tuple[str, str]] = {}
    for device, mount, kind in mounts(root):
        if not (kind in _LOCAL or is_remote(kind)):
            continue
        if device not in chosen or len(mount) < len(chosen[device][0]):
            chosen[device] = (mount, kind)
    disks = [_disk(root, device, mount, kind) for device, (mount, kind) in chosen.items()]
    disks.sort(key=lambda disk: disk.mount)
    return tuple(disks[:_MOST]), any(is_remote(disk.filesystem or "") for disk in disks)


def mounts(root: str) -> List[Tuple[str, str, str]]:
    """(device, mount, type) of the host; below another root than / those of its first process."""
    name = "proc/1/mounts" if root.rstrip("/") else "proc/self/mounts"
    rows = [line.split() for line in (read_text(under(root, name), 1 << 20) or "").splitlines()]
    return [(_plain(row[0]), _plain(row[1]), row[2]) for row in rows if len(row) >= 3]


def is_remote(kind: str) -> bool:
    """Whether a type of file system lies behind a network."""
    return kind in _REMOTE or bool(_REMOTE_FUSE.fullmatch(kind))


def _plain(text: str) -> str:
    """Blanks and the like are written as octal numbers in /proc/mounts (fstab(5))."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), text)


def _disk(root: str, device: str, mount: str, kind: str) -> DiskReading:
    if is_remote(kind):
        return DiskReading(mount, device, kind)
    try:
        sizes = os.statvfs(under(root, mount.lstrip("/")) if root.rstrip("/") else mount)
    except OSError:
        return DiskReading(mount, device, kind)
    total, free = sizes.f_blocks * sizes.f_frsize, sizes.f_bfree * sizes.f_frsize
    return DiskReading(mount, device, kind, total - free, total)
