"""Check that the commands, options, links, paths and checks on every page exist.

`python -m tests.test_docs` rewrites the checks that pages show.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from mptcp_lab import catalogue
from mptcp_lab.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Pages of which only the links are checked: they describe the past, or are rendered from data.
LINKED = [*PAGES, ROOT / "CHANGELOG.md", *sorted((ROOT / "roles").glob("*/README.md"))]
#: The page whose notes are rendered from the catalogue's data.
RENDERED = ROOT / "docs" / "catalogue.md"
PROSE_WIDTH = 100

FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
#: A name that the reader chooses: a word in capitals, or rack1 and rack2, the inventories in the guides.
PLACEHOLDER = re.compile(r"\b[A-Z][A-Z_]+\b|<[^>]+>|\brack[12]\b|…|\.\.\.")
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?<=\n)(?: {4}.*\n)+")
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
SHOWN_CHECK = re.compile(r"<!-- check: (\S+) (\S+) -->\n+```python\n(.*?)```", re.DOTALL)


def spans(text: str) -> Iterator[str]:
    """Yield the text between backticks in the prose and tables of a page."""
    for found in SPAN.findall(INDENTED.sub("", FENCED.sub("", text))):
        yield " ".join(found.split())


def commands(text: str) -> Iterator[list[str]]:
    """Yield every command that a page shows, split into words."""
    blocks = [block for language, block in FENCED.findall(text) if not language]
    blocks += INDENTED.findall(FENCED.sub("", text))
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *spans(text)]:
        alternatives = re.sub(r"\[([^]]*)\]", lambda found: found[1].replace("|", " "), line)
        for command in re.split(r"&&|;|\|", alternatives.replace("(", ";").replace(")", ";")):
            try:
                words = shlex.split(command, comments=True)
            except ValueError:
                continue
            while words and (words[0] in ("$", "sudo") or "=" in words[0]):
                words = words[1:]
            if words:
                yield words


# --- commands


@cache
def output(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


@cache
def options_of(*command: str) -> frozenset[str]:
    """Return the options in the help of a command."""
    return frozenset(OPTION.findall(output(*command, "--help")))


def options_of_pytest() -> frozenset[str]:
    return options_of(sys.executable, "-m", "pytest", "conformance/")


def unknown_options(words: list[str], known: frozenset[str]) -> Iterator[str]:
    for word in words:
        option = word.partition("=")[0]
        if OPTION.fullmatch(option) and option not in known:
            yield f"{option} is no option"


def unknown_claims(words: list[str]) -> Iterator[str]:
    """Yield the claims after `--claim` that are not in the catalogue."""
    for option, value in itertools.pairwise(words):
        if option != "--claim" or PLACEHOLDER.fullmatch(value):
            continue
        if not any(claim.answers_to(value.partition("[")[0]) for claim in catalogue.claims().values()):
            yield f"there is no claim {value}"


def lab_complaints(words: list[str]) -> Iterator[str]:
    command, *rest = words[1:] or ["help"]
    if PLACEHOLDER.fullmatch(command):
        return
    known = options_of("./lab", command)
    if not output("./lab", command, "--help"):
        yield f"there is no command {command}"
        return
    if command in ("run", "test"):
        known |= options_of_pytest()
        yield from unknown_claims(rest)
    if command == "doctor":
        known |= options_of(*DOCTOR)
    if command == "shell":
        rest = before_host(rest)
    yield from unknown_options(rest, known)


def tool_complaints(words: list[str]) -> Iterator[str]:
    """Check `mptcp-lab COMMAND`, the installed program."""
    if words[1:2] == ["doctor"]:
        yield from unknown_options(words[2:], options_of(*DOCTOR))


def before_host(words: list[str]) -> list[str]:
    """Return the words of `./lab shell` before the host's name, which the command for the host follows."""
    for number, word in enumerate(words):
        if not word.startswith("-") and words[number - 1 : number] != ["--inventory"]:
            return words[:number]
    return words


def pytest_complaints(words: list[str]) -> Iterator[str]:
    yield from unknown_options(words[1:], options_of_pytest())
    yield from unknown_claims(words)
    yield from (f"{word} does not exist" for word in words[1:] if "/" in word and not (ROOT / word).exists())


def module_complaints(words: list[str]) -> Iterator[str]:
    """Check `python -m MODULE` if the module belongs to the project."""
    if len(words) < 3 or words[1] != "-m" or words[2].split(".")[0] not in FOLDERS:
        return
    if importlib.util.find_spec(words[2]) is None:
        yield f"there is no module {words[2]}"
    elif any(word.startswith("--") for word in words[3:]):
        known = options_of(sys.executable, *words[1:3])
        if words[3].isalpha():  # a command of the module, which has its own options
            known |= options_of(sys.executable, *words[1:4])
        yield from unknown_options(words[3:], known)


def playbook_complaints(words: list[str]) -> Iterator[str]:
    for word in words[1:]:
        if word.endswith(".yml") and not (ROOT / word).exists():
            yield f"{word} does not exist"
    yield from unknown_options(words[1:], options_of(str(Path(sys.executable).parent / "ansible-playbook")))


DOCTOR = (sys.executable, "-m", "mptcp_lab.doctor.command")
CHECKERS: dict[str, Callable[[list[str]], Iterator[str]]] = {
    "lab": lab_complaints,
    "mptcp-lab": tool_complaints,
    "pytest": pytest_complaints,
    "python": module_complaints,
    "python3": module_complaints,
    "ansible-playbook": playbook_complaints,
}


def wrong_commands(text: str) -> list[str]:
    """Return the errors in the commands of a page."""
    found = []
    for words in commands(text):
        name = Path(words[0]).name
        if name == "lab" and words[0] != "./lab":
            continue
        complaints = CHECKERS[name](words) if name in CHECKERS else ()
        found += [f"{shlex.join(words)}: {complaint}" for complaint in complaints]
    return found


# --- links and paths


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub generates them."""
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.*)$", FENCED.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return set(found)


def dead_links(text: str, page: Path) -> list[str]:
    """Return the relative links of a page whose target does not exist."""
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if ":" in file:
            continue
        path = page.parent / file if file else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            dead.append(target)
    return dead


def missing_paths(text: str) -> list[str]:
    """Return the files, folders and modules in backticks that do not exist in the project."""
    missing = []
    for span in spans(text):
        first = re.split(r"[/.]", span)[0]
        if " " in span or PLACEHOLDER.search(span):
            continue
        if re.fullmatch(r"test_\w+\.py", span):
            is_there = any(ROOT.glob(f"tests/**/{span}")) or any(ROOT.glob(f"conformance/**/{span}"))
        elif first in FOLDERS and "/" in span:
            is_there = any(ROOT.glob(span.rstrip("/")))
        elif first == "mptcp_lab" and "." in span:
            is_there = has_name(span)
        else:
            continue
        if not is_there:
            missing.append(span)
    return missing


def has_name(dotted: str) -> bool:
    """Check that a dotted name is a module of the project, or a name in one."""
    module, *names = dotted.partition("(")[0].split(".")
    found = importlib.import_module(module)
    for name in names:
        if not hasattr(found, name):
            try:
                importlib.import_module(f"{found.__name__}.{name}")
            except ModuleNotFoundError:
                return False
        found = getattr(found, name)
    return True


# --- code


def source_of(file: str, function: str) -> str:
    """Return the source text of a function in a file, with its decorators."""
    text = (ROOT / file).read_text()
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return "\n".join(text.splitlines()[first - 1 : node.end_lineno]) + "\n"
    return ""


def unreal_checks(text: str) -> list[str]:
    """Return the checks on a page that differ from the suite's source."""
    shown = SHOWN_CHECK.findall(text)
    wrong = [function for file, function, code in shown if code != source_of(file, function)]
    named = [code for _, _, code in shown]
    blocks = [code for language, code in FENCED.findall(text) if language == "python"]
    return wrong + [code for code in blocks if "@claim" in code and code not in named]


def broken_code(text: str) -> list[str]:
    """Return the errors in a page's Python blocks: syntax errors, and imports that do not exist."""
    broken = []
    for language, code in FENCED.findall(text):
        try:
            nodes = ast.walk(ast.parse(code)) if language == "python" else ()
        except SyntaxError as error:
            broken.append(str(error))
            continue
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mptcp_lab":
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                broken += [name for name in names if not has_name(name)]
    return broken


def long_lines(text: str) -> list[str]:
    """Return the lines of prose wider than PROSE_WIDTH; tables, code, headings and pictures are exempt."""
    prose = INDENTED.sub("\n", FENCED.sub("", text)).splitlines()
    return [line for line in prose if len(line) > PROSE_WIDTH and not re.match(r"\||#|!\[|<!--", line)]


# --- the table of CONTRIBUTING.md

#: By kind, a pattern of an existing one. A new one of the kind changes the files that match.
NAMED_BY = {
    "a fault": r'"netem":|plan_netem|sch_netem',
    "a proxy engine": r"""["']nginx["']|^nginx:|\bnginx_stream_worker|nginx\|haproxy|haproxy\|nginx""",
    "a distribution": r"""["']debian-12["']|\bbookworm\b""",
    "a report view": r"\bjunit\.render|\"junit\"|\bjunit,",
}
SOURCES = ("mptcp_lab/**/*.py", "playbooks/**/*.py", "playbooks/*.yml", "roles/**/*.py", "roles/**/*.yml")


def unlisted(kind: str, table: str) -> list[str]:
    """Return the files that match the pattern of a kind, and that the kind's row does not list."""
    row = next(line for line in table.splitlines() if line.startswith(f"| {kind} |"))
    listed = {path for span in spans(row) for path in ROOT.glob(span.rstrip("/")) if " " not in span}
    naming = re.compile(NAMED_BY[kind], re.MULTILINE)
    found = {path for pattern in SOURCES for path in ROOT.glob(pattern) if naming.search(path.read_text())}
    return sorted(str(path.relative_to(ROOT)) for path in found if not {path, *path.parents} & listed)


# --- tests


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_and_options_exist(page: Path) -> None:
    assert not wrong_commands(page.read_text())


@pytest.mark.parametrize("page", LINKED, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    assert not dead_links(page.read_text(), page)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_paths_exist(page: Path) -> None:
    assert not missing_paths(page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_checks_are_the_real_ones(page: Path) -> None:
    assert not unreal_checks(page.read_text()), "run: python -m tests.test_docs"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_python_parses_and_imports(page: Path) -> None:
    assert not broken_code(page.read_text())


@pytest.mark.parametrize("page", [page for page in PAGES if page != RENDERED], ids=page_id)
def test_prose_is_wrapped(page: Path) -> None:
    assert not long_lines(page.read_text())


@pytest.mark.parametrize("kind", NAMED_BY)
def test_the_table_of_files_to_touch_is_whole(kind: str) -> None:
    assert not unlisted(kind, (ROOT / "CONTRIBUTING.md").read_text())


def test_a_file_that_the_table_lacks_is_found() -> None:
    row = (ROOT / "CONTRIBUTING.md").read_text().replace("`mptcp_lab/suite/proxy/engines.py`", "")
    assert unlisted("a proxy engine", row) == ["mptcp_lab/suite/proxy/engines.py"]


@pytest.mark.parametrize("page", ["docs/results.md", "docs/dev/writing-a-check.md"])
def test_pages_show_a_check(page: str) -> None:
    assert SHOWN_CHECK.search((ROOT / page).read_text())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("`./lab rum`", "there is no command rum"),
        ("x\n\n    ./lab down && ./lab up --fast\n", "--fast is no option"),
        ("`./lab run --clam DIRECT-3`", "--clam is no option"),
        ("`./lab run --claim DIRECT-999`", "there is no claim DIRECT-999"),
        ("`pytest conformance/ --hots=rack1`", "--hots is no option"),
        ("`pytest conformance/wrong/`", "conformance/wrong/ does not exist"),
        ("`python -m mptcp_lab.gone`", "there is no module mptcp_lab.gone"),
        ("`python -m bench.lab --onyl suite`", "--onyl is no option"),
        ("`ansible-playbook playbooks/gone.yml`", "playbooks/gone.yml does not exist"),
        ("```\n./lab restore --limit HOST --dry\n```\n", "--dry is no option"),
        ("`./lab doctor A B --prot 443`", "--prot is no option"),
        ("`mptcp-lab doctor A B --bundel FILE`", "--bundel is no option"),
    ],
)
def test_a_wrong_command_is_found(text: str, complaint: str) -> None:
    (found,) = wrong_commands(text)
    assert found.endswith(complaint)


@pytest.mark.parametrize(
    "text",
    [
        "`./lab COMMAND --help`",
        "`./lab shell HOST tcpdump --any-option`",
        "x\n\n    ./lab pcap FILE [--json | --html] [--whole-end]     (python -m mptcp_lab.wire)\n",
        "`MPTCP_LAB_KILLS=20 .venv/bin/pytest tests/e2e/test_way_back.py`",
        "`./lab run --claim 'DIRECT-*' --family proxy`",
    ],
)
def test_a_right_command_passes(text: str) -> None:
    assert not wrong_commands(text)


@pytest.mark.parametrize("target", ["gone.md", "docs/gone.md#x", "docs/vm.md#no-such-heading", "#gone"])
def test_a_dead_link_is_found(target: str) -> None:
    assert dead_links(f"[a page]({target})", ROOT / "README.md") == [target]


@pytest.mark.parametrize("target", ["docs/vm.md", "docs/vm.md#kept-states", "#more", "https://example.org/"])
def test_a_living_link_passes(target: str) -> None:
    assert not dead_links(f"[a page]({target})", ROOT / "README.md")


@pytest.mark.parametrize(
    "path", ["mptcp_lab/gone.py", "playbooks/gone.yml", "tests/e2e/", "test_gone.py", "mptcp_lab.gone.x"]
)
def test_a_missing_path_is_found(path: str) -> None:
    assert missing_paths(f"see `{path}`") == ([] if path == "tests/e2e/" else [path])


def test_a_check_that_is_no_longer_so_is_found() -> None:
    page = (ROOT / "docs" / "dev" / "writing-a-check.md").read_text()
    assert unreal_checks(page.replace("assert ended.intact", "assert ended"))
    assert unreal_checks('```python\n@claim("DIRECT-4")\ndef test_one():\n    ...\n```\n')


def test_broken_code_and_long_lines_are_found() -> None:
    assert broken_code("```python\nwith x\n```\n")
    assert broken_code("```python\nfrom mptcp_lab.probe import gone\n```\n") == ["mptcp_lab.probe.gone"]
    assert long_lines("word " * 30) and not long_lines("| " + "cell " * 30)


if __name__ == "__main__":
    for page in PAGES:
        text = page.read_text()
        new = SHOWN_CHECK.sub(lambda m: m[0].replace(m[3], source_of(m[1], m[2])), text)
        if new != text:
            page.write_text(new)
            print(page)
