"""docs/migrate/: every setting, command and address that the pages name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpuwatch.cli.main import COMMANDS
from gpuwatch.config.load import load
from gpuwatch.config.seed_env import SYSTEMS
from gpuwatch.config.settings import CommonSettings, CompatSettings, HubSettings, NodeSettings, settings_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "migrate").glob("*.md"))


def names(table):
    return {field.name for field in settings_of(table)}


KNOWN = {f"hub.{name}" for name in names(HubSettings)} | {f"node.{name}" for name in names(NodeSettings)} | {f"hub.compat.{name}" for name in names(CompatSettings)}


def test_there_is_a_page_for_each_old_system():
    assert [page.stem for page in PAGES] == ["accessgrid", "gpu-cluster-monitor", "gpu-monitoring-system", "gpulocker", "vesta"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:hub|node)\.[a-z_.]+)`", text))
    assert named
    assert named <= KNOWN
    assert {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"\bgpuwatch ([a-z]+)", code)} <= set(COMMANDS)
    five = re.findall(r"^\d\. ", text, re.MULTILINE)
    assert five == [f"{number}. " for number in range(1, 6)], "five lines to change"
    for row in re.findall(r"^\|.*\|$", text, re.MULTILINE):
        assert len(re.findall(r"(?<!\\)\|", row)) == 4, row


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_settings_that_a_page_writes_load(page, tmp_path):
    for number, block in enumerate(re.findall(r"```\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)):
        path = tmp_path / f"{number}.toml"
        path.write_text("\n".join(line.strip() for line in block.splitlines()), encoding="utf-8")
        path.chmod(0o600)
        settings = load(HubSettings, "hub", {"config": str(path)}, {})
        assert settings.compat != CompatSettings()


@pytest.mark.parametrize(
    ("page", "system"),
    [("gpulocker", "GPULocker (seed 003)"), ("gpu-monitoring-system", "gpu-monitoring-system (seed 001)"), ("accessgrid", "AccessGrid (seed 000)")],
)
def test_every_setting_of_an_env_file_stands_in_its_page(page, system):
    text = (ROOT / "docs" / "migrate" / f"{page}.md").read_text(encoding="utf-8")
    assert {name for name in SYSTEMS[system].rows if f"`{name}`" not in text} == set()
    assert names(CommonSettings) >= {"log_file", "log_level", "password_file"}
