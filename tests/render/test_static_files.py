"""The page's own files."""

from __future__ import annotations

import hashlib
import re
import zipfile

import pytest

from gpuwatch.render import static_files


def test_files_have_a_type_and_an_address_of_their_bytes():
    for name, content_type in static_files.CONTENT_TYPES.items():
        body, told, digest = static_files.static_file(name)
        assert body
        assert told == content_type
        assert re.fullmatch("[0-9a-f]{12}", digest)
        assert static_files.static_url(name) == f"/static/{name}?v={digest}"


@pytest.mark.parametrize("name", ["", "../as_html.py", "app.css/../app.js", "nothing.css", "/etc/passwd"])
def test_no_other_file_is_served(name):
    with pytest.raises(KeyError):
        static_files.static_file(name)


VENDORED = {
    "uplot.js": "91b2efc5ba3d2264c39c4230457d1c38fc07da9f7dc8c860e0cebafa62867694",
    "uplot.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uplot.LICENSE.txt": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
"""SHA-256 of dist/uPlot.iife.min.js, dist/uPlot.min.css and LICENSE of uplot 1.6.32 as its package holds them, but for the address in the script's first line."""


@pytest.mark.parametrize("name", VENDORED)
def test_what_others_wrote_is_as_they_published_it(name):
    body = static_files.static_file(name)[0]
    assert hashlib.sha256(body).hexdigest() == VENDORED[name]


def test_the_vendored_version_is_named_and_its_licence_lies_beside_it():
    assert b"(v1.6.32)" in static_files.static_file("uplot.js")[0][:80]
    assert b"The MIT License" in static_files.static_file("uplot.LICENSE.txt")[0]


@pytest.mark.parametrize("name", ["app.js", "charts.js"])
def test_script_asks_only_this_hub(name):
    script = static_files.static_file(name)[0].decode()
    assert "http:" not in script
    assert "https:" not in script
    assert "eval(" not in script
    assert not re.search(r"setAttribute\(\s*[\"']style", script)


def test_no_script_or_sheet_makes_code_or_styles_that_the_policy_refuses():
    """The content policy knows neither inline styles nor made-up code; what a script sets on ``element.style`` is allowed."""
    for name in ("charts.js", "uplot.js"):
        script = static_files.static_file(name)[0].decode()
        assert "new Function" not in script
        assert "cssText" not in script
    for name in ("charts.css", "uplot.css"):
        sheet = static_files.static_file(name)[0].decode()
        assert "@import" not in sheet
        assert "url(" not in sheet


def test_files_are_read_from_a_zip(tmp_path):
    """The program is one zip; what reads its own files must not need a folder."""
    import subprocess
    import sys
    from pathlib import Path

    source = Path(static_files.__file__).parents[2]
    archive = tmp_path / "program.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in (source / "gpuwatch").rglob("*"):
            if path.suffix in (".py", ".css", ".js", ".svg"):
                packed.write(path, path.relative_to(source))
    asked = "from gpuwatch.render.static_files import static_file; print(len(static_file('app.css')[0]))"
    told = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(archive)!r}); {asked}"], capture_output=True, text=True)
    assert told.stdout.strip() == str(len(static_files.static_file("app.css")[0])), told.stderr
