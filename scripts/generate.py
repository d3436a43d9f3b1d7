"""Writes what is made from tables in the code: gpuwatch.toml.example and docs/settings.md. Run by `make generated`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from gpuwatch.config.example import example, settings_table  # noqa: E402

(ROOT / "gpuwatch.toml.example").write_text(example(), encoding="utf-8")
(ROOT / "docs" / "settings.md").write_text(
    "# Settings\n\nMade from the one table in `src/gpuwatch/config/settings.py`. Ranks: flag, then environment, then TOML file.\n\n"
    + settings_table(),
    encoding="utf-8",
)
