from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.model.snapshot import ContainerRef, GpuReading, ProcessReading
from gpuwatch.render import json_parts, words
from gpuwatch.render.gaps import Gaps
from gpuwatch.render.json_parts import Many, Maybe, Reading, Texts, encoded, marked

PROCESS = Reading(ProcessReading, container=Maybe(Reading(ContainerRef)))
GPU = Reading(GpuReading, skip=("mig",), missing=Texts(), processes=Many(PROCESS))
READING = GpuReading("GPU-1", 0, "100 %s", missing={"fan_percent": "%d\0"}, power_watts=1.5, power_limit_watts=400.0)


def plain(reading: GpuReading) -> dict[str, object]:
    return {name: value for name, value in json.loads(json.dumps(asdict(reading))).items() if name != "mig"}


def test_the_json_of_one_poll_has_a_gap_for_each_number():
    gaps = Gaps()
    text = marked(GPU.document(READING, gaps))
    later = replace(READING, power_watts=None, utilization_percent=0, live_read_at=2.5)
    asked = Gaps()
    assert marked(GPU.document(later, asked)) == text
    assert json.loads(asked.filled(text)) == plain(later)
    assert {function for function, _ in gaps.asked} == {json_parts.number}


@given(st.text(), st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False), st.dictionaries(st.text(), st.text()))
def test_no_text_and_no_number_breaks_it(text, number, missing):
    process = ProcessReading(1, None, text, text, text, container=ContainerRef(text, text), gpu_memory_bytes=number, job=text)
    reading = GpuReading(text, name=text, missing=missing, power_watts=number, processes=(process, process))
    assert json.loads(GPU.text(reading)) == plain(reading)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), None])
def test_what_is_no_number_is_null(number):
    assert [json_parts.number(one) for one in (number, 1, 1.0)] == ["null", "1", "1.0"]
    assert json_parts.encoded({"a": [number], "b": 0}) == '{"a":[null],"b":0}'


@pytest.mark.parametrize(
    ("fact", "text"), [('"\n\0', '"\\"\\n\\u0000"'), (True, "true"), (0, "0"), (0.5, "0.5"), ((), "[]"), (("a",), '["a"]')]
)
def test_facts(fact, text):
    assert encoded(fact) == text


def test_no_text_can_steer_a_terminal_and_every_text_comes_back():
    for text in ("\x1b[31m", "\x7f", "\x9b2J", "a\u202eb", "\u200b\ufeff", "\U000e0041", "実験室", 'say "hi"\\', "\x00"):
        written = encoded(text)
        assert json.loads(written) == text
        assert not words.HARMFUL.search(written)
        assert json.loads(encoded({"a": [text]})) == {"a": [text]}
        assert not words.HARMFUL.search(encoded({"a": [text]}))
    assert encoded("実験室") == '"実験室"'
