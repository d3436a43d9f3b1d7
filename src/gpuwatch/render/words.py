"""Spans, times, sizes and names as text for people, the same on the page and in the terminal. Pure; must never guess an unknown value.

Sizes: "GB" means what cards are sold by, 2**30 bytes, so that an ``A100 80GB`` says 80. Names come from strangers: ``clean`` them first.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Optional
from zoneinfo import ZoneInfo

from gpuwatch.model.cluster import SSH, Target
from gpuwatch.model.foreign import NOT_TOLD
from gpuwatch.model.snapshot import GpuReading, ProcessReading, Snapshot

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
NOT_REPORTED = "not reported"


# ---- spans of time


def span(seconds: Optional[float]) -> str:
    """``40 s``, ``26 m``, ``9 h 20 m``, ``2 d 03 h``; two units at most. Empty for None; a negative span (clock skew) counts as 0."""
    return _span(seconds, "short")


def span_long(seconds: Optional[float]) -> str:
    """As ``span``, minutes spelled for sentences: ``12 min``."""
    return _span(seconds, "long")


def span_compact(seconds: Optional[float]) -> str:
    """For narrow columns: ``40s``, ``12m``, ``5h41m``, ``1d02h``."""
    return _span(seconds, "compact")


def span_exact(seconds: Optional[float]) -> str:
    """As ``span``, with seconds below an hour: ``2 m 40 s``."""
    if seconds is None or not 60 <= seconds < 3600:
        return span(seconds)
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} m {rest:02d} s"


_UNITS = {
    "short": (" s", " m", " h ", " m", " d ", " h"),
    "long": (" s", " min", " h ", " m", " d ", " h"),
    "compact": ("s", "m", "h", "m", "d", "h"),
}


def _span(seconds: Optional[float], style: str) -> str:
    if seconds is None:
        return ""
    whole = int(seconds)
    return _spelled(whole if whole < 60 else whole - whole % 60, style)


@lru_cache(maxsize=8192)
def _spelled(seconds: int, style: str) -> str:
    """Kept, since most spans of a page last days, and are the same for a minute."""
    s, m, h, hm, d, dh = _UNITS[style]
    if seconds < 60:
        return f"{max(0, seconds)}{s}"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes}{m}"
    if minutes < 1440:
        return f"{minutes // 60}{h}{minutes % 60:02d}{hm}"
    if style == "compact" and minutes >= 1000 * 1440:  # columns of text hold seven characters
        return f"{minutes // 1440}{d}"
    return f"{minutes // 1440}{d}{minutes // 60 % 24:02d}{dh}"


def source_of(snapshot: Snapshot) -> str:
    """``gpuwatch 0.1.0``, or for what another program told ``from dcgm-exporter``: it tells less, and what it does not is not reported."""
    if snapshot.version:
        return f"gpuwatch {snapshot.version}"
    programs = [part.name for part in snapshot.collectors[:1]]
    return f"from {programs[0]}" if programs else "from another program"


def way_of(target: Target) -> str:
    """How readings come to the hub: ``polled``, ``pushed``, ``over ssh``, ``sent``."""
    if target.sends:
        return "pushed" if target.scheme == "push" else "sent"
    return "over ssh" if target.scheme in SSH else "polled"


def untold_processes(gpu: GpuReading) -> str:
    """``not reported: not told by dcgm-exporter``; empty where the processes are listed, or ought to be."""
    reason = gpu.missing.get("processes", "")
    return f"{NOT_REPORTED}: {reason}" if reason.startswith(NOT_TOLD) else ""


# ---- times of day


@lru_cache(maxsize=16)
def zone_of(name: str) -> tzinfo:
    """The time zone of that name; UTC where this machine does not know it."""
    try:
        return ZoneInfo(name) if name and name != "UTC" else timezone.utc
    except (KeyError, ValueError, OSError):
        return timezone.utc


def clock(at: Optional[float], now: float, zone: str) -> str:
    """``14:32`` today, ``Tue 03:12`` up to six days off, ``17 Nov 03:12`` else, with the year where it is another. Epoch seconds in.

    Empty for None, and for what is no time of this calendar.
    """
    return "" if at is None else _clock(at, now // 60, zone)


@lru_cache(maxsize=16384)
def _clock(at: float, minute: float, zone: str) -> str:
    """Kept, since it is the same for a minute at least."""
    then, today = _local(at, zone), _local(minute * 60, zone)
    if then is None or today is None:
        return ""
    time = f"{then.hour:02d}:{then.minute:02d}"
    days = abs((then.date() - today.date()).days)
    if days == 0:
        return time
    if days < 7:
        return f"{DAYS[then.weekday()]} {time}"
    year = "" if then.year == today.year else f" {then.year}"
    return f"{then.day} {MONTHS[then.month - 1]}{year} {time}"


def clock_seconds(at: Optional[float], zone: str) -> str:
    """``14:32:10``; empty for None, and for what is no time."""
    then = None if at is None else _local(at, zone)
    return "" if then is None else f"{then.hour:02d}:{then.minute:02d}:{then.second:02d}"


def date_time(at: float, zone: str) -> str:
    """``Tue 17 Nov 2026 03:12:40``; seconds only where there are some. Empty for what is no time."""
    then = _local(at, zone)
    if then is None:
        return ""
    seconds = f":{then.second:02d}" if then.second else ""
    return f"{DAYS[then.weekday()]} {then.day} {MONTHS[then.month - 1]} {then.year} {then.hour:02d}:{then.minute:02d}{seconds}"


def moment(at: Optional[float], zone: str) -> str:
    """``2026-11-17T03:12:40``, as addresses write a time; with its offset where clocks show that time twice. Empty for None."""
    then = None if at is None else _local(at, zone)
    if then is None:
        return ""
    twice = then.utcoffset() != then.replace(fold=1 - then.fold).utcoffset()
    shown = then if twice else then.replace(tzinfo=None)
    return shown.isoformat(timespec="milliseconds" if then.microsecond >= 1000 else "seconds")


def iso(at: Optional[float], zone: str) -> str:
    """``2026-11-17T14:32:10+01:00``, for machines that read a page; empty for None."""
    then = None if at is None else _local(at, zone)
    return "" if then is None else then.isoformat(timespec="seconds")


def zone_label(at: float, zone: str) -> str:
    """The zone as a page names it: ``Europe/Berlin (UTC+01:00)``; ``UTC`` alone."""
    then = _local(at, zone)
    offset = (then.utcoffset() if then else None) or timedelta()
    if not offset and (not zone or zone.endswith(("UTC", "GMT", "Universal", "Zulu"))):
        return "UTC"
    minutes = round(offset.total_seconds() / 60)
    sign = "-" if minutes < 0 else "+"
    return f"{clean(zone)} (UTC{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d})"


def _local(at: float, zone: str) -> Optional[datetime]:
    try:
        return datetime.fromtimestamp(at, zone_of(zone))
    except (OverflowError, ValueError, OSError):
        return None


# ---- sizes and numbers


def places(process: ProcessReading) -> list[str]:
    """Container, pod and Slurm job of a process: ``docker train``, ``job 8841``."""
    box = process.container
    parts = ((box.runtime, box.name or box.id[:12]), ("pod", box.pod and box.pod[:12])) if box is not None else ()
    return [f"{word} {value}" for word, value in (*parts, ("job", process.job)) if value]


LEAST_UNATTRIBUTED_BYTES = 2**29
"""What drivers and contexts hold beside the processes' own counts is less."""


def unattributed_bytes(reading: GpuReading) -> Optional[float]:
    """Memory in use that no process of the list holds (a zombie, a hidden process). None where it is little, or cannot be told."""
    held = [process.gpu_memory_bytes for process in reading.processes]
    if reading.memory_used_bytes is None or reading.is_memory_of_the_system or "processes" in reading.missing or None in held:
        return None
    left = reading.memory_used_bytes - sum(size or 0 for size in held)
    return left if left >= LEAST_UNATTRIBUTED_BYTES else None


def numa_memory(reading: GpuReading) -> str:
    """What memory in use means where the system manages the GPU's memory; empty elsewhere."""
    return "" if reading.numa_node is None else f"NUMA node {reading.numa_node} of the host: pages may stay in it after programs end"


KINDS = {"G": "graphics", "C+G": "C+G", "M": "MPS"}
"""Kinds of processes that are not shown without a word: those that only compute (C) are the rule."""


def gb(size_bytes: Optional[float]) -> str:
    """``71.4`` for a size in bytes, in GB of 2**30; empty for None."""
    return "" if size_bytes is None else f"{size_bytes / 2**30:.1f}"


@lru_cache(maxsize=1024)
def gb_total(size_bytes: Optional[float]) -> str:
    """The size of a card or of a machine's memory: ``80``, ``24``; one decimal below 10. Empty for None."""
    if size_bytes is None:
        return ""
    size = size_bytes / 2**30
    return f"{size:.0f}" if size >= 9.95 or abs(size - round(size)) < 0.06 else f"{size:.1f}"


def whole(number: Optional[float]) -> str:
    """A number without decimals, thousands with a comma: ``1,316``; empty for None."""
    return "" if number is None else f"{number:,.0f}"


def sentence(text: str, name: str = "") -> str:
    """The text with a capital first letter, for what a machine said in the middle of a line; one that begins with the machine's name is left as it is."""
    return text if name and text.startswith(name) else text[:1].upper() + text[1:]


def plural(count: int, one: str, many: str = "") -> str:
    """``1 host``, ``2 hosts``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


# ---- names that strangers chose

_SPACES = re.compile("[\t\n\v\f\r\x85\u2028\u2029]+")
HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Letters that steer a terminal or a page: control characters, marks of direction, invisible ones."""
_SURROGATES = re.compile("[\ud800-\udfff]")


def clean(text: Optional[str]) -> str:
    """Text without control characters: C0, C1, escape, bidi overrides, invisible ones; line ends become spaces. Empty for None."""
    if not text:
        return ""
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return HARMFUL.sub("", _SURROGATES.sub("\ufffd", _SPACES.sub(" ", text)))


_MODEL_NOISE = re.compile(r"\b(?:NVIDIA|GeForce|Tesla|Quadro(?= RTX)|HBM\d\w?|Graphics Device)\b\s*", re.IGNORECASE)
_MODEL_BUS = re.compile(r"-(?:SXM\d?|PCIE|PG\d+\w*)-", re.IGNORECASE)


@lru_cache(maxsize=512)
def model_name(name: Optional[str]) -> str:
    """A card's short name: ``NVIDIA A100-SXM4-80GB`` -> ``A100 80GB``. ``GPU`` where the driver tells none."""
    plain = clean(name).strip()
    short = _MODEL_BUS.sub(" ", _MODEL_NOISE.sub("", plain)).strip()
    return short or plain or "GPU"


_INTERPRETER = re.compile(r"(?:python|pypy|perl|ruby|bash|sh|zsh|dash|julia|Rscript|node|uv|accelerate|torchrun)[\d.]*\Z")


@lru_cache(maxsize=16384)
def short_command(command: Optional[str]) -> str:
    """A command from its script on: ``/usr/bin/python3 -u /home/a/train.py --lr 1`` -> ``train.py --lr 1``."""
    words = clean(command).split()
    if not words:
        return ""
    rest = words
    if _INTERPRETER.fullmatch(_base(words[0])):
        rest = _behind_interpreter(words) or words
    return " ".join([_base(rest[0]), *rest[1:]])


def _behind_interpreter(words: list[str]) -> list[str]:
    for place, word in enumerate(words[1:], 1):
        if word == "-m":
            return words[place + 1 :]
        if word == "-c":
            return words
        if not word.startswith("-") and "=" not in word:
            return words[place:]
    return []


def _base(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1] or path
