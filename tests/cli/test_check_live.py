"""``gpuwatch check --live`` of targets that are not gpuwatch: what it says of good and of bad ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from click.testing import CliRunner
from tests.hub.programs import Program, captured, page, reply

from gpuwatch.cli.check import command

FAILED = b'{"status":"error","message":"no driver","gpu_details":[]}'


@pytest.fixture
def start() -> Iterator[Callable[[bytes], Program]]:
    programs: List[Program] = []

    def start(answer: bytes) -> Program:
        programs.append(Program(answer))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


def test_each_kind_is_asked_and_read_as_the_hub_does(start: Callable[[bytes], Program], tmp_path: Path) -> None:
    recorded = json.loads(captured("002_get-status.raw"))
    recorded["last_update"] = None
    info = start(reply(json.dumps(recorded).encode()))
    lines = {
        "info": f"node_info+http://{info.address}",
        "refused": f"node_info+http://{start(reply(b'', '404 NOT FOUND', 'text/html')).address}",
        "grid": f"accessgrid+http://{start(reply(captured('000_gpu_status.raw'))).address}",
        "failing": f"accessgrid+http://{start(reply(FAILED)).address}",
        "dcgm": f"dcgm+http://{start(reply(page('dcgm'))).address}",
        "mixed-up": f"dcgm+http://{start(reply(page('node_exporter'))).address}",
        "nvitop": f"nvitop+http://{start(reply(page('nvitop'))).address}",
        "ours": start(reply(b"<html>")).address,
        "node": f"node+http://{start(reply(page('node_exporter'))).address}",
    }
    hosts = tmp_path / "hosts.txt"
    hosts.write_text("".join(f"{name}={line}\n" for name, line in lines.items()))
    done = CliRunner().invoke(command, ["--hosts", str(hosts), "--live", "--json"], catch_exceptions=False)
    assert done.exit_code == 1
    answers: Dict[str, Dict[str, Any]] = {one["name"]: one for one in json.loads(done.output)["nodes"]}
    assert {name: one["message"] for name, one in answers.items() if one["ok"]} == {
        "info": "node_info.py, 2 GPUs", "grid": "AccessGrid, 2 GPUs", "dcgm": "dcgm-exporter, 2 GPUs", "nvitop": "nvitop-exporter, 2 GPUs",
        "node": "node_exporter, no GPUs",
    }  # fmt: skip
    assert "wrong password" in answers["refused"]["message"]
    assert "could not read its GPUs: no driver. Next:" in answers["failing"]["message"]
    assert answers["ours"]["message"].startswith("ours: The answer is not a gpuwatch frame (it starts with '<html>'). Next: is it gpuwatch node that listens on 127.0.0.1:")
    assert "is it dcgm-exporter that listens there" in answers["mixed-up"]["message"]
    assert info.asked[0].endswith(b'{"passwd": "8888"}')
