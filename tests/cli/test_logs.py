"""The log: one line a message, whatever strangers call themselves; a trace cannot pass for other lines."""

import logging

from gpuwatch.cli.logs import FORMAT, _OneLine


def line_of(message, error=None):
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, message, (), (type(error), error, None) if error else None)
    return _OneLine(FORMAT).format(record)


def test_control_characters_of_a_message_are_shown_not_obeyed():
    assert line_of("user \x1b[2J\nERROR forged \u202e").endswith(r"user \x1b[2J\nERROR forged \u202e")


def test_the_lines_of_a_trace_are_told_from_others():
    first, *trace = line_of("error 1", ValueError("a\n2026-01-01 00:00:00 INFO forged\x1b[31m")).split("\n")
    assert first.endswith("ERROR error 1")
    assert trace
    assert all(line.startswith("  | ") for line in trace)
    assert "\x1b" not in "".join(trace)
