"""Pages in Prometheus' text format: what is read of a line, and that no page costs much."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.model.errors import WireError
from gpuwatch.wire.exporters import page

WANTED = frozenset(("gpu_temp", "gpu_util"))


def one(line):
    found = page.parse(line.encode() + b"\n", WANTED)
    return [(name, dict(series.labels), series.value) for name, many in found.items() for series in many]


@pytest.mark.parametrize(
    ("line", "labels", "value"),
    [
        ("gpu_temp 61", {}, 61.0),
        ('gpu_temp{gpu="0"} 61', {"gpu": "0"}, 61.0),
        ('gpu_temp{gpu="0", UUID="GPU-1",} 6.1e1', {"gpu": "0", "UUID": "GPU-1"}, 61.0),
        ('gpu_temp {gpu = "0" , a="" } 61 1795980791000', {"gpu": "0", "a": ""}, 61.0),
        (r'gpu_temp{a="x\"}\\\n,b=\"y\""} 61', {"a": 'x"}\\\n,b="y"'}, 61.0),
        ('gpu_temp{a="é}"} -61.5\r', {"a": "é}"}, -61.5),
        ('gpu_temp{a="}"} 61', {"a": "}"}, 61.0),
        ("gpu_temp{} 61 # {trace_id=\"a\"} 1.0", {}, 61.0),
    ],
)
def test_a_line(line, labels, value):
    assert one(line) == [("gpu_temp", labels, value)]


@pytest.mark.parametrize(
    "line",
    [
        "gpu_temp NaN", "gpu_temp +Inf", "gpu_temp -Inf", "gpu_temp", "gpu_temp x", "gpu_temp 1e400", "gpu_temp 1e300", "gpu_temp 1_0", "gpu_temp{gpu=\"0\" 61",
        'gpu_temp{gpu="0} 61', 'gpu_temp{gpu=0} 61', 'gpu_temp{a="1"b="2"} 61', "gpu_temps 61", "# gpu_temp 61", 'gpu_temp{,} 61', 'other{gpu_temp="1"} 5',
        "gpu_temp{" + ",".join(f'a{number}="x"' for number in range(page.MOST_LABELS + 1)) + "} 1", 'gpu_temp{a="' + "x" * page.MOST_LINE + '"} 1',
        "gpu_temp " + "1" * 50,
    ],
)  # fmt: skip
def test_what_is_no_reading_is_left_out_and_the_rest_stays(line):
    assert one(line + "\ngpu_util 5") == [("gpu_util", {}, 5.0)]


@given(st.binary(max_size=300))
def test_no_page_breaks_the_reader(body):
    for hostile in (b"gpu_temp" + body, b'gpu_temp{a="' + body + b"\ngpu_util 1"):
        assert set(page.parse(hostile, WANTED)) <= WANTED


def test_a_page_with_too_much_is_refused():
    with pytest.raises(WireError, match="more than 20000 lines"):
        page.parse(b"gpu_temp 1\n" * (page.MOST_SERIES + 1), WANTED)
    assert len(page.parse(b"gpu_temp 1\n" * page.MOST_SERIES, WANTED)["gpu_temp"]) == page.MOST_SERIES


@pytest.mark.parametrize("filler", [b"x", b'gpu_temp{a="\\', b"gpu_temp{a=", b'gpu_temp{a="b",', b"gpu_", b"gpu_temp{" + b" " * 900, b"\n"])
def test_hostile_pages_do_not_stop_the_hub(filler):
    body = filler * (4 * 2**20 // len(filler))
    began = time.process_time()
    try:
        assert set(page.parse(body, WANTED)) <= WANTED
    except WireError as error:
        assert "more than 20000 lines" in str(error)
    assert time.process_time() - began < 20, "anything worse than linear would take minutes"


def test_which_program_a_page_is_of():
    assert page.has_prefix(b"# HELP x\nDCGM_FI 1", "DCGM_")
    assert page.has_prefix(b"DCGM_FI 1", "DCGM_")
    assert not page.has_prefix(b"a_DCGM_ 1", "DCGM_")
