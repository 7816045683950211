"""No assertion of the suite is mute: its failure shows both sides of a comparison, or a message."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mptcp_lab.paths import ROOT

SOURCES = sorted(
    path for folder in ("mptcp_lab/suite", "conformance") for path in (ROOT / folder).rglob("*.py")
)


def mute(text: str) -> list[str]:
    """Return the assertions without a message whose failure would not show what was found and expected.

    A comparison shows both sides, since pytest rewrites it; a comparison with True, False or None shows only
    that it failed.
    """
    return [
        f"line {node.lineno}: assert {ast.unparse(node.test)}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Assert) and node.msg is None and not is_shown(node.test)
    ]


def is_shown(test: ast.expr) -> bool:
    """Return whether a condition that is not met shows what it compares."""
    if isinstance(test, ast.BoolOp):
        return all(map(is_shown, test.values))
    if not isinstance(test, ast.Compare):
        return False
    sides = (test.left, *test.comparators)
    return not any(isinstance(side, ast.Constant) and isinstance(side.value, bool | None) for side in sides)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_assertion_is_mute(path: Path) -> None:
    assert mute(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "assert is_mptcp(stream)",
        "assert flag",
        "assert not lost",
        "assert found is not None",
        "assert a == b and flag",
        "assert any((x == y for x in z))",
        "assert is_mptcp(stream) == True",
    ],
)
def test_a_mute_assertion_is_found(text: str) -> None:
    assert mute(f"def check():\n    {text}\n") == [f"line 2: {text}"]


@pytest.mark.parametrize(
    "text",
    ["assert a == b", "assert a in b <= c", "assert 0 < x", "assert flag, 'why'", "assert a == b or c > d"],
)
def test_an_assertion_that_explains_itself_is_not(text: str) -> None:
    assert mute(text) == []
