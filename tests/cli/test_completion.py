"""`gpuwatch completion`: what it prints is what click's own variable makes the program print."""

from __future__ import annotations

import subprocess

import pytest
from click.testing import CliRunner

from gpuwatch.cli.main import group


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_it_prints_a_script_for_the_shell(shell: str) -> None:
    result = CliRunner().invoke(group, ["completion", shell], prog_name="gpuwatch")
    assert result.exit_code == 0
    assert f"_GPUWATCH_COMPLETE={shell}_complete" in result.stdout


def test_bash_accepts_the_script() -> None:
    script = CliRunner().invoke(group, ["completion", "bash"], prog_name="gpuwatch").stdout
    done = subprocess.run(["bash", "-c", f"{script}\ncomplete -p gpuwatch"], capture_output=True, text=True, timeout=30)
    assert done.stdout == "complete -o nosort -F _gpuwatch_completion gpuwatch\n"


def test_an_unknown_shell_is_wrong_usage() -> None:
    result = CliRunner().invoke(group, ["completion", "tcsh"], prog_name="gpuwatch")
    assert result.exit_code == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in result.output
