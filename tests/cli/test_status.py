"""``gpuwatch status --watch`` goes on after a look that failed."""

from click.testing import CliRunner

from gpuwatch.cli import status
from gpuwatch.model.errors import GpuwatchError, UsageError


class Enough(Exception):
    """Ends the watch."""


def watch(monkeypatch, answers, *arguments):
    left = list(answers)

    def text(*_):
        if not left:
            raise Enough
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(status, "_text", text)
    monkeypatch.setattr(status.time, "sleep", lambda _: None)
    return CliRunner().invoke(status.command, ["--hub", "http://127.0.0.1:1", *arguments])


def test_a_failed_look_is_shown_and_the_next_one_comes(monkeypatch):
    result = watch(monkeypatch, ["one\n", GpuwatchError("The hub is gone.", "Start it."), "two\n"], "--watch", "1")
    assert result.stdout == "one\ngpuwatch: The hub is gone. Start it.\ntwo\n"
    assert isinstance(result.exception, Enough)


def test_without_watch_it_ends(monkeypatch):
    assert isinstance(watch(monkeypatch, [GpuwatchError("The hub is gone.")]).exception, GpuwatchError)


def test_what_was_asked_for_wrongly_ends_it(monkeypatch):
    assert isinstance(watch(monkeypatch, [UsageError("no such zone")], "--watch", "1").exception, UsageError)
