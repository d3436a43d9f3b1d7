"""Sample clusters for tests and pictures: every state that a page or table must show, hostile names, and a large one. No randomness.

``lab()`` has every state; ``hostile()`` has names that try to break out; ``large(1000)`` is for the grid; ``empty()`` has no hosts.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Any

from gpuwatch.model.cluster import ClusterNow, GpuState, GpuView, NodeState, Target
from gpuwatch.model.snapshot import (
    CollectorStatus,
    ContainerRef,
    DiskReading,
    GpuReading,
    HostReading,
    LoginReading,
    MigReading,
    NetworkReading,
    ProcessReading,
    Snapshot,
    XidEvent,
)

NOW = 1795008730.0
"""Wed 18 Nov 2026, 14:32:10 in Berlin."""
GIB = 2**30
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

MODELS = {
    "A100 80GB": ("NVIDIA A100-SXM4-80GB", 81920 * 2**20, 400.0, 92.0),
    "H100 80GB": ("NVIDIA H100 80GB HBM3", 81559 * 2**20, 700.0, 87.0),
    "L40S": ("NVIDIA L40S", 46068 * 2**20, 350.0, 92.0),
    "RTX 4090": ("NVIDIA GeForce RTX 4090", 24564 * 2**20, 450.0, 90.0),
    "RTX 3090": ("NVIDIA GeForce RTX 3090", 24576 * 2**20, 350.0, 93.0),
    "GTX 1080 Ti": ("NVIDIA GeForce GTX 1080 Ti", 11264 * 2**20, 250.0, 96.0),
}
TRAIN = "/opt/conda/bin/python3 -u /home/chen.w/vit/train.py --config configs/vitdet_huge_coco_1536.yaml --resume"
LLAMA = "/usr/bin/python3 finetune_llama3_8b.py --lora-r 64 --seq-len 8192"
MAIN = "python main.py --stage 2 --resume /data/ckpt/epoch_184.pth"


def process(user: str | None, command: str | None, gib: float | None, running: float, pid: int = 4000, **more: Any) -> ProcessReading:
    """A process that has run for so many seconds and holds so many GiB."""
    name = command.split()[0].rsplit("/", 1)[-1][:15] if command else None
    memory = None if gib is None else gib * GIB
    more.setdefault("cpu_percent", 104.0)
    more.setdefault("host_memory_bytes", 18.4 * GIB)
    return ProcessReading(pid=pid, started_at=NOW - running, user=user, name=name, command=command, gpu_memory_bytes=memory, **more)


def curve(level: float, columns: int = 36, quiet_from: int = 36, gap: range = range(0)) -> tuple[float | None, ...]:
    """Utilization of the last 6 h: about ``level`` percent, nothing from a column on, no reading in ``gap``."""
    wave = (max(0.0, min(100.0, level + 6 * math.sin(column * 2.3) + 3 * math.sin(column * 0.7))) for column in range(columns))
    return tuple(
        None if column in gap else 0.0 if column >= quiet_from or level == 0 else round(value, 1) for column, value in enumerate(wave)
    )


def gpu(host: str, index: int, model: str, state: str, since: float | None = None, **more: Any) -> GpuView:
    """A GPU in a state since so many seconds.

    ``used`` GiB, ``util`` percent, ``celsius``, ``watts``, ``processes``; the rest goes to the reading."""
    name, total, limit, slow = MODELS[model]
    state_more = {key: more.pop(key) for key in ("why", "marks", "no_work_since_at", "at_least") if key in more}
    recent = more.pop("recent", ())
    mig_states = more.pop("mig_states", ())
    used = more.pop("used", 0.0)
    values: dict[str, Any] = {
        "uuid": f"GPU-{abs(hash_of(f'{host}/{index}')):032x}"[:40],
        "index": index,
        "name": name,
        "minor_number": index,
        "pci_bus_id": f"00000000:{16 + index:02X}:00.0",
        "memory_total_bytes": total,
        "memory_used_bytes": None if used is None else used * GIB,
        "utilization_percent": more.pop("util", 0.0),
        "temperature_celsius": more.pop("celsius", 34.0),
        "power_watts": more.pop("watts", 55.0),
        "power_limit_watts": limit,
        "temperature_slowdown_celsius": slow,
        "ecc_enabled": True,
        "ecc_corrected_errors": 0.0,
        "ecc_uncorrected_errors": 0.0,
        "remapped_rows_corrected": 1.0,
        "remapped_rows_uncorrected": 0.0,
        "remapped_rows_pending": False,
        "remapped_rows_failure": False,
        "pcie_generation": 4.0,
        "pcie_generation_max": 4.0,
        "pcie_width": 16.0,
        "pcie_width_max": 16.0,
        "nvlink_active": 12.0,
        "nvlink_total": 12.0,
        "persistence_enabled": True,
        "mig_enabled": False,
        "compute_mode": "default",
        "performance_state": 0.0,
        "sm_clock_mhz": 1410.0,
        "sm_clock_max_mhz": 1410.0,
        "throttle_mask": 0.0,
        "missing": {"fan_percent": "not supported"},
        "live_read_at": NOW - 2,
        "identity_read_at": NOW - 200,
    }
    values.update(more)
    since_at = None if since is None else NOW - since
    return GpuView(host, GpuReading(**values), GpuState(state, since_at, **state_more), mig_states, recent)


def hash_of(text: str) -> int:
    """A number from a text that is the same in each run."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=15).digest(), "big")


def busy(
    host: str, index: int, model: str, user: str | None, command: str, used: float, util: float | None, running: float, **more: Any
) -> GpuView:
    """A GPU on which one user runs one process."""
    more.setdefault("processes", (process(user, command, used - 0.4, running, 4000 + index),))
    more.setdefault("recent", curve(util or 0))
    return gpu(host, index, model, "busy", running, used=used, util=util, **more)


def free(host: str, index: int, model: str, since: float, **more: Any) -> GpuView:
    """A GPU that nobody uses."""
    more.setdefault("recent", curve(0))
    return gpu(host, index, model, "free", since, no_work_since_at=NOW - since, **more)


def idle(
    host: str, index: int, model: str, user: str | None, command: str | None, used: float, running: float, quiet: float, **more: Any
) -> GpuView:
    """A GPU whose memory is held without work for ``quiet`` seconds."""
    held = (process(user, command, used - 0.4, running, 4100 + index),) if user else ()
    more.setdefault("recent", curve(0))
    return gpu(host, index, model, "idle", quiet, used=used, processes=held, no_work_since_at=NOW - quiet, **more)


def machine(cpu: float | None, ram_gib: float | None, of_gib: float | None, cores: int = 128, **more: Any) -> HostReading:
    """Readings of the machine around the GPUs."""
    used, total = (None if size is None else size * GIB for size in (ram_gib, of_gib))
    values: dict[str, Any] = {
        "os": "Ubuntu 22.04.4 LTS",
        "kernel": "5.15.0-105-generic",
        "architecture": "x86_64",
        "cpu_model": "AMD EPYC 7742 64-Core Processor",
        "cpu_count": cores,
        "boot_at": NOW - 41 * DAY,
        "uptime_seconds": 41 * DAY,
        "driver_version": "550.90.07",
        "library_version": "550.90.07",
        "cuda_version": "12.4",
        "ips": (("eno1", "10.2.0.11"),),
        "cpu_percent": cpu,
        "load_1m": 31.2,
        "load_5m": 30.4,
        "load_15m": 28.9,
        "memory_used_bytes": used,
        "memory_total_bytes": total,
        "swap_used_bytes": 0.0,
        "swap_total_bytes": 8.0 * GIB,
        "disks": (
            DiskReading("/", "/dev/nvme0n1p2", "ext4", 402.0 * GIB, 1700.0 * GIB),
            DiskReading("/data", "nas:/export", "nfs4", None, None),
        ),
        "networks": (NetworkReading("eno1", 8.1e12, 3.3e12),),
        "logins": (LoginReading("lisa", "pts/3", "10.2.9.40", NOW - 2 * HOUR),),
        "cores_percent": tuple(float(core * 37 % 100) for core in range(cores)),
    }
    values.update(more)
    return HostReading(**values)


def node(name: str, tags: tuple[str, ...], host: HostReading | None, *gpus: GpuView, status: str = "up", **more: Any) -> NodeState:
    """A node; ``host`` None = no snapshot. ``age``: seconds since the snapshot came. Other keywords go to the NodeState."""
    age = more.pop("age", 2.0)
    xids = more.pop("xids", ())
    collectors = more.pop("collectors", (CollectorStatus("nvml"), CollectorStatus("host")))
    simulated = more.pop("simulated", False)
    snapshot = None
    if host is not None:
        readings = tuple(view.reading for view in gpus)
        snapshot = Snapshot(
            taken_at=NOW - age,
            hostname=f"{name}.lab.example",
            version="0.1.0",
            simulated=simulated,
            host=host,
            gpus=readings,
            collectors=collectors,
            xids=xids,
        )
    more.setdefault("status_since_at", NOW - 5 * DAY)
    more.setdefault("version", 5)
    return NodeState(
        target=Target(name, f"10.2.0.{sum(map(ord, name)) % 200 + 10}", 7080, tags=tags),
        machine_id=f"{hash_of(name) % 2**128:032x}",
        status=status,
        snapshot=snapshot,
        received_at=NOW - age if snapshot else None,
        clock_skew_seconds=0.0 if snapshot else None,
        gpus=gpus,
        **more,
    )


def lab(**more: Any) -> ClusterNow:
    """Fourteen hosts, every state of the page among them."""
    nodes = (
        _dgx_a(),
        _dgx_b(),
        _gpu01(),
        _vision(),
        _gpu03(),
        _old(),
        _desk(),
        _stale(),
        _down(),
        _down_early(),
        _error(),
        _unseen(),
        _no_gpu(),
        _gb10(),
    )
    values: dict[str, Any] = {"title": "Perception Lab", "timezone": "Europe/Berlin", "version": 9, "interval_seconds": 5.0}
    values.update(more)
    return ClusterNow(NOW, nodes, **values)


def _dgx_a() -> NodeState:
    a, gap = "A100 80GB", range(20, 23)
    return node(
        "dgx-a",
        ("train", "a100"),
        machine(41.0, 612, 1024),
        busy("dgx-a", 0, a, "chen.w", TRAIN, 74.1, 99, 51 * HOUR, celsius=67.0, watts=388.0, recent=curve(96, gap=gap)),
        idle(
            "dgx-a",
            1,
            a,
            "lisa",
            "python -m ipykernel_launcher -f diffusion-ablation.json",
            71.4,
            26 * HOUR,
            9.34 * HOUR,
            recent=curve(0, gap=gap),
        ),
        idle(
            "dgx-a",
            2,
            a,
            "lisa",
            "python -m ipykernel_launcher -f diffusion-ablation.json",
            71.4,
            26 * HOUR,
            9.34 * HOUR,
            recent=curve(0, gap=gap),
        ),
        free("dgx-a", 3, a, 5.7 * HOUR, recent=curve(40, quiet_from=2, gap=gap)),
        busy("dgx-a", 4, a, "chen.w", TRAIN, 74.0, 97, 51 * HOUR, celsius=66.0, watts=381.0, recent=curve(94, gap=gap)),
        gpu("dgx-a", 5, a, "reserved", 2 * HOUR, why="reserved by mkato until 18:00", recent=curve(0)),
        free("dgx-a", 6, a, 22 * MINUTE, at_least=True, recent=curve(60, quiet_from=34)),
        busy("dgx-a", 7, a, "root", "/usr/local/bin/nccl_selftest --loop", 12.8, 63, 11 * MINUTE, celsius=52.0, watts=214.0),
    )


def _dgx_b() -> NodeState:
    h = "H100 80GB"
    slices = (
        MigReading("MIG-aaaa0001-0000-0000-0000-000000000001", 0, "3g.40gb", 2, 0, 27.1 * GIB, 40.0 * GIB),
        MigReading("MIG-aaaa0001-0000-0000-0000-000000000002", 1, "2g.20gb", 3, 0, 4.6 * GIB, 20.0 * GIB, 35.0),
        MigReading("MIG-aaaa0001-0000-0000-0000-000000000003", 2, "2g.20gb", 5, 0, 0.0, 20.0 * GIB),
    )
    inside = (
        process("lisa", "python eval_all.py --split test --batch 64", 26.9, 125 * MINUTE, 5001, gpu_instance=2, compute_instance=0),
        process("student7", "python hw3_cnn.py", 4.4, 18 * MINUTE, 5002, gpu_instance=3, compute_instance=0),
    )
    split = gpu(
        "dgx-b",
        7,
        h,
        "mig",
        3 * DAY,
        used=31.7,
        util=None,
        celsius=44.0,
        watts=203.0,
        mig_enabled=True,
        mig=slices,
        processes=inside,
        missing={"utilization_percent": "not supported while MIG is on"},
        mig_states=(GpuState("busy", NOW - 125 * MINUTE), GpuState("busy", NOW - 18 * MINUTE), GpuState("free", NOW - 73 * HOUR)),
    )
    sofia = [
        busy("dgx-b", i, h, "sofia", LLAMA, 78.8, 100 - i % 2, 6.2 * HOUR, celsius=70.0 + i, watts=688.0 + i, recent=curve(97))
        for i in range(4)
    ]
    return node(
        "dgx-b",
        ("train", "h100"),
        machine(18.0, 388, 2048, 192),
        *sofia,
        busy("dgx-b", 4, h, "mkato", MAIN, 40.2, 88, 47 * MINUTE, celsius=61.0, watts=512.0, recent=(0.0,) * 31 + curve(80, 5)),
        free("dgx-b", 5, h, 28.1 * HOUR),
        busy("dgx-b", 6, h, "a.novak", "vllm serve mistralai/Mixtral-8x7B-Instruct-v0.1", 55.6, 74, 3.5 * HOUR),
        split,
    )


def _gpu01() -> NodeState:
    r = "RTX 4090"
    three = (
        process("chen.w", "python sdxl_dreambooth.py --train_batch_size 4", 12.0, 68 * MINUTE, 6001),
        process("yuki.t", "python notebook.py", 4.1, 3 * HOUR, 6002),
        process("nils", "./probe", 0.8, 9 * HOUR, 6003),
    )
    boxed = ContainerRef("docker", "4f1c2d3e4b5a69788f1c2d3e4b5a69788f1c2d3e4b5a69788f1c2d3e4b5a6978", "preprocess", None)
    inside = (process("i.petrov", "preprocess.py --workers 16", 2.8, 31 * MINUTE, 6007, container=boxed, job="8841"),)
    return node(
        "gpu01",
        ("vision",),
        machine(63.0, 201, 256, 64),
        busy("gpu01", 0, r, "mkato", "python run_nerf.py --scene bicycle --iters 250000", 22.1, 96, 115 * HOUR, celsius=74.0, watts=431.0),
        free("gpu01", 1, r, 8 * HOUR),
        free("gpu01", 2, r, 8 * HOUR),
        busy("gpu01", 3, r, "chen.w", "", 17.9, 69, 68 * MINUTE, processes=three, celsius=69.0, watts=318.0),
        idle("gpu01", 4, r, None, None, 9.8, 16 * DAY, 16.17 * DAY),
        busy("gpu01", 5, r, "i.petrov", "", 3.2, 12, 31 * MINUTE, processes=inside, watts=96.0, celsius=49.0),
    )


def _vision() -> NodeState:
    m = "L40S"
    gmx = "gmx mdrun -deffnm npt_protein_membrane"
    hot = ("hot", "throttled: thermal (hardware)")
    return node(
        "vision-2",
        ("vision", "render"),
        machine(22.0, 97, 512, 96),
        busy("vision-2", 0, m, "i.petrov", gmx, 44.0, 98, 9.73 * HOUR, celsius=78.0, watts=341.0),
        busy("vision-2", 1, m, "i.petrov", gmx, 44.0, 98, 9.73 * HOUR, celsius=91.0, watts=243.0, marks=hot, throttle_mask=64.0),
        busy("vision-2", 2, m, "lisa", "python sdxl_dreambooth.py", 30.5, 83, 55 * MINUTE, celsius=72.0, watts=298.0),
        free("vision-2", 3, m, 2.32 * HOUR, recent=curve(50, quiet_from=22)),
    )


def lost(host: str, index: int, model: str) -> GpuView:
    """A GPU that fell off the bus: identity only."""
    name = MODELS[model][0]
    reading = GpuReading(
        uuid=f"GPU-lost{index:04d}-0000-4000-8000-{sum(map(ord, host)):012d}",
        index=index,
        name=name,
        pci_bus_id="00000000:43:00.0",
        error="GPU is lost",
        error_since_at=NOW - 5.3 * HOUR,
    )
    why = "Fallen off the bus (Xid 79). Reboot gpu03; if it returns, reseat the card."
    return GpuView(host, reading, GpuState("lost", NOW - 5.3 * HOUR, why=why))


def _gpu03() -> NodeState:
    r = "RTX 3090"
    return node(
        "gpu03",
        ("nlp",),
        machine(7.0, 31, 128, 32),
        busy("gpu03", 0, r, "student7", LLAMA, 20.3, 91, 2.67 * HOUR, celsius=71.0, watts=338.0, recent=(0.0,) * 20 + curve(90, 16)),
        free("gpu03", 1, r, 100.2 * HOUR),
        lost("gpu03", 2, r),
        idle("gpu03", 3, r, "chen.w", "python debug_attention.py", 18.2, 45 * HOUR, 3.1 * HOUR, recent=curve(50, quiet_from=17)),
        xids=(XidEvent(NOW - 5.3 * HOUR, 79, "0000:43:00", None, "GPU has fallen off the bus."),),
    )


def _old() -> NodeState:
    t = "GTX 1080 Ti"
    silent = {"utilization_percent": "not supported", "power_watts": "not supported", "memory_used_bytes": "unknown error"}
    return node(
        "old-1",
        ("teaching",),
        machine(3.0, 9, 64, 8),
        busy(
            "old-1",
            0,
            t,
            "student7",
            "python hw3_cnn.py",
            6.1,
            54,
            26 * MINUTE,
            celsius=66.0,
            watts=171.0,
            recent=(0.0,) * 33 + curve(54, 3),
        ),
        busy("old-1", 1, t, "student2", "./a.out --n 4096", 4.4, None, 72 * MINUTE, watts=None, celsius=61.0, missing=silent, recent=()),
        gpu(
            "old-1",
            2,
            t,
            "unknown",
            None,
            used=None,
            util=None,
            celsius=None,
            watts=None,
            power_limit_watts=None,
            missing=silent,
            why="utilization and memory are not reported",
        ),
        busy("old-1", 3, "RTX 3090", "a.novak", MAIN, 23.4, 100, 7.25 * HOUR, celsius=77.0, watts=349.0, recent=curve(99)),
    )


def _desk() -> NodeState:
    return node(
        "ws-小林",
        ("desk",),
        machine(11.0, 23, 64, 16),
        busy(
            "ws-小林",
            0,
            "RTX 4090",
            "小林健太",
            "blender -b shots/映像_v12.blend -E CYCLES -a",
            11.7,
            38,
            3.85 * HOUR,
            celsius=58.0,
            watts=177.0,
        ),
    )


def _stale() -> NodeState:
    gpus = [
        replace(
            busy("nlp-1", i, "RTX 3090", "sofia", MAIN, 21.9, 93 - 3 * i, 5.05 * HOUR, celsius=73.0, watts=341.0),
            state=GpuState("stale", NOW - 160),
            recent_utilization=(*curve(92, 35), None),
        )
        for i in range(2)
    ]
    words = "No answer within 4 s (3 tries). The node's last reading is shown."
    return node("nlp-1", ("nlp",), machine(30.0, 40, 128), *gpus, status="stale", age=160.0, status_since_at=NOW - 160, error=words)


def _down() -> NodeState:
    gpus = [
        replace(
            busy("gpu04", i, "RTX 3090", ("chen.w", "chen.w", "mkato")[i % 3], MAIN, 21.9, 90, 5 * HOUR), state=GpuState("down", NOW - 725)
        )
        for i in range(4)
    ]
    words = "No answer from 10.2.0.14:7080 within 4 s (3 tries). Next: ping 10.2.0.14, then systemctl status gpuwatch-node there."
    return node("gpu04", ("nlp",), machine(50.0, 60, 128), *gpus, status="down", age=725.0, status_since_at=NOW - 725, error=words)


def _down_early() -> NodeState:
    words = "Connection refused by 10.2.0.15:7080. Next: systemctl start gpuwatch-node there."
    return node("gpu05", (), None, status="down", status_since_at=NOW - 3 * DAY, error=words)


def _error() -> NodeState:
    words = (
        "Driver 550.90.07 is installed, but 535.183.01 is loaded. Running jobs go on. "
        "Next: reboot nlp-2, or reload the nvidia modules when its GPUs are free."
    )
    broken = (CollectorStatus("nvml", False, words, NOW - 6.5 * HOUR), CollectorStatus("host"))
    host = machine(12.0, 40, 256, 64, driver_version="535.183.01", library_version="550.90.07")
    return node("nlp-2", ("nlp",), host, status="error", status_since_at=NOW - 6.5 * HOUR, error=words, collectors=broken)


def _unseen() -> NodeState:
    words = "Never answered. Next: start `gpuwatch node` on new-1 and open port 7080 to the hub."
    return node("new-1", ("train",), None, status="unseen", status_since_at=NOW - 2 * HOUR, error=words, version=1)


def _no_gpu() -> NodeState:
    why = (CollectorStatus("nvml", True, "No NVIDIA driver is installed on this machine."), CollectorStatus("host"))
    return node("cpu-big", ("cpu",), machine(71.0, 903, 1536, load_1m=91.2, driver_version=None, cuda_version=None), collectors=why)


def _gb10() -> NodeState:
    shared = {
        "memory_total_bytes": "shared with the host",
        "memory_used_bytes": "shared with the host",
        "power_limit_watts": "not supported",
    }
    view = busy("spark", 0, "L40S", "nils", "python chat.py", 18.0, 41, 80 * MINUTE, celsius=55.0, watts=31.0)
    reading = replace(
        view.reading,
        name="NVIDIA GB10",
        unified_memory=True,
        memory_total_bytes=None,
        memory_used_bytes=None,
        power_limit_watts=None,
        missing=shared,
    )
    return node("spark", ("desk",), machine(9.0, 41, 120, 20), replace(view, reading=reading))


HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(2)>",
    "\x1b[31mred\x1b[0m\x9b2J",
    "\u202egnp.exe\u2066x\u2069",
    "a\x00b\nc\rd\te",
    "</tbody></table>",
    "{{7*7}}%s%d{0}",
    "javascript:alert(3)",
    "-->]]><!--",
    "𝕏" * 300,
    "\udcff\ud800",
    "&lt;b&gt;",
    "' style='x",
    "</script><script>",
)
"""Texts that try to break out of a page, a terminal or a JSON block."""


def hostile() -> ClusterNow:
    """One host per hostile text, which stands in every place where a stranger may write."""
    nodes = []
    for number, text in enumerate(HOSTILE):
        held = (
            process(text, text, 20.0, HOUR, container=ContainerRef(text, text, text, text), job=text),
            process(text + "2", text, 3.0, HOUR, pid=4001),
        )
        kinds = {
            0: {},
            1: {"state": GpuState("lost", NOW - 60, why=text)},
            2: {"state": GpuState("busy", None, why=text, marks=(text,))},
        }
        name = f"h{number}{text}"
        gpus = []
        for index, changes in kinds.items():
            view = busy(name, index, "RTX 4090", text, text, 20.0, 50, HOUR, processes=held, missing={"fan_percent": text})
            reading = replace(view.reading, name=text, uuid=f"GPU-{number}-{index}-{text}", error=text if index == 1 else None, serial=text)
            gpus.append(replace(view, reading=reading, **changes))
        host = machine(
            1.0,
            2,
            3,
            os=text,
            kernel=text,
            cpu_model=text,
            driver_version=text,
            ips=((text, text),),
            logins=(LoginReading(text, text, text),),
        )
        nodes.append(
            node(
                name,
                (text,),
                host,
                *gpus,
                error=text,
                collectors=(CollectorStatus(text, False, text),),
                xids=(XidEvent(NOW, 1, text, 1, text),),
            )
        )
        nodes.append(node(f"d{number}{text}", (text,), host, *gpus, status="down", error=text))
        nodes.append(node(f"e{number}{text}", (text,), host, status="error", error=text))
    return ClusterNow(NOW, tuple(nodes), title=HOSTILE[0], timezone="Europe/Berlin", notices=HOSTILE, version=3)


def empty() -> ClusterNow:
    """No line in the hosts file."""
    return ClusterNow(NOW, (), title="Perception Lab", timezone="Europe/Berlin", version=1)


GROUPS = (
    ("a100", 260, "A100 80GB", 92),
    ("h100", 180, "H100 80GB", 97),
    ("vision", 150, "RTX 4090", 80),
    ("l40s", 140, "L40S", 85),
    ("nlp", 120, "RTX 3090", 74),
    ("bio", 60, "A100 80GB", 88),
    ("teaching", 60, "GTX 1080 Ti", 45),
    ("desk", 30, "RTX 4090", 50),
)
USERS = (
    "mkato",
    "lisa",
    "chen.w",
    "sofia",
    "i.petrov",
    "a.novak",
    "student7",
    "root",
    "yuki.t",
    "dmeyer",
    "r.osei",
    "f.rossi",
    "park.js",
    "nils",
)


def large(hosts: int = 1000, gpus: int = 8) -> ClusterNow:
    """A large cluster with all states in lifelike shares; the same at each call."""
    nodes: list[NodeState] = []
    for tag, share, model, load in GROUPS:
        for number in range(1, max(1, round(share * hosts / 1000)) + 1):
            if len(nodes) < hosts:
                nodes.append(_large_node(f"{tag}-{number:03d}", tag, model, load, gpus))
    while len(nodes) < hosts:
        nodes.append(_large_node(f"desk-{len(nodes):04d}", "desk", "RTX 4090", 50, gpus))
    return ClusterNow(NOW, tuple(nodes), title="Perception Lab", timezone="Europe/Berlin", version=9)


def _large_node(name: str, tag: str, model: str, load: int, gpus: int) -> NodeState:
    dice = hash_of(name + "!")
    fate = dice % 997
    if fate < 9:
        return node(name, (tag,), None, status="down", status_since_at=NOW - dice % 90000, error=f"No answer from {name}:7080 within 4 s.")
    views = tuple(_large_gpu(name, index, model, load) for index in range(gpus))
    if fate < 18:
        views = tuple(replace(view, state=GpuState("stale", NOW - 90)) for view in views)
        return node(
            name, (tag,), machine(10.0, 20, 256), *views, status="stale", age=90.0, status_since_at=NOW - 90, error="No answer within 4 s."
        )
    return node(name, (tag,), machine(float(dice % 100), 100, 256, 4), *views)


def _large_gpu(name: str, index: int, model: str, load: int) -> GpuView:
    run = hash_of(f"{name}/{index // (1 << hash_of(name) % 4)}") // 7
    own = hash_of(f"{name}:{index}") // 3
    total = MODELS[model][1] / GIB
    user, dice, since = USERS[run // 100 % len(USERS)], run % 100, 300.0 + run // 1000 % 9000 * MINUTE
    if own % 1009 < 2:
        return lost(name, index, model)
    if dice < load - 6:
        util: float | None = float(30 + own % 71)
        marks = ("hot", "throttled: thermal (hardware)") if own % 251 == 0 else ()
        util = None if model == "GTX 1080 Ti" and own % 5 == 0 else util
        return busy(
            name, index, model, user, MAIN, total * (0.3 + run // 7 % 60 / 100), util, since, marks=marks, celsius=90.0 if marks else 60.0
        )
    if dice < load - 1:
        return idle(name, index, model, user, MAIN, total * 0.8, since, min(since, 6 * DAY))
    return free(name, index, model, since)
