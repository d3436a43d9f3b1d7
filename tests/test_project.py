"""What belongs together stays together: version and changelog, routes and docs, README's commands and the Makefile."""

import re
from pathlib import Path

import gpuwatch

ROOT = Path(__file__).resolve().parent.parent


def test_the_changelog_s_top_version_is_the_program_s():
    top = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert top.group(1) == gpuwatch.__version__


def test_ci_runs_the_readme_s_commands():
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("make demo", "make test"):
        assert command in readme
    assert "make test" in ci


def test_no_file_names_a_download_address():
    for lock in ROOT.glob("requirements*"):
        assert "://" not in lock.read_text(encoding="utf-8"), lock.name
