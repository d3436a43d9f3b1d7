"""The house's walls: which room may import which, who owns which outside package, how long a file may be.

Lazy imports and dotted paths count.
"""

import ast
import re
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src" / "gpuwatch"

FLOORS = (
    ("model",),
    ("config", "child", "rules", "render", "loops", "serve"),
    ("wire", "collect", "sim", "enforce", "notify"),
    ("store",),
    ("query",),
    ("node", "hub", "deploy"),
    ("web",),
    ("cli",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FORBIDDEN = {
    "node": {"store", "query", "notify", "hub"},
    "hub": {"collect", "enforce", "sim", "node"},
}
START = {"__init__", "__main__", "boot"}
"""What runs before the rooms; a room may ask boot for its own argv."""

OWNERS = {
    "pynvml": {"collect/nvml.py"},
    "psutil": {"collect/"},
    "peewee": {"store/"},
    "playhouse": {"store/"},
    "psycopg": {"store/"},
    "bottle": {"node/app.py", "web/"},
    "waitress": {"serve/"},
    "subprocess": {"child.py", "cli/run.py", "deploy/agent.py"},  # the agent runs elsewhere, alone: it cannot import child
    "multiprocessing": {"child.py", "cli/run.py"},
    "click": {"cli/"},
    "tabulate": {"render/listing.py"},
    "wcwidth": {"render/text_cells.py"},
}
DOTTED = re.compile(r"^gpuwatch(\.\w+)+(:\w+)?$")
REGISTRIES = {"cli/main.py", "render/__init__.py", "config/settings.py"}
"""Files with tables of dotted paths, imported on first use."""


def modules():
    return sorted(path for path in SRC.rglob("*.py"))


def name_of(path):
    return path.relative_to(SRC).as_posix()


def room_of(path):
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imports_of(path):
    """Every imported dotted name, wherever the import stands; and dotted paths in texts, outside the registries."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and name_of(path) not in REGISTRIES:
            if DOTTED.match(node.value) and node.value.split(".")[1] in FLOOR:
                yield node.value.split(":")[0]


def rooms_imported(path):
    for dotted in imports_of(path):
        parts = dotted.split(".")
        if parts[0] == "gpuwatch" and len(parts) > 1 and parts[1] not in START | {"__version__"}:
            yield parts[1]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_room_imports_only_lower_floors(path):
    room = room_of(path)
    if room in START:
        return
    for other in set(rooms_imported(path)) - {room}:
        assert FLOOR[other] < FLOOR[room], f"{name_of(path)} (floor {FLOOR[room]}) imports {other} (floor {FLOOR[other]})"
        assert other not in FORBIDDEN.get(room, ()), f"{room} must never import {other}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_each_outside_package_has_one_owner(path):
    name = name_of(path)
    for dotted in imports_of(path):
        allowed = OWNERS.get(dotted.split(".")[0])
        assert allowed is None or any(name.startswith(owner) for owner in allowed), f"{name} imports {dotted}; its owner is {allowed}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_load_reads_the_environment(path):
    if name_of(path) in ("config/load.py", "boot.py"):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb") and isinstance(node.value, ast.Name):
            assert node.value.id != "os", f"{name_of(path)}:{node.lineno} reads the environment; only config/load.py may"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_exit_codes_are_the_cli_s(path):
    if room_of(path) in ("cli", "node", *START):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in ("exit", "_exit") and isinstance(node.value, ast.Name):
            assert node.value.id not in ("sys", "os"), f"{name_of(path)}:{node.lineno} ends the process"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_files_stay_short_and_say_what_they_are(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400, f"{name_of(path)} has {text.count(chr(10))} lines, the limit is 400"
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{name_of(path)} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 80, f"{name_of(path)}:{node.lineno} {node.name} has {length} lines, the limit is 80"


def test_every_room_is_on_a_floor():
    rooms = {room_of(path) for path in modules()} - START
    assert rooms <= set(FLOOR), rooms - set(FLOOR)


def test_the_architecture_page_names_every_room():
    page = (SRC.parent.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    for room in {room_of(path) for path in modules()} - START:
        assert re.search(rf"`{room}(/|\.py)`", page), f"docs/architecture.md does not name {room}"
