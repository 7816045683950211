"""Read an inventory's files before Ansible does, so that nothing in them runs, hangs or is silently ignored.

Ansible runs executable files of an inventory folder, waits on FIFOs, expands aliases without a limit, and
keeps the last of two equal keys. `read` refuses all of these with file and line. It returns the files' YAML
nodes, which contain the line of each variable.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from mptcp_lab.inventory.errors import InventoryError

MAX_FILES = 500
MAX_FILE_BYTES = 1 << 20
MAX_TOTAL_BYTES = 8 << 20
#: Limit for the nodes of one file with every alias expanded. The embedded lab's hosts.yml has about 600.
MAX_NODES = 200_000
MAX_DEPTH = 40
MAX_FOLDERS = 8
YAML_ENDINGS = (".yml", ".yaml", ".json")
#: File name endings that Ansible ignores in an inventory folder (INVENTORY_IGNORE_EXTS).
IGNORED_ENDINGS = (
    ".pyc",
    ".pyo",
    ".swp",
    ".bak",
    "~",
    ".rpm",
    ".md",
    ".txt",
    ".rst",
    ".orig",
    ".ini",
    ".cfg",
    ".retry",
)
VARIABLE_FOLDERS = ("group_vars", "host_vars")
LOCK_NAME = "lab.lock.yml"
EXAMPLE = "inventories/embedded/hosts.yml"
MERGE_TAG = "tag:yaml.org,2002:merge"

#: libyaml's parser if PyYAML was built with it: it is faster.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Source:
    """One file of an inventory; ``node`` is its YAML document, None for an empty file and for an INI file.

    ``kind`` is ``hosts``, ``group_vars`` or ``host_vars``; ``owner`` is the group or host that a variable
    file belongs to.
    """

    path: Path
    kind: str
    owner: str
    node: yaml.Node | None
    text: str

    def locate_line(self, line: int) -> str:
        """Return ``path:line``, relative to the working directory if the file is below it."""
        path = self.path
        if path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        return f"{path}:{line}"


def read(path: Path) -> tuple[Source, ...]:
    """Read every file of an inventory (a file or a folder) with limits on number, size, depth and aliases.

    Raises:
        InventoryError: a file is not a regular file, is executable, too large, not UTF-8, not YAML or INI,
            has a key twice, or has a group that contains itself.
    """
    base = path if path.is_dir() else path.parent
    found = list(_host_files(path)) + [
        (file, kind, file.relative_to(base / kind).parts[0].split(".")[0])
        for kind in VARIABLE_FOLDERS
        for file in _walk(base / kind)
    ]
    if len(found) > MAX_FILES:
        raise _error(
            path, 0, f"{len(found)} files, more than {MAX_FILES}", "a folder that holds only the inventory"
        )
    total = 0
    sources = []
    for file, kind, owner in found:
        text = _text(file)
        total += len(text)
        if total > MAX_TOTAL_BYTES:
            raise _error(path, 0, f"its files are larger than {MAX_TOTAL_BYTES >> 20} MiB together", EXAMPLE)
        sources.append(Source(file, kind, owner, _document(file, text, kind), text))
    _check_cycles(sources)
    return tuple(sources)


def _host_files(path: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield the files that Ansible reads as lists of hosts, with kind and owner."""
    if not path.is_dir():
        yield path, "hosts", ""
        return
    for file in _walk(path):
        inside = file.relative_to(path)
        if inside.parts[0] not in VARIABLE_FOLDERS and file.name != LOCK_NAME:
            yield file, "hosts", ""


def _walk(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Yield the files below a folder in Ansible's order, without those that Ansible ignores."""
    if not folder.exists():
        return
    if not folder.is_dir():
        yield folder
        return
    if depth > MAX_FOLDERS:
        raise _error(
            folder,
            0,
            f"more than {MAX_FOLDERS} folders deep",
            "no link to a parent folder",
        )
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name.endswith(IGNORED_ENDINGS):
            continue
        if entry.is_dir():
            yield from _walk(entry, depth + 1)
        else:
            yield entry


def _text(file: Path) -> str:
    """Return a file's text; refuse a file that is not regular, readable, small and UTF-8."""
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            found = os.fstat(opened.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise _error(file, 0, "not a regular file", "a YAML file such as hosts.yml")
            if found.st_size > MAX_FILE_BYTES:
                raise _error(file, 0, f"larger than {MAX_FILE_BYTES >> 20} MiB", EXAMPLE)
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _error(file, 0, f"cannot be read: {error.strerror}", EXAMPLE) from None
    if data.startswith(b"#!"):
        raise _error(file, 1, "a program; an inventory must be a YAML or INI file", EXAMPLE)
    if found.st_mode & 0o111 and file.suffix not in YAML_ENDINGS:
        raise _error(file, 0, "executable; an inventory must not be executable", f"chmod -x {file}")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"not UTF-8 (byte {data[error.start]:#04x})"
        raise _error(file, line, problem, f"iconv -f latin1 -t utf-8 {file}") from None


def _document(file: Path, text: str, kind: str) -> yaml.Node | None:
    """Return the file's YAML document, or None if it is INI or empty."""
    is_yaml = file.suffix in YAML_ENDINGS or kind != "hosts" or _looks_like_yaml(text)
    if not is_yaml:
        return None
    try:
        _check_depth(file, text)
        node: yaml.Node | None = yaml.compose(text, Loader=Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.problem, error.context) if part)
        raise _error(file, mark.line + 1 if mark else 0, f"not YAML: {reason}", EXAMPLE) from None
    except yaml.YAMLError as error:
        raise _error(file, 0, f"not YAML: {' '.join(str(error).split())}", EXAMPLE) from None
    if node is None:
        return None
    if not isinstance(node, yaml.MappingNode):
        raise _error(file, node.start_mark.line + 1, "a mapping is expected at the top", EXAMPLE)
    _size(file, node)
    return node


def _looks_like_yaml(text: str) -> bool:
    """Return whether a file without an ending is YAML: its first line of content opens a mapping."""
    for line in text.splitlines():
        content = line.strip()
        if content and not content.startswith("#"):
            return content == "---" or content.startswith("{") or content.endswith(":")
    return False


def _check_depth(file: Path, text: str) -> None:
    """Refuse nesting that would exhaust a recursive parser; this function reads event by event."""
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else 0
                raise _error(file, line, f"nested more than {MAX_DEPTH} levels deep", EXAMPLE)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _size(file: Path, root: yaml.Node) -> int:
    """Return the number of nodes with aliases expanded; refuse too many nodes, cycles and repeated keys."""
    sizes: dict[int, int] = {}
    inside: set[int] = set()

    def measure(node: yaml.Node) -> int:
        line = node.start_mark.line + 1
        if id(node) in inside:
            raise _error(file, line, "an alias refers to a mapping or list that contains the alias", EXAMPLE)
        if id(node) in sizes:
            return sizes[id(node)]
        inside.add(id(node))
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            _check_keys(file, node)
            children = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        size = 1 + sum(measure(child) for child in children)
        if size > MAX_NODES:
            raise _error(file, line, f"more than {MAX_NODES} values once its aliases are expanded", EXAMPLE)
        inside.discard(id(node))
        sizes[id(node)] = size
        return size

    return measure(root)


def _check_keys(file: Path, node: yaml.MappingNode) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise _error(file, line, "a key is a list or a mapping", "a word as key")
        if key.tag == MERGE_TAG:
            continue
        if key.value in seen:
            problem = f"{key.value!r} is given twice in one mapping (first in line {seen[key.value]})"
            raise _error(file, line, problem, "each key once")
        seen[key.value] = line


def _check_cycles(sources: Sequence[Source]) -> None:
    """Refuse groups that contain themselves, over all files of the inventory."""
    children: dict[str, list[str]] = {}
    first: dict[str, tuple[Path, int]] = {}
    for source in sources:
        if source.kind == "hosts" and isinstance(source.node, yaml.MappingNode):
            for name, entry, line in _groups(source.path, source.node):
                first.setdefault(name, (source.path, line))
                children.setdefault(name, []).extend(_keys(child_node(entry, "children")))
    for start in children:
        seen, pending = {start}, list(children[start])
        while pending:
            name = pending.pop()
            if name == start:
                raise _error(*first[start], f"group {start} contains itself", f"{start} outside its children")
            if name not in seen:
                seen.add(name)
                pending += children.get(name, ())


def _groups(file: Path, root: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node, int]]:
    """Yield every group with its node and line, children included; refuse unknown keys of a group."""
    pending = [(key, value, 0) for key, value in root.value]
    while pending:
        key, value, depth = pending.pop(0)
        line = key.start_mark.line + 1
        yield key.value, value, line
        if isinstance(value, yaml.ScalarNode) and value.value in ("", "~", "null"):
            continue
        if not isinstance(value, yaml.MappingNode):
            raise _error(file, line, f"group {key.value!r} is not a mapping", "clients: {hosts: {client: }}")
        for part, entry in value.value:
            if part.value not in ("hosts", "vars", "children"):
                problem = f"group {key.value!r} may have hosts, vars and children, not {part.value!r}"
                raise _error(file, part.start_mark.line + 1, problem, "clients: {hosts: {client: }}")
            if part.value == "children" and isinstance(entry, yaml.MappingNode) and depth < MAX_DEPTH:
                pending += [(child, below, depth + 1) for child, below in entry.value]


def _keys(node: yaml.Node | None) -> list[str]:
    return [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []


def child_node(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """Return the value of a mapping's key, or None."""
    found = pair_of(node, key)
    return found[1] if found else None


def pair_of(node: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    """Return a mapping's key node and value node, or None."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == key:
                return name, value
    return None


def _error(file: Path, line: int, problem: str, example: str) -> InventoryError:
    shown = Source(file, "", "", None, "").locate_line(line) if line else str(file)
    return InventoryError("", "", problem, example, shown)
