"""The host: figures below a root of our own, what is not there is None with a reason, slow parts at their age."""

import os
import sys

import pytest

from gpuwatch.collect import host as host_module
from gpuwatch.collect.gpu import Ages
from gpuwatch.collect.host import DriverFacts, Host
from gpuwatch.model.snapshot import DiskReading, LoginReading, NetworkReading

AGES = Ages(4.0, 10.0, 60.0, 600.0)
NOW = 1790000000.0
MEMINFO = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 400 kB\nBuffers: 10 kB\nCached: 20 kB\nSwapTotal: 50 kB\nSwapFree: 30 kB\n"
NET = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1 0 0 0 0 0 0 0 1 0 0 0 0 0 0 0
enp1s0:1234 5 0 0 0 0 0 0 5678 9 0 0 0 0 0 0
vethab12: 7 0 0 0 0 0 0 0 7 0 0 0 0 0 0 0
"""
MOUNTS = """/dev/sda1 / ext4 rw 0 0
/dev/sda1 /var/lib/docker/bind ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /mnt/my\\040data xfs rw 0 0
me@host:/x /mnt/ssh fuse.sshfs rw 0 0
"""


@pytest.fixture
def root(tmp_path):
    files = {
        "proc/meminfo": MEMINFO,
        "proc/loadavg": "0.50 1.25 2.75 3/400 1234\n",
        "proc/uptime": "12345.67 99999.0\n",
        "proc/stat": "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 50 0 50 400 0 0 0 0 0 0\ncpu1 50 0 50 400 0 0 0 0 0 0\nintr 5\nbtime 1789000000\n",
        "proc/cpuinfo": "processor : 0\nmodel name : AMD EPYC 9654\n",
        "proc/sys/kernel/osrelease": "6.1.0-test\n",
        "proc/1/net/dev": NET,
        "proc/1/mounts": MOUNTS,
        "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "run/systemd/sessions/3": "UID=1001\nUSER=ali\nTTY=pts/0\nREMOTE_HOST=10.0.0.9\nCLASS=user\nREALTIME=1790000000500000\n",
        "run/systemd/sessions/4": "UID=0\nUSER=root\nCLASS=greeter\nREALTIME=1\n",
        "run/systemd/sessions/3.ref": "",
        "mnt/my data/x": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def read(host, now=NOW):
    return host.read(now, DriverFacts("550.90", "550.90", "12.4"))


def test_figures(root):
    host = Host(str(root), AGES)
    first = read(host)
    (root / "proc/stat").write_text(
        "cpu  150 0 150 900 0 0 0 0 0 0\ncpu0 100 0 100 400 0 0 0 0 0 0\ncpu1 50 0 50 400 100 0 0 0 0 0\nbtime 1789000000\n"
    )
    second = read(host, NOW + 8)
    assert first.cpu_percent is None
    assert "two samples" in first.missing["cpu_percent"]
    assert second.cpu_percent == 50.0
    assert second.cores_percent == (100.0, 0.0)  # waiting for a disk is not busy
    assert "cpu_percent" not in second.missing
    assert (second.memory_total_bytes, second.memory_used_bytes) == (1000 * 1024, 600 * 1024)
    assert (second.swap_total_bytes, second.swap_used_bytes) == (50 * 1024, 20 * 1024)
    assert (second.load_1m, second.load_5m, second.load_15m, second.uptime_seconds) == (0.5, 1.25, 2.75, 12346)
    assert (second.boot_at, second.os, second.kernel) == (1789000000.0, "Debian GNU/Linux 12 (bookworm)", "6.1.0-test")
    assert (second.cpu_model, second.driver_version, second.cuda_version) == ("AMD EPYC 9654", "550.90", "12.4")
    assert second.networks == (NetworkReading("enp1s0", 1234, 5678),)
    assert second.logins == (LoginReading("ali", "pts/0", "10.0.0.9", 1790000000.5),)
    assert host.memory == (1000 * 1024, 400 * 1024)


def test_disks(root):
    disks = {disk.mount: disk for disk in read(Host(str(root), AGES)).disks}
    sizes = os.statvfs(root)
    assert list(disks) == ["/", "/home", "/mnt/my data", "/mnt/ssh"]
    assert disks["/"].total_bytes == sizes.f_blocks * sizes.f_frsize
    assert 0 < disks["/mnt/my data"].used_bytes < disks["/"].total_bytes
    assert disks["/home"] == DiskReading("/home", "server:/home", "nfs4")  # no size: never asked for


def test_a_dead_network_file_system_is_named_in_missing(root):
    assert "dead server" in read(Host(str(root), AGES)).missing["disks"]


def test_kernels_without_memavailable(root):
    (root / "proc/meminfo").write_text(MEMINFO.replace("MemAvailable: 400 kB\n", ""))
    assert read(Host(str(root), AGES)).memory_used_bytes == 870 * 1024


def test_the_status_group_is_read_at_its_age(root):
    host = Host(str(root), AGES)
    read(host)
    (root / "proc/1/net/dev").write_text(NET.replace("1234", "9999"))
    ages = []
    for step in range(1, 6):
        found = read(host, NOW + 4 * step)
        ages.append(found.live_read_at - found.status_read_at)
        if step >= 2:
            assert found.networks[0].received_bytes == 9999
    assert max(ages) <= 10


def test_every_change_is_seen_within_its_groups_age(root):
    """One file of each part is rewritten; ``AGES`` are the settings' defaults. (That mounts change, the kernel alone tells: poll(2) of its own file.)"""
    changes = [
        ("proc/meminfo", MEMINFO.replace("1000 kB", "2000 kB").replace("50 kB", "60 kB"), 0, "memory_total_bytes", 2000 * 1024),
        ("", "", 0, "memory_used_bytes", 1600 * 1024),
        ("", "", 0, "swap_total_bytes", 60 * 1024),
        ("", "", 0, "swap_used_bytes", 30 * 1024),
        ("proc/loadavg", "9.50 8.25 7.75 3/400 1234\n", 0, "load_1m", 9.5),
        ("", "", 0, "load_5m", 8.25),
        ("", "", 0, "load_15m", 7.75),
        ("proc/uptime", "99.0 1.0\n", 0, "uptime_seconds", 99),
        ("proc/stat", "cpu  200 0 200 800 0 0 0 0 0 0\ncpu0 50 0 50 400 0 0 0 0 0 0\nintr 5\nbtime 1780000000\n", 0, "cpu_percent", 100.0),
        ("", "", 600, "boot_at", 1780000000.0),
        ("proc/1/net/dev", NET.replace("1234", "9999"), 10, "networks", (NetworkReading("enp1s0", 9999, 5678),)),
        ("run/systemd/sessions/9", "USER=bo\nCLASS=user\n", 10, "logins", (LoginReading("ali", "pts/0", "10.0.0.9", NOW + 0.5), LoginReading("bo"))),
        ("etc/os-release", 'PRETTY_NAME="Another"\n', 600, "os", "Another"),
        ("proc/cpuinfo", "model name : Another\n", 600, "cpu_model", "Another"),
        ("proc/sys/kernel/osrelease", "6.2.0-test\n", 600, "kernel", "6.2.0-test"),
    ]  # fmt: skip
    host = Host(str(root), AGES)
    read(host)
    read(host, NOW + 4)
    for name, text, *_ in changes:
        if name:
            (root / name).write_text(text)
    os.utime(root / "run/systemd/sessions", (1, 1))  # in case the clock of the file system did not move
    seen = {}
    for step in range(2, 155):
        found = read(host, NOW + 4 * step)
        assert found.live_read_at - found.status_read_at <= 10
        assert found.live_read_at - found.identity_read_at <= 600
        for _, _, age, name, value in changes:
            if getattr(found, name) == value:
                seen.setdefault(name, (found.live_read_at - NOW - 4, age))
    assert set(seen) == {name for *_, name, _ in changes}
    assert {name: after for name, (after, age) in seen.items() if after > max(age, 4)} == {}


def test_a_disk_that_fills_is_seen_within_the_status_groups_age(root, monkeypatch):
    """The kernel's answer is changed, not the disk: other programs fill and empty that meanwhile."""
    real, filled = os.statvfs, 0

    def statvfs(path):
        sizes = list(real(root))
        sizes[3] = 1_000_000 - filled  # f_bfree
        return os.statvfs_result(sizes)

    monkeypatch.setattr(os, "statvfs", statvfs)
    host = Host(str(root), AGES)
    before = read(host).disks[0].used_bytes
    filled = 250_000
    found = {at: read(host, NOW + at).disks[0].used_bytes for at in (4, 8)}
    assert found[8] - before == 250_000 * real(root).f_frsize


def test_what_cannot_be_read_is_none_with_its_reason(tmp_path):
    found = read(Host(str(tmp_path), AGES))
    for name in ("memory_used_bytes", "memory_total_bytes", "load_1m", "uptime_seconds", "cpu_percent", "os", "cpu_model"):
        assert getattr(found, name) is None
        assert "cannot be read" in found.missing[name] or "not in" in found.missing[name]
    assert found.disks == found.networks == found.logins == ()
    assert set(found.missing) >= {"networks", "logins", "ips"}


def test_without_psutil_the_rest_goes_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert host_module._psutil() is None
    found = read(Host("/", AGES))
    assert found.memory_total_bytes > 0
    assert found.disks
    assert found.missing["ips"] == "psutil cannot be imported here"


def test_this_machine():
    found = read(Host("/", AGES))
    assert found.cpu_count == os.cpu_count()
    assert found.memory_used_bytes < found.memory_total_bytes
    assert all(len(pair) == 2 for pair in found.ips)
    assert "127.0.0.1" not in dict(found.ips).values()
