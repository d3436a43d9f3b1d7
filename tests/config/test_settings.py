"""Every setting is documented, and the example file is made from the table."""

from pathlib import Path

import pytest

from gpuwatch.config.example import SECTIONS, example, own_settings, settings_table
from gpuwatch.config.load import load, read_toml
from gpuwatch.config.settings import HubSettings, NodeSettings

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_example_file_is_the_table():
    assert (ROOT / "gpuwatch.toml.example").read_text(encoding="utf-8") == example(), "run: make generated"


def test_the_docs_table_is_the_table():
    assert settings_table() in (ROOT / "docs" / "settings.md").read_text(encoding="utf-8"), "run: make generated"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_says_what_it_is(section):
    for field in own_settings(section):
        assert len(field.metadata["help"]) > 10, field.name


def test_the_example_with_every_line_taken_in_gives_the_defaults(tmp_path):
    lines = [line[1:] if line.startswith("#") and " = " in line and not line.startswith("# ") else line for line in example().splitlines()]
    path = tmp_path / "g.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    path.chmod(0o600)
    assert set(read_toml(str(path))) >= {"node", "hub", "timezone"}
    assert load(NodeSettings, "node", {"config": str(path)}, {}) == NodeSettings(config=str(path))
    assert load(HubSettings, "hub", {"config": str(path)}, {}) == HubSettings(config=str(path))
