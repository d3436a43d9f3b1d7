"""The one table of settings: each is a field here, with its default and help. Flags, environment, TOML and docs all come from it.

Common settings stand at the top of the TOML file, the others under ``[node]``, ``[hub]`` and ``[hub.compat]``. In the environment a setting is
``GPUWATCH_<NAME>`` (common) or ``GPUWATCH_NODE_<NAME>``, ``GPUWATCH_HUB_<NAME>``, ``GPUWATCH_HUB_COMPAT_<NAME>``. Spans are seconds, or ``30s``, ``5min``, ``2h``, ``7d``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from gpuwatch.model.snapshot import GpuReading

DEFAULT_PASSWORD = "8888"
"""The documented default of seed 002; accepted without being configured on loopback only."""


def setting(
    default: Any,
    help: str,
    *,
    kind: str = "",
    flags: Tuple[str, ...] = (),
    where: str = "all",
    least: Optional[float] = None,
    most: Optional[float] = None,
    choices: Tuple[str, ...] = (),
    environ: str = "",
) -> Any:
    """One setting. ``kind``: text, int, seconds, bytes, bool, path, secret (empty: by the default's type). ``choices``: the texts that it can be.

    ``flags``: spellings on the command line beside ``--name-with-dashes``; ``where``: all, or no_flag (TOML and environment only).
    ``environ``: a shorter variable of the environment, beside the usual one.
    """
    limits = {"least": least, "most": most, "choices": choices}
    metadata = {"help": help, "kind": kind or _kind_of(default), "flags": flags, "where": where, "environ": environ, **limits}
    return dataclasses.field(default=default, metadata=metadata)


def part(table: Any) -> Any:
    """Settings that stand in a table of their own below that of the section: ``[hub.compat]``. They have no flags."""
    return dataclasses.field(default=table(), metadata={"part": table})


def _kind_of(default: Any) -> str:
    return {bool: "bool", int: "int", float: "seconds", str: "text"}.get(type(default), "text")


@dataclass(frozen=True)
class CommonSettings:
    """Settings of node and hub alike."""

    config: str = setting("", "TOML file with settings", kind="path")
    state_dir: str = setting("", "folder for what must survive a restart; empty: $STATE_DIRECTORY, else ~/.local/state/gpuwatch", kind="path")
    password: str = setting("", "password between hub and nodes; never on the command line", kind="secret", where="no_flag")
    password_file: str = setting("", "file that holds the password", kind="path")
    tls_cert: str = setting("", "certificate to answer with by TLS, PEM; gpuwatch cert makes one", kind="path")
    tls_key: str = setting("", "its private key, PEM without a password; empty: it is in the same file", kind="path")
    trusted_proxies: str = setting("", "addresses and networks of proxies whose X-Forwarded-For and -Proto are believed: 127.0.0.1, 10.0.0.0/24", where="no_flag")
    timezone: str = setting("", "time zone of days and of times without one, such as Europe/Berlin; empty: this machine's")
    log_level: str = setting("info", "what is logged: debug, info, warning or error")
    log_file: str = setting("", "write the log here instead of to stderr; reopened on SIGHUP", kind="path")
    no_access_log: bool = setting(False, "do not log each request", flags=("--disable_log",))
    threads: int = setting(8, "threads that answer requests", least=1, most=256, where="no_flag")


@dataclass(frozen=True)
class NodeSettings(CommonSettings):
    """Settings of ``gpuwatch node``."""

    host: str = setting("0.0.0.0", "address to listen on")
    port: int = setting(7080, "port to listen on", flags=("--node_port",), least=0, most=65535)
    interval: float = setting(4.0, "seconds between two samples", least=0.1)
    name: str = setting("", "name of this node; empty: the machine's hostname", environ="GPUWATCH_NAME")
    push: str = setting("", "push to the hub at this URL, such as https://hub:7070, besides answering hubs that ask", environ="GPUWATCH_PUSH")
    push_pin: str = setting("", "sha256:... of the certificate that this hub must show, as gpuwatch cert --show prints it there", where="no_flag")
    push_ca: str = setting("", "file of the authorities of its certificate, PEM; empty: the system's", kind="path", where="no_flag")
    enroll: str = setting("", "one-time code with which this node gets its key for pushing, from: gpuwatch enroll create", environ="GPUWATCH_ENROLL")
    enroll_file: str = setting("", "file that holds that code", kind="path")
    push_spool: int = setting(
        64 * 1024**2, "what cannot be pushed waits on the disk, so much at most; then the oldest goes", kind="bytes", least=1024**2, most=1024**4, where="no_flag"
    )
    plain_password: bool = setting(True, "the password itself is taken too, as gpu-cluster-monitor's hub and scripts send it; false: signed requests alone", where="no_flag")
    metrics_open: bool = setting(False, "/metrics, for Prometheus, needs no password", where="no_flag")
    public_status: bool = setting(False, "/api/gpu_status tells AccessGrid's hub, and everybody, the GPUs' numbers without a password", where="no_flag")
    status_age: float = setting(10.0, "longest age of clocks, fans, encoders, disks, network, logins, host memory of processes", least=0.0, where="no_flag")
    health_age: float = setting(60.0, "longest age of ECC, NVLink, PCIe, MIG mode, power limit", least=0.0, where="no_flag")
    identity_age: float = setting(600.0, "longest age of names, versions and limits", least=0.0, where="no_flag")
    sample_deadline: float = setting(10.0, "a sample that takes longer means that the driver hangs", least=0.5, where="no_flag")
    sampler_retry: float = setting(10.0, "seconds until a sampler that lost the driver is started anew; doubles up to 60", least=0.1, where="no_flag")
    source: str = setting("gpuwatch.collect.source:make", "where readings come from; the demo uses gpuwatch.sim.source:make", where="no_flag")
    source_argument: str = setting("", "argument of the source: profile and scenario of the simulation", where="no_flag")
    ends_with_stdin: bool = setting(False, "end when standard input ends: for a node that must not outlive the program that started it", where="no_flag")
    root: str = setting("/", "folder that stands for / when /proc and /sys are read: /host in a container", kind="path", where="no_flag")


@dataclass(frozen=True)
class CompatSettings:
    """What the hub takes from programs of other systems that write to it; all off by default (docs/migrate/)."""

    vesta_token: str = setting("", "token of vesta's senders; empty: they are not taken", kind="secret", where="no_flag")
    workers: str = setting(
        "off",
        "workers of gpu-monitoring-system: off; approve: an unknown one waits for gpuwatch worker approve; open: one from a loopback or private address is let in at first sight",
        where="no_flag",
        choices=("off", "approve", "open"),
    )


@dataclass(frozen=True)
class PushSettings:
    """How the hub takes what nodes push."""

    auto_enroll: bool = setting(
        False, "a node in a private network that pushes gets a key without a code; for networks where you trust everybody", where="no_flag"
    )


@dataclass(frozen=True)
class HubSettings(CommonSettings):
    """Settings of ``gpuwatch hub``."""

    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(7070, "port to listen on", least=0, most=65535)
    hosts: str = setting("hosts.txt", "hosts file: one line for each node", kind="path", flags=("-c",))
    node_port: int = setting(7080, "port of nodes whose line in the hosts file names none", flags=("--node_port",), least=1, most=65535)
    interval: float = setting(5.0, "seconds between two polls of a node", least=0.1)
    database: str = setting("", "sqlite:///FILE or postgresql://USER@HOST/DATABASE; empty: gpuwatch.db in the state folder")
    base_path: str = setting("", "path under which a proxy shows the hub: /gpuwatch", where="no_flag")
    title: str = setting("", "name of the lab, shown on each page")
    stale_intervals: float = setting(3.0, "a node is stale after so many intervals without a reading", kind="float", least=1, where="no_flag")
    down_after: float = setting(60.0, "a node is down after so many seconds without a reading", least=1, where="no_flag")
    poll_deadline: float = setting(4.0, "longest time of one poll", least=0.1, where="no_flag")
    poll_max_bytes: int = setting(4 * 1024**2, "largest answer of a node", kind="bytes", least=1024, most=256 * 1024**2, where="no_flag")
    idle_memory: int = setting(100 * 10**6, "memory held from which a GPU without work counts as idle", kind="bytes", least=1, where="no_flag")
    idle_utilization: float = setting(1.0, "utilization in percent up to which there is no work", kind="float", least=0, most=100, where="no_flag")
    idle_after: float = setting(1800.0, "a GPU is idle after so long without work", least=1, where="no_flag")
    hot_celsius: float = setting(90.0, "a GPU is hot from here, where the card tells no limit", kind="float", where="no_flag")
    show_arguments: bool = setting(False, "strangers see whole command lines, not only the names of programs", where="no_flag")
    price_per_kwh: float = setting(0.0, "price of a kWh, for reports; 0: they tell no cost", kind="float", least=0, where="no_flag")
    currency: str = setting("EUR", "currency of that price", where="no_flag")
    co2_grams_per_kwh: float = setting(0.0, "grams of CO2 of a kWh, for reports; 0: they tell none", kind="float", least=0, where="no_flag")
    line_url: str = setting("", "also send the nodes' numbers as InfluxDB lines to this address of a VictoriaMetrics or InfluxDB, such as http://127.0.0.1:8428/write", where="no_flag")
    line_token_file: str = setting("", "file with the token for line_url, sent as Bearer; or with the whole header: Token ..., Basic ...", kind="path", where="no_flag")
    line_interval: float = setting(15.0, "seconds between two sendings to line_url", least=1, where="no_flag")
    upload_max_bytes: int = setting(64 * 1024**2, "largest file that the pages take, to look at; the command line takes any", kind="bytes", least=1024**2, most=1024**3, where="no_flag")
    ssh_config: str = setting("", "file for ssh:// targets that ssh reads instead of the own configuration of the hub's user", kind="path", where="no_flag")
    ssh_file: str = setting("~/.local/share/gpuwatch/gpuwatch.pyz", "where gpuwatch.pyz is on machines that are read through ssh", where="no_flag")
    ssh_python: str = setting("python3", "the Python that runs it there", where="no_flag")
    date_style: str = setting("YMD", "dates in the tables of ?term=true: YMD, MDY or DMY", where="no_flag")
    raw_retention: float = setting(7 * 86400.0, "every snapshot is kept so long; older ones are thinned to one a minute", least=3600, where="no_flag")
    thinned_retention: float = setting(90 * 86400.0, "one snapshot a minute of each node is kept so long", least=3600, where="no_flag")
    minutes_retention: float = setting(90 * 86400.0, "charts have a point a minute so far back", least=86400, where="no_flag")
    quarters_retention: float = setting(365 * 86400.0, "charts have a point a quarter of an hour so far back; a point an hour stays for ever", least=86400, where="no_flag")
    processes_retention: float = setting(365 * 86400.0, "who was on which GPU when is kept so long", least=86400, where="no_flag")
    max_database: int = setting(20 * 10**9, "when the database is larger the oldest snapshots go, then minutes and quarters of an hour of charts", kind="bytes", least=10**9, where="no_flag")
    pack_snapshots: int = setting(120, "snapshots of one node in a packed block, 60 to 180", least=2, most=10000, where="no_flag")
    push: PushSettings = part(PushSettings)
    compat: CompatSettings = part(CompatSettings)


@dataclass(frozen=True)
class SamplerOptions:
    """What the node hands to its sampler process: ``model.source.SourceOptions``."""

    name: str
    interval: float
    status_age: float
    health_age: float
    identity_age: float
    source: str
    source_argument: str = ""
    root: str = "/"
    sampler_retry: float = 10.0
    known_gpus: Tuple[GpuReading, ...] = ()


def settings_of(table: type) -> tuple[dataclasses.Field[Any], ...]:
    """The fields of one table of settings, common ones first, without its parts."""
    return tuple(field for field in dataclasses.fields(table) if "part" not in field.metadata)


def parts_of(table: type) -> Dict[str, type]:
    """The parts of one table of settings: name -> table."""
    return {field.name: field.metadata["part"] for field in dataclasses.fields(table) if "part" in field.metadata}
