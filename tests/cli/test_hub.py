"""``gpuwatch hub`` at its start: a hosts file that is missing is said at once; an empty one is a hub without nodes."""

import http.client
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpuwatch.cli import hub
from gpuwatch.model.errors import UsageError

SRC = Path(__file__).resolve().parents[2] / "src"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("GPUWATCH_")}


def argv(folder, *arguments):
    return [sys.executable, str(SRC / "gpuwatch" / "__main__.py"), "hub", "--port", "0", "--state-dir", str(folder / "state"), *arguments]


def test_without_a_hosts_file_the_next_step_is_said(tmp_path):
    done = subprocess.run(argv(tmp_path), cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "The hosts file hosts.txt cannot be read: No such file or directory." in done.stderr
    assert "one host a line" in done.stderr
    assert "--hosts FILE" in done.stderr


def test_a_folder_is_no_hosts_file(tmp_path):
    result = CliRunner().invoke(hub.command, ["--hosts", str(tmp_path), "--port", "0"])
    assert isinstance(result.exception, UsageError)


@pytest.mark.parametrize("text", ["", "# nothing yet\n"])
def test_an_empty_hosts_file_is_a_hub_without_nodes(tmp_path, text):
    (tmp_path / "hosts.txt").write_text(text)
    process = subprocess.Popen(argv(tmp_path), cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said = next(found for found in (re.search(r"http://127\.0\.0\.1:(\d+)", line) for line in process.stdout) if found)  # a line of the log may come first
        port = int(said.group(1))
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        client.request("GET", "/", headers={"Accept": "text/html"})
        answer = client.getresponse()
        assert answer.status == 200
        assert "No nodes yet" in answer.read().decode()
        client.close()
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
