"""Check that the programs that hosts run need no more than Python 3.9 and its standard library.

mypy no longer supports Python 3.9 as a target. `./lab test` runs it for 3.10, where it refuses additions of
3.11 and newer; these tests refuse the additions of 3.10.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mptcp_lab.paths import ROOT

PATTERNS = ("mptcp_lab/agent/**/*.py", "plugins/modules/*.py")
PROGRAMS = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))
#: The package of the project that a program may import, and one of the distribution that it may try.
OWN_MODULES = {"lab_agent"}
OPTIONAL_MODULES = {"dnf"}
BUILTINS_OF_310 = {"aiter", "anext", "EncodingWarning"}
#: Members of modules and classes that Python 3.10 added; mypy refuses later additions.
MEMBERS_OF_310 = set(
    "IPPROTO_MPTCP F_GETPIPE_SZ F_SETPIPE_SZ freedesktop_os_release pairwise bit_count hardlink_to aclosing "
    "get_annotations orig_argv stdlib_module_names eventfd eventfd_read eventfd_write splice KW_ONLY "
    "TypeAlias ParamSpec Concatenate TypeGuard is_typeddict NoneType UnionType "
    "b32hexencode b32hexdecode covariance correlation linear_regression".split()
)
#: Arguments that Python 3.10 added, by function.
ARGUMENTS_OF_310 = {
    "zip": {"strict"},
    "realpath": {"strict"},
    "dataclass": {"slots", "kw_only", "match_args"},
    "field": {"kw_only"},
    "TemporaryDirectory": {"ignore_cleanup_errors"},
    "glob": {"root_dir", "dir_fd"},
    "stat": {"follow_symlinks"},
    "chmod": {"follow_symlinks"},
    "bisect_left": {"key"},
    "bisect_right": {"key"},
    "bisect": {"key"},
    "insort": {"key"},
}
TYPES = set("bool bytes dict float frozenset int list object set str tuple type Any".split())


def name_of(node: ast.expr) -> str:
    """Return the last part of a dotted name; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def is_type(node: ast.expr) -> bool:
    """Return whether an operand can only be a type, so that `|` makes a union."""
    if isinstance(node, ast.Constant):
        return node.value is None
    if isinstance(node, ast.Subscript):
        return is_type(node.value)
    return name_of(node) in TYPES


def walk_evaluated(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that are evaluated: with the __future__ import, annotations are not."""
    for name, value in ast.iter_fields(tree):
        if name not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield child
                    yield from walk_evaluated(child)


def find_faults(source: str) -> list[str]:
    """Return line number and name of everything that Python 3.9 without other packages does not accept."""
    tree = ast.parse(source, feature_version=(3, 9))
    found = []
    for node in walk_evaluated(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            if is_type(node.left) or is_type(node.right):
                found.append(f"{node.lineno}: union {ast.unparse(node)}")
        elif isinstance(node, ast.Call):
            newer = ARGUMENTS_OF_310.get(name_of(node.func), set()) & {word.arg for word in node.keywords}
            # os.stat and os.chmod have had follow_symlinks since Python 3.3; Path's methods got it in 3.10.
            if newer and ast.unparse(node.func) not in ("os.stat", "os.chmod"):
                found.append(f"{node.lineno}: {name_of(node.func)}({', '.join(sorted(newer))})")
        elif isinstance(node, ast.Name) and node.id in BUILTINS_OF_310:
            found.append(f"{node.lineno}: {node.id}")
        elif isinstance(node, ast.Attribute) and node.attr in MEMBERS_OF_310:
            found.append(f"{node.lineno}: {node.attr}")
        elif isinstance(node, ast.Import):
            found += [f"{node.lineno}: import {a.name}" for a in node.names if is_foreign(a.name)]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            if is_foreign(node.module or ""):
                found.append(f"{node.lineno}: import {node.module}")
            found += [f"{node.lineno}: {a.name}" for a in node.names if a.name in MEMBERS_OF_310]
    has_annotations = any(isinstance(node, ast.FunctionDef | ast.AnnAssign) for node in ast.walk(tree))
    if has_annotations and "from __future__ import annotations" not in source:
        found.append("1: no `from __future__ import annotations`")
    return found


def is_foreign(module: str) -> bool:
    """Return whether a module may be missing on a host, so that its import fails there."""
    first = module.partition(".")[0]
    return first not in sys.stdlib_module_names | OWN_MODULES | OPTIONAL_MODULES


def test_there_are_programs_of_each_kind() -> None:
    assert all(any(ROOT.glob(pattern)) for pattern in PATTERNS)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_program_needs_no_more_than_python_39(path: Path) -> None:
    assert find_faults(path.read_text()) == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("Number = int | None", "2: union int | None"),
        ("x = isinstance(1, dict[str, int] | str)", "2: union dict[str, int] | str"),
        ("x = zip([], [], strict=True)", "2: zip(strict)"),
        ("x = path.stat(follow_symlinks=False)", "2: stat(follow_symlinks)"),
        ("x = socket.IPPROTO_MPTCP", "2: IPPROTO_MPTCP"),
        ("x = anext(iterator)", "2: anext"),
        ("from typing import TypeAlias", "2: TypeAlias"),
        ("import yaml", "2: import yaml"),
        ("from mptcp_lab.errors import LabError", "2: import mptcp_lab.errors"),
    ],
)
def test_a_fault_is_found(line: str, fault: str) -> None:
    assert find_faults(f"from __future__ import annotations\n{line}\n") == [fault]


def test_annotations_need_the_future_import() -> None:
    assert find_faults("def f(x: int | None) -> None: ...\n") == [
        "1: no `from __future__ import annotations`"
    ]


@pytest.mark.parametrize(
    "line",
    ["x: int | None = 1", "x = os.stat('/', follow_symlinks=False)", "x = {1} | y", "IPPROTO_MPTCP = 262"],
)
def test_valid_python_39_is_accepted(line: str) -> None:
    assert find_faults(f"from __future__ import annotations\n{line}\n") == []


def test_newer_syntax_is_refused() -> None:
    with pytest.raises(SyntaxError):
        find_faults("match 1:\n    case _: pass\n")


def test_mypy_checks_every_program_strictly_and_without_blanket_ignores() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["strict"] is True
    assert {"mptcp_lab", "conformance", "plugins", "bench", "fuzz", "examples"} <= set(settings["files"])
    assert not any(override.get("ignore_errors") for override in settings["overrides"])
    second = next(line for line in (ROOT / "lab").read_text().splitlines() if "mypy --python-version" in line)
    assert {"mptcp_lab/agent", "plugins/modules"} <= set(second.split())
