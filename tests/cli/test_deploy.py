"""What ``gpuwatch deploy`` shows while it works, and how it tells the end; tests/e2e/test_deploy.py has the work."""

import pytest

from gpuwatch.cli.deploy import Lines, Table, _outcome, _targets, _version
from gpuwatch.config.settings import HubSettings
from gpuwatch.deploy.runner import Report, Told
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import UsageError

ONE, TWO = Target("one", "one", 7080), Target("longer-name", "two", 7080)


def test_the_table_is_drawn_over_itself(capsys):
    table = Table([ONE, TWO])
    table(ONE, "connect", "begins")
    assert capsys.readouterr().err == "\x1b[2Kone          connect ...\n\x1b[2Klonger-name  waits\n"
    table(TWO, "", "failed")
    assert capsys.readouterr().err == "\x1b[2F\x1b[2Kone          connect ...\n\x1b[2Klonger-name  failed\n"
    table.end()
    assert capsys.readouterr().err == "\x1b[2F\x1b[J"


def test_many_machines_are_one_line(capsys):
    targets = [Target(f"gpu{number}", "x", 1) for number in range(50)]
    table = Table(targets)
    table(targets[0], "", "done")
    table(targets[1], "", "failed")
    assert capsys.readouterr().err.splitlines()[-1] == "\x1b[1F\x1b[2K2 of 50 machines, 1 failed"


def test_without_a_terminal_there_is_a_line_for_each_end(capsys):
    lines = Lines()
    lines(ONE, "copy", "begins")
    lines(ONE, "", "done")
    assert capsys.readouterr().err == "one: done\n"


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (Report(ONE, True, "plain", True, (Told("copy", "done"), Told("unit", "done"), Told("unit", "done"))), "copy, unit [plain]"),
        (Report(ONE, True, "user", False, (Told("settings", "kept", "F is there already and differs"),)), "nothing to do; settings kept (F is there already and differs) [user]"),
        (Report(ONE, True, notes=("no gpuwatch node there",)), "nothing to do"),
        (Report(ONE, False, failed_step="connect", error="ssh is not let in.", hint="look"), "connect: ssh is not let in. Next: look"),
        (Report(ONE, False, failed_step="verify", error="no answer", rolled_back=True), "verify: no answer. The former version runs again."),
        (Report(ONE, False, failed_step="verify", error="no answer", rolled_back=False), "verify: no answer. The former version could not be put back."),
    ],
)  # fmt: skip
def test_the_end_of_a_machine_in_words(report, words):
    assert _outcome(report) == words


def test_lines_of_other_programs_are_left_out_and_named(tmp_path, capsys):
    hosts = tmp_path / "hosts.txt"
    hosts.write_text("gpu1\nssh://gpu2\n" + "".join(f"dcgm+http://x{number}\n" for number in range(7)))
    settings = HubSettings(hosts=str(hosts))
    assert [target.name for target in _targets(settings, None)] == ["gpu1", "gpu2"]
    assert capsys.readouterr().err == "left out, since other programs than gpuwatch answer there: x0, x1, x2, x3, x4 and 2 more\n"
    assert [target.name for target in _targets(settings, "gpu1")] == ["gpu1"]
    assert capsys.readouterr().err == ""
    hosts.write_text("dcgm+http://x\n")
    with pytest.raises(UsageError, match=r"names no machine to deploy to\. Lines such as dcgm\+http:// name programs that are not gpuwatch"):
        _targets(settings, None)


def test_the_version_of_a_file_is_read_from_its_first_lines():
    assert _version(b'#!/usr/bin/env python3\nPK...\nVERSION = "1.2.3"\nBUILD = "x"\n') == "1.2.3"
