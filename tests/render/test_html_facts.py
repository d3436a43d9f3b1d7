"""Each field of a reading is told where people look at one GPU or host: on its page, and in the page's twin in text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable

from tests.render import samples

from gpuwatch.model.cluster import ClusterNow, GpuState, GpuView
from gpuwatch.model.fields import describe
from gpuwatch.model.snapshot import (
    ContainerRef,
    DiskReading,
    GpuReading,
    HostReading,
    LoginReading,
    MigReading,
    NetworkReading,
    ProcessReading,
)
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import as_ascii
from gpuwatch.render.as_html import gpu_page, host_page

LAB = samples.lab()


def other(value: Any) -> Any:
    """Another value of the same kind, far enough from it that every rounding shows it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + (7 * 2**30 if value > 1e9 else 1e5 if value > 1e5 else 60)
    return f"{value}X" if isinstance(value, str) else value


def full(kind: type, **more: Any) -> Any:
    """A reading with every number and text set."""
    numbers = {name: 40.0 for name, of, *_ in describe(kind) if of in ("gauge", "counter")}
    sizes = {name: 40.0 * 2**30 for name in numbers if "_bytes" in name}
    times = {name: LAB.taken_at - 100.0 for name in numbers if name.endswith("_at")}
    return replace(kind(), **{**numbers, **sizes, **times, **more})


FULL_GPU = full(
    GpuReading, uuid="GPU-1", index=1, name="NVIDIA A100", minor_number=3, pci_bus_id="0000:01:00.0", serial="77", vbios_version="9.1",
    cuda_capability="9.0", ecc_enabled=True, ecc_pending=True, mig_pending=False, remapped_rows_pending=False, remapped_rows_failure=False, mig_enabled=False, compute_mode="default",
    persistence_enabled=True, utilization_percent=30.0, performance_state=2, nvlink_active=3, nvlink_total=4, throttle_mask=0.0, energy_joules=2e9,
)  # fmt: skip
FULL_HOST = full(
    HostReading, os="Debian", kernel="6.1", architecture="x86_64", cpu_model="EPYC", cpu_count=2, boot_at=LAB.taken_at - 1e6, driver_version="550",
    library_version="551", cuda_version="12", uptime_seconds=1e6,
)  # fmt: skip
FULL_PROCESS = full(ProcessReading, pid=7, started_at=LAB.taken_at - 1e4, user="lisa", name="train", command="train.py", job="88", gpu_memory_bytes=2**33)


def alone(reading: GpuReading, host: HostReading = FULL_HOST) -> ClusterNow:
    """A cluster of one node with one GPU."""
    node = next(node for node in LAB.nodes if node.name == "dgx-a")
    view = GpuView("dgx-a", reading, GpuState("lost" if reading.error else "busy", LAB.taken_at - 60), (GpuState("busy", None),) * len(reading.mig))
    snapshot = replace(node.snapshot, host=host, gpus=(reading,))
    return replace(LAB, nodes=(replace(node, snapshot=snapshot, gpus=(view,)),))


def of_gpu(reading: GpuReading) -> tuple[str, str]:
    """The page of the GPU and its twin in text."""
    cluster = alone(reading)
    node = cluster.nodes[0]
    return gpu_page(cluster, reading.uuid, ViewOptions()), as_ascii.gpu_detail(cluster, node, node.gpus[0], ViewOptions(width=200))


def of_host(host: HostReading) -> tuple[str, str]:
    cluster = alone(FULL_GPU, host)
    return host_page(cluster, "dgx-a", ViewOptions()), as_ascii.host_detail(cluster, cluster.nodes[0], ViewOptions(width=200))


def untold(reading: Any, page: Callable[[Any], tuple[str, str]], changes: dict[str, Any]) -> dict[str, tuple[bool, bool]]:
    """Fields whose change is not seen on the page or in its twin in text."""
    before, found = page(reading), {}
    for name, value in changes.items():
        assert value != getattr(reading, name), name
        html, text = page(replace(reading, **{name: value}))
        if html == before[0] or text == before[1]:
            found[name] = (html != before[0], text != before[1])
    return found


def test_every_field_of_a_gpu_is_on_its_page_and_in_its_text():
    changes = {name: other(getattr(FULL_GPU, name)) for name, of, *_ in describe(GpuReading) if of != "nested"}
    more = {
        "error": "lost", "missing": {"fan_percent": "not supported"}, "remapped_rows_pending": True, "remapped_rows_failure": True, "throttle_mask": 64.0, "numa_node": 3,
        "mig": (MigReading("MIG-1", 0, "3g.40gb"),), "processes": (FULL_PROCESS,),
    }  # fmt: skip
    changes.update(more)
    del changes["error_since_at"]  # the state's since is what is shown of it
    found = untold(replace(FULL_GPU, fan_percent=None), of_gpu, {**changes, "fan_percent": 50.0})
    assert found == {}


def test_every_field_of_a_process_is_on_the_page_of_its_gpu():
    def page(process):
        return of_gpu(replace(FULL_GPU, processes=(process,), mig=(MigReading("MIG-1", 5, "3g.40gb", gpu_instance=2),)))

    changes = {name: other(getattr(FULL_PROCESS, name)) for name, *_ in describe(ProcessReading)}
    changes.update(kind="G", container=ContainerRef("docker", "abc"), gpu_instance=2)
    for name in ("name", "compute_instance"):  # the command stands for the name; CUDA's number in a slice is in JSON
        del changes[name]
    assert untold(FULL_PROCESS, page, changes) == {}


def test_every_field_of_a_host_is_on_its_page_and_in_its_text():
    changes = {name: other(getattr(FULL_HOST, name)) for name, of, *_ in describe(HostReading) if of != "nested" and not name.endswith("_read_at")}
    changes.update(
        ips=(("eth0", "10.0.0.1"),), missing={}, cores_percent=(10.0, 90.0), disks=(DiskReading("/", "/dev/sda", "ext4", 2**33, 2**34),),
        networks=(NetworkReading("eth0", 2**33, 2**34),), logins=(LoginReading("lisa"),),
    )  # fmt: skip
    del changes["missing"]
    with_network = replace(FULL_HOST, networks=(NetworkReading("eth0", 2**30, 2**30),))
    assert untold(with_network, of_host, changes) == {}


def test_a_mode_that_waits_for_a_reset_says_so():
    html, _ = of_gpu(replace(FULL_GPU, mig_enabled=False, mig_pending=True, ecc_enabled=True, ecc_pending=False))
    assert "<small>on after the next reset</small>" in html
    assert "<small>off after the next reset</small>" in html
    assert "after the next reset" not in of_gpu(FULL_GPU)[0]


def test_long_reasons_go_on_in_further_lines_and_cut_no_label():
    why = "no permission: the driver keeps this to root, and so this is a reason that does not fit into one line of a terminal"
    cluster = alone(replace(FULL_GPU, fan_percent=None, missing={"fan_percent": why}))
    for columns in (60, 80, 200):
        lines = as_ascii.gpu_detail(cluster, cluster.nodes[0], cluster.nodes[0].gpus[0], ViewOptions(width=columns)).splitlines()
        assert max(map(len, lines)) <= columns
        told = lines[next(place for place, line in enumerate(lines) if line.startswith("fan ")) :]
        said = " ".join(line.strip() for line in told[: next(place for place, line in enumerate(told) if line.startswith("pcie"))])
        assert why in " ".join(said.split())
        assert "remapped rows uncorrected  40" in "\n".join(lines)


def test_memory_that_no_process_holds_is_told_where_it_is_much_and_can_be_told():
    def told(used_gib, *held_gib, **more):
        processes = tuple(replace(FULL_PROCESS, pid=place, gpu_memory_bytes=None if one is None else one * 2**30) for place, one in enumerate(held_gib))
        html, text = of_gpu(replace(FULL_GPU, memory_used_bytes=used_gib * 2**30, processes=processes, **more))
        assert ("Nobody&#x27;s memory" in html) == ("nobody's memory" in text)
        return "nobody's memory" in text

    assert told(10.0, 4.0, 2.0)
    assert told(10.0)
    assert not told(10.0, 9.0, 0.7)
    assert not told(10.0, 4.0, None), "one does not tell what it holds"
    assert not told(10.0, missing={"processes": "not supported"})
    assert not told(10.0, unified_memory=True)
    assert not told(10.0, numa_node=1), "pages stay after programs end"
    assert not told(0.2)
