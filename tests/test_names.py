"""The names of functions: verbs or nouns, never a lone participle or preposition."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Folders whose functions the rule is about. Tests name what they prove, and are not listed.
FOLDERS = ("mptcp_lab", "conformance", "playbooks", "plugins", "bench", "examples")
#: Words with the ending of a participle that are nouns or verbs of the field.
ALLOWED = frozenset(
    "embed feed finding greeting heading listening mapping meaning need padding reading seed setting "
    "speed steering string timing".split()
)
IRREGULAR = frozenset(
    "begun bound brought built caught chosen done drawn found given gone heard held kept known laid left "
    "lost made met paid seen sent shown stuck taken thrown told torn worn written".split()
)
PREPOSITIONS = frozenset(
    "above across after against along among apart around before behind below beneath beside besides "
    "between beyond by down during except for from in inside into near of off on onto only out outside "
    "over per since than through till to toward towards under until unto up upon via whole with within "
    "without".split()
)


def test_no_function_is_a_lone_participle_or_preposition() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in functions(path)
        if is_lone(node.name)
    ]
    assert not found, "name these functions with a verb or a whole noun: " + ", ".join(found)


@pytest.mark.parametrize("name", ["_moved", "until", "pausing", "found", "of"])
def test_participles_and_prepositions_are_recognized(name: str) -> None:
    assert is_lone(name)


@pytest.mark.parametrize("name", ["read", "is_moved", "wait_until", "mapping", "__with__", "speed"])
def test_verbs_nouns_and_phrases_are_allowed(name: str) -> None:
    assert not is_lone(name)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function, method and property of a file, nested ones too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def is_lone(name: str) -> bool:
    """Return whether a function's name is a single participle or preposition."""
    word = name.strip("_")
    if "_" in word or word in ALLOWED or (name.startswith("__") and name.endswith("__")):
        return False
    return word.endswith(("ed", "ing")) or word in IRREGULAR or word in PREPOSITIONS
