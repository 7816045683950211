"""Test the layers of mptcp_lab: no module imports from a room (a top-level package) of a higher layer."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from mptcp_lab.paths import ROOT

PACKAGE = ROOT / "mptcp_lab"
PAGE = ROOT / "docs" / "dev" / "architecture.md"
#: The layers from the bottom to the top. A room imports no other room of its layer and none above.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"text", "paths"}),
    frozenset({"errors", "untrusted", "folders", "files", "playbook", "revision"}),
    frozenset({"answers", "patience"}),
    frozenset({"inventory", "catalogue"}),
    frozenset({"labs", "probe", "wire", "results"}),
    frozenset({"machines", "render", "doctor", "evidence", "report"}),
    frozenset({"lock"}),
    frozenset({"suite"}),
    frozenset({"plugin"}),
    frozenset({"cli", "docs_roles"}),
)
#: The only rooms that use labs on this machine; the others use hosts, however they are reached.
MAY_USE_LABS = {"machines", "render"}
#: The program on hosts. It imports the standard library and its own modules, nothing of the controller.
AGENT = "agent"


def rank(room: str) -> int:
    """Return the number of a room's layer."""
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(source: str) -> Iterator[str]:
    """Yield the rooms that a module imports from, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module == "mptcp_lab":
            names = [f"mptcp_lab.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"a relative import of {node.module or '.'}"
            names = [node.module or ""]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("mptcp_lab."))


def upward(room: str, rooms: Iterable[str]) -> list[str]:
    """Return the rooms that a room may not import from."""
    inner = {name for name in rooms if name not in (room, "__version__")}
    high = {name for name in inner if rank(name) >= rank(room)}
    hidden = {"labs"} & inner if room not in MAY_USE_LABS else set()
    return sorted(high | hidden)


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if room_of(p) not in (AGENT, "__init__"))


def test_every_room_has_one_layer() -> None:
    named = [room for rooms in LAYERS for room in rooms]
    assert sorted(named) == sorted({room_of(path) for path in modules()})


def drawn(page: str) -> list[frozenset[str]]:
    """Return the layers in the page's diagram, from the bottom to the top."""
    rows = re.findall(r"^    │ (.*?)│", page, re.MULTILINE)
    return [frozenset(row.split()) for row in reversed(rows)]


def without_a_row(page: str) -> set[str]:
    """Return the rooms and the folders of families that are missing in the page's table of folders."""
    table = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    rooms = {room for rooms in LAYERS for room in rooms} | {AGENT}
    rooms |= {f"suite/{path.parent.name}" for path in (PACKAGE / "suite").glob("*/__init__.py")}
    return {room for room in rooms if not re.search(rf"`mptcp_lab/{room}(?:/|\.py)`", table)}


def test_the_page_on_architecture_shows_the_layers_and_every_room() -> None:
    page = PAGE.read_text()
    assert drawn(page) == list(LAYERS)
    assert not without_a_row(page)


def test_a_room_that_the_page_lacks_is_found() -> None:
    page = PAGE.read_text()
    assert drawn(page.replace("│ lock ", "│ lork ")) != list(LAYERS)
    assert without_a_row(page.replace("`mptcp_lab/lock/`", "`mptcp_lab/lork/`")) == {"lock"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_goes_up(path: Path) -> None:
    room = room_of(path)
    assert not upward(room, imported(path.read_text())), f"{path.relative_to(ROOT)} imports from above"


@pytest.mark.parametrize(
    ("room", "source", "found"),
    [
        ("suite", "from mptcp_lab.plugin import claim", ["plugin"]),
        ("suite", "def f():\n    import mptcp_lab.labs.fabric", ["labs"]),
        ("lock", "from mptcp_lab import suite", ["suite"]),
        ("wire", "from mptcp_lab.results import verdict", ["results"]),
        ("suite", "from mptcp_lab.machines.session import Session", []),
    ],
)
def test_an_import_that_goes_up_is_found(room: str, source: str, found: list[str]) -> None:
    assert upward(room, imported(source)) == found


def test_the_agent_is_on_its_own() -> None:
    for path in sorted((PACKAGE / AGENT).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            assert not module.startswith("mptcp_lab"), f"{path.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("path", sorted((ROOT / "mptcp_lab").rglob("*.py")), ids=str)
def test_ansible_is_never_imported(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not any(name.split(".")[0] == "ansible" for name in names)
