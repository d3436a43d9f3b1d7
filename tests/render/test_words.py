"""Spans, times, sizes and names as text."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from gpuwatch.model.cluster import Target
from gpuwatch.render import words
from gpuwatch.rules.moments import parse_moment

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 18, 14, 32, 10, tzinfo=BERLIN).timestamp()


@pytest.mark.parametrize(
    ("seconds", "text", "compact"),
    [
        (0, "0 s", "0s"), (-5, "0 s", "0s"), (59.9, "59 s", "59s"), (60, "1 m", "1m"), (26 * 60 + 59, "26 m", "26m"),
        (3600, "1 h 00 m", "1h00m"), (9 * 3600 + 20 * 60, "9 h 20 m", "9h20m"), (86400 + 2 * 3600, "1 d 02 h", "1d02h"),
        (2 * 86400 + 3 * 3600 + 3599, "2 d 03 h", "2d03h"), (999 * 86400 + 3600, "999 d 01 h", "999d01h"), (1000 * 86400, "1000 d 00 h", "1000d"), (None, "", ""),
    ],
)  # fmt: skip
def test_span(seconds, text, compact):
    assert words.span(seconds) == text
    assert words.span_compact(seconds) == compact


def test_span_long_and_exact():
    assert words.span_long(12 * 60) == "12 min"
    assert words.span_exact(160) == "2 m 40 s"
    assert words.span_exact(40) == "40 s"
    assert words.span_exact(7200) == "2 h 00 m"


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (datetime(2026, 11, 18, 0, 1), "00:01"), (datetime(2026, 11, 17, 3, 12), "Tue 03:12"),
        (datetime(2026, 11, 12, 3, 12), "Thu 03:12"),
        (datetime(2026, 11, 11, 3, 12), "11 Nov 03:12"), (datetime(2025, 11, 17, 3, 12), "17 Nov 2025 03:12"),
    ],
)  # fmt: skip
def test_clock(when, text):
    assert words.clock(when.replace(tzinfo=BERLIN).timestamp(), NOW, "Europe/Berlin") == text


def test_clock_knows_the_zone_and_survives_odd_ones():
    assert words.clock(NOW, NOW, "UTC") == "13:32"
    assert words.clock(NOW, NOW, "No/Such_Zone") == "13:32"
    assert words.clock(NOW, NOW, "../../etc/passwd") == "13:32"
    assert words.clock(None, NOW, "UTC") == ""
    assert words.clock_seconds(NOW, "Europe/Berlin") == "14:32:10"
    assert words.iso(NOW, "Europe/Berlin") == "2026-11-18T14:32:10+01:00"
    assert words.zone_label(NOW, "Europe/Berlin") == "Europe/Berlin (UTC+01:00)"
    assert words.zone_label(NOW, "UTC") == words.zone_label(NOW, "Etc/UTC") == "UTC"
    assert words.clock(1e18, NOW, "UTC") == words.clock_seconds(-1e18, "UTC") == words.iso(1e18, "UTC") == ""  # never 1 January 1970
    assert words.zone_label(1e18, "UTC") == "UTC"


def test_sizes():
    assert words.gb(76_665_000_000) == "71.4"
    assert words.gb(0) == "0.0"
    assert words.gb(None) == ""
    assert words.gb_total(81559 * 2**20) == "80"
    assert words.gb_total(11264 * 2**20) == "11"
    assert words.gb_total(6 * 2**30) == "6"
    assert words.gb_total(4750 * 2**20) == "4.6"
    assert words.whole(1316) == "1,316"
    assert words.sentence("fallen off the bus (Xid 79).") == "Fallen off the bus (Xid 79)."
    assert words.sentence("") == ""
    assert words.sentence("gpu01 answered 302.", "gpu01") == "gpu01 answered 302."
    assert words.sentence("connection refused.", "gpu01") == "Connection refused."
    assert words.plural(1, "host") == "1 host"
    assert words.plural(1000, "host") == "1,000 hosts"


@pytest.mark.parametrize(
    ("dirty", "text"),
    [
        ("a\x1b[31mb", "a[31mb"), ("a\x9bb", "ab"), ("evil\u202etxt", "eviltxt"), ("\u2066x\u2069", "x"),
        ("a\nb\tc", "a b c"), ("a\x00b\x7f", "ab"),
        ("\udcff", "\ufffd"), ("小林", "小林"), (None, ""), ("a\u2028b", "a b"), ("z\u200bz", "zz"),
        ("tag\U000e0041", "tag"),
    ],
)  # fmt: skip
def test_clean(dirty, text):
    assert words.clean(dirty) == text
    words.clean(dirty).encode("utf-8")


@pytest.mark.parametrize(
    ("full", "short"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"), ("NVIDIA A100-PCIE-40GB", "A100 40GB"),
        ("NVIDIA H100 80GB HBM3", "H100 80GB"), ("NVIDIA L40S", "L40S"),
        ("NVIDIA GeForce RTX 4080 SUPER", "RTX 4080 SUPER"), ("GeForce GTX 1080 Ti", "GTX 1080 Ti"),
        ("Tesla V100-SXM2-32GB", "V100 32GB"), (None, "GPU"), ("NVIDIA", "NVIDIA"),
    ],
)  # fmt: skip
def test_model_name(full, short):
    assert words.model_name(full) == short


@pytest.mark.parametrize(
    ("command", "short"),
    [
        ("/usr/bin/python3 -u /home/a/train.py --lr 1", "train.py --lr 1"),
        ("python -m ipykernel_launcher -f x.json", "ipykernel_launcher -f x.json"),
        ("/opt/conda/bin/python3.11 main.py", "main.py"), ("./a.out --n 4096", "a.out --n 4096"),
        ("gmx mdrun -v", "gmx mdrun -v"), ("python", "python"),
        ("python -c import torch", "python -c import torch"), (None, ""),
        ("vllm serve mistralai/Mixtral", "vllm serve mistralai/Mixtral"),
    ],
)  # fmt: skip
def test_short_command(command, short):
    assert words.short_command(command) == short


def test_a_day_and_a_time():
    assert words.date_time(NOW, "Europe/Berlin") == "Wed 18 Nov 2026 14:32:10"
    assert words.date_time(NOW - 10, "UTC") == "Wed 18 Nov 2026 13:32"
    assert words.date_time(1e300, "UTC") == ""


@pytest.mark.parametrize(
    ("at", "zone", "text"),
    [
        (NOW, "Europe/Berlin", "2026-11-18T14:32:10"), (NOW + 0.25, "UTC", "2026-11-18T13:32:10.250"), (NOW, "America/New_York", "2026-11-18T08:32:10"),
        (1792888200.0, "Europe/Berlin", "2026-10-25T02:30:00+02:00"), (1792891800.0, "Europe/Berlin", "2026-10-25T02:30:00+01:00"),
        (None, "UTC", ""), (1e300, "UTC", ""),
    ],
)  # fmt: skip
def test_a_moment_is_written_so_that_it_is_read_back(at, zone, text):
    assert words.moment(at, zone) == text
    if text:
        assert parse_moment(text, 0.0, words.zone_of(zone)) == at


@pytest.mark.parametrize(("scheme", "way"), [("http", "polled"), ("https", "polled"), ("push", "pushed"), ("ssh", "over ssh"), ("worker", "sent"), ("dcgm+http", "polled")])
def test_how_readings_come_in(scheme, way):
    assert words.way_of(Target("a", "h", 1, scheme)) == way
