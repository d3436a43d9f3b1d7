"""``gpuwatch.toml.example`` and the docs' table of settings, both made from the one table of settings."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any, Iterator, Mapping

from gpuwatch.config.settings import CommonSettings, CompatSettings, HubSettings, NodeSettings, PushSettings, settings_of

SECTIONS: Mapping[str, type] = {"": CommonSettings, "node": NodeSettings, "hub": HubSettings, "hub.push": PushSettings, "hub.compat": CompatSettings}
HEAD = """\
# Settings of gpuwatch. Each line shows a default: take away the "#" to change it.
# Ranks: command line, then environment, then this file. Use it with --config FILE.
# Spans are seconds or "30s", "5min", "2h", "7d"; sizes are bytes or "20GB", "20GiB".
# A file with a password must be readable by its owner alone: chmod 600 FILE
"""


def example() -> str:
    """The text of gpuwatch.toml.example."""
    return HEAD + "".join(_section(name) for name in SECTIONS)


def own_settings(section: str) -> tuple[dataclasses.Field[Any], ...]:
    """The settings that belong to a section alone; the common ones for the empty section. Without ``config`` itself."""
    common = {field.name for field in settings_of(CommonSettings)} if section else {"config"}
    return tuple(field for field in settings_of(SECTIONS[section]) if field.name not in common)


def _section(name: str) -> str:
    lines = [f"\n[{name}]" if name else ""]
    for field in own_settings(name):
        lines.extend(_lines(field))
    return "\n".join(lines) + "\n"


def _lines(field: dataclasses.Field[Any]) -> Iterator[str]:
    yield from (f"# {line}" for line in textwrap.wrap(field.metadata["help"], 110))
    yield f"#{field.name} = {toml_value(field.default)}"


def toml_value(value: Any) -> str:
    """A default as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(int(value)) if value == int(value) else str(value)


def settings_table() -> str:
    """All settings as a Markdown table: name, default, flag, environment variable, help."""
    rows = ["| setting | default | flag | environment | what |", "|---|---|---|---|---|"]
    for section in SECTIONS:
        for field in own_settings(section):
            full = f"{section}.{field.name}" if section else field.name
            flag = "" if field.metadata["where"] == "no_flag" else f"`--{field.name.replace('_', '-')}`"
            variable = field.metadata["environ"] or f"GPUWATCH_{full.replace('.', '_').upper()}"
            rows.append(f"| `{full}` | `{toml_value(field.default)}` | {flag} | `{variable}` | {field.metadata['help']} |")
    return "\n".join(rows) + "\n"
