"""The last door of the command line: one line for what nobody foresaw, and only hints that work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuwatch.cli import main


@pytest.mark.parametrize(
    ("command", "hint"), [("hub", "With --log-level debug"), ("node", "With --log-level debug"), ("status", "Please report this"), ("host", "Please report this")]
)
def test_the_hint_names_a_flag_only_where_the_command_has_it(monkeypatch, capsys, command, hint):
    def broken(*_, **__):
        raise RuntimeError("inside")

    monkeypatch.setattr(main.group, "main", broken)
    monkeypatch.setattr("sys.argv", ["gpuwatch", command])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("gpuwatch: unexpected RuntimeError: inside. ")
    assert hint in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["host", "rename", "a", "b", "--database", "x"], "No such option: --database. Next: --database stands before rename: gpuwatch host --database ... rename\n"),
        (["db", "info", "--database=x"], "No such option: --database. Next: --database stands before info: gpuwatch db --database ... info\n"),
        (["db", "info", "--nonsense"], "No such option: --nonsense. Next: gpuwatch db info --help\n"),
        (["status", "--width", "9"], "No such option: --width Did you mean --watch? Next: gpuwatch status --help\n"),
        (["--nonsense"], "No such option: --nonsense. Next: gpuwatch --help\n"),
    ],
)
def test_an_option_in_the_wrong_place_is_led_to_its_own(monkeypatch, capsys, words, said):
    monkeypatch.setattr("sys.argv", ["gpuwatch", *words])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert (ended.value.code, capsys.readouterr().err) == (2, f"gpuwatch: {said}")


@pytest.mark.parametrize("words", [["host", "rename"], ["db", "info"], ["db", "export"], ["enroll", "create"], ["worker", "list"]])
def test_the_help_of_a_command_says_where_the_database_is_named(monkeypatch, capsys, words):
    monkeypatch.setattr("sys.argv", ["gpuwatch", *words, "--help"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 0
    assert f"gpuwatch {words[0]} --database URL {words[1]} ..." in " ".join(capsys.readouterr().out.split())


def test_an_output_that_does_not_fit_is_no_fault_of_ours():
    environment = {**os.environ, "PYTHONPATH": str(Path(main.__file__).parents[2])}
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "gpuwatch", "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stderr) == (1, "gpuwatch: No space is left where the output goes. Next: free some, or write elsewhere.\n")
