"""The real driver: what the node says of real cards, against what nvidia-smi says of them. Skipped where there is no card."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).resolve().parent.parent.parent
QUERY = "index,uuid,name,pci.bus_id,memory.total,memory.used,temperature.gpu,power.draw,utilization.gpu,driver_version"


@pytest.fixture(scope="module")
def cards() -> list[dict[str, str]]:
    """What nvidia-smi says, a dict a card."""
    if not os.path.exists("/dev/nvidiactl"):
        pytest.skip("no GPU hardware: /dev/nvidiactl does not exist")
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return [dict(zip(QUERY.split(","), map(str.strip, row))) for row in csv.reader(said.splitlines())]


@pytest.fixture(scope="module")
def status(cards: list[dict[str, str]]) -> dict[str, Any]:
    """One reading of the node."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-m", "gpuwatch", "node", "--debug"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def readings(status: dict[str, Any]) -> list[dict[str, Any]]:
    """The GPUs of our own part of the answer."""
    found: list[dict[str, Any]] = status["snapshot"]["gpus"]
    return found


def test_every_card_is_there_with_its_identity(cards: list[dict[str, str]], status: dict[str, Any]) -> None:
    ours = {gpu["uuid"]: gpu for gpu in readings(status)}
    assert set(ours) == {card["uuid"] for card in cards}
    for card in cards:
        gpu = ours[card["uuid"]]
        assert (gpu["index"], gpu["name"]) == (int(card["index"]), card["name"])
        assert gpu["pci_bus_id"].lower() == card["pci.bus_id"].lower()


def test_numbers_agree_with_nvidia_smi(cards: list[dict[str, str]], status: dict[str, Any]) -> None:
    ours = {gpu["uuid"]: gpu for gpu in readings(status)}
    for card in cards:
        gpu = ours[card["uuid"]]
        if card["memory.total"] != "[N/A]":
            assert gpu["memory_total_bytes"] == pytest.approx(float(card["memory.total"]) * 2**20, abs=2**20)
        if card["memory.used"] != "[N/A]":
            assert gpu["memory_used_bytes"] == pytest.approx(float(card["memory.used"]) * 2**20, abs=2**30)
        assert gpu["temperature_celsius"] == pytest.approx(float(card["temperature.gpu"]), abs=10)
        if card["power.draw"] != "[N/A]":
            assert 0 < gpu["power_watts"] < 2000


def test_nothing_is_missing_without_a_reason(cards: list[dict[str, str]], status: dict[str, Any]) -> None:
    for gpu in readings(status):
        for name in ("utilization_percent", "memory_used_bytes", "temperature_celsius", "power_watts"):
            assert gpu[name] is not None or gpu["missing"].get(name)
