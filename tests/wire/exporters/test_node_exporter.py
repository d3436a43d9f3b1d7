"""node_exporter's page, recorded from Debian's 1.5.0, as readings of a machine without GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import WireError
from gpuwatch.model.snapshot import CollectorStatus
from gpuwatch.wire.exporters import node
from gpuwatch.wire.flat import Flattener, Shape

PAGE = (Path(__file__).parent / "pages" / "node_exporter.txt").read_bytes()
TARGET = Target("fs1", "10.0.0.1", 9100, "node+http")


def read(body=PAGE, now=1000.0, memory=None):
    return node.read(body, TARGET, now, memory)


def test_the_machine():
    snapshot = read().snapshot
    host = snapshot.host
    assert (snapshot.hostname, snapshot.gpus, snapshot.collectors) == ("vm", (), (CollectorStatus("node_exporter"),))
    assert (host.os, host.architecture, host.cpu_count) == ("Debian GNU/Linux 12 (bookworm)", "x86_64", 2)
    assert (host.load_1m, host.load_5m, host.load_15m) == (3.56, 1.96, 0.85)
    assert (host.memory_total_bytes, host.memory_used_bytes) == (25276510208, 25276510208 - 24196071424)
    assert (host.swap_total_bytes, host.swap_used_bytes) == (0, 0)
    assert host.boot_at == 1795980071
    assert 753 < host.uptime_seconds < 754
    assert [(disk.mount, disk.device, disk.filesystem, disk.used_bytes) for disk in host.disks] == [("/", "/dev/vda", "ext4", 270553174016 - 245154684928)]
    assert [(one.name, one.received_bytes, one.sent_bytes) for one in host.networks] == [("eth0", 261273792, 329949)]


def test_the_load_of_the_cpus_needs_two_pages():
    first = read()
    assert (first.snapshot.host.cpu_percent, first.snapshot.host.cores_percent) == (None, (None, None))
    later = PAGE.replace(b'{cpu="0",mode="idle"} 506.72', b'{cpu="0",mode="idle"} 508.72').replace(b'{cpu="0",mode="user"} 106.79', b'{cpu="0",mode="user"} 109.79')
    later = later.replace(b'{cpu="1",mode="idle"} 431.73', b'{cpu="1",mode="idle"} 436.73')
    second = read(later, 1005.0, first.memory)
    assert second.snapshot.host.cores_percent == (60.0, 0.0)
    assert second.snapshot.host.cpu_percent == 30.0
    flattener = Flattener()
    flat = flattener.flatten(first.snapshot)
    Shape.parse(flat.shape).check(flat.values)
    assert flattener.flatten(second.snapshot).shape is None
    assert read(PAGE, 1010.0, second.memory).snapshot.host.cpu_percent is None, "the machine was restarted: counters went back"


def test_what_the_kernel_makes_up_is_no_disk():
    body = b"""node_load1 1
node_filesystem_size_bytes{device="tmpfs",fstype="tmpfs",mountpoint="/run"} 100
node_filesystem_size_bytes{device="/dev/sda1",fstype="ext4",mountpoint="/var/lib/docker"} 100
node_filesystem_size_bytes{device="/dev/sda1",fstype="ext4",mountpoint="/"} 100
node_filesystem_size_bytes{device="nfs:/data",fstype="nfs4",mountpoint="/data"} 900
node_network_receive_bytes_total{device="veth1234"} 5
"""
    host = read(body).snapshot.host
    assert [(disk.mount, disk.used_bytes) for disk in host.disks] == [("/", None), ("/data", None)]
    assert host.networks == ()
    assert (host.cpu_count, host.memory_used_bytes, host.uptime_seconds, host.cores_percent) == (None, None, None, ())


def test_another_program_is_said_so():
    with pytest.raises(WireError, match="is it node_exporter"):
        read(b"DCGM_FI_DEV_GPU_TEMP 1\n")
