"""The page's own files."""

from __future__ import annotations

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


def test_script_asks_only_this_hub():
    script = static_files.static_file("app.js")[0].decode()
    assert "http:" not in script
    assert "https:" not in script
    assert "eval(" not in script
    assert not re.search(r"setAttribute\(\s*[\"']style", script)


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
