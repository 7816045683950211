"""Find the file and line where a host's variable is set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import yaml

from mptcp_lab.inventory.sources import Source, child_node, pair_of

STEP = re.compile(r"[^.\[\]]+|\[\d+\]")


def locate(sources: Sequence[Source], host: str, variable: str) -> str:
    """Return ``file:line`` of a variable such as ``lab_nics[0].ipv4``, or the empty string.

    The search order is: files in host_vars, the host's entry in a list of hosts, groups. If the variable is
    missing, the location is that of the host.
    """
    steps = [step.strip("[]") for step in STEP.findall(variable)]
    places = list(_places(sources, host))
    for source, node in places:
        line = _line(node, steps)
        if line is not None:
            return source.locate_line(line)
    for source, name in _host_keys(sources, host):
        return source.locate_line(name.start_mark.line + 1)
    return _ini_line(sources, host, steps[0] if steps else host)


def _places(sources: Sequence[Source], host: str) -> Iterator[tuple[Source, yaml.Node]]:
    """Yield the mappings that may set a host's variable, the most specific first."""
    for source in sources:
        if source.kind == "host_vars" and source.owner == host and source.node is not None:
            yield source, source.node
    for source, group in _groups(sources):
        if isinstance(entry := child_node(child_node(group, "hosts"), host), yaml.MappingNode):
            yield source, entry
    for source, group in _groups(sources):
        if isinstance(entry := child_node(group, "vars"), yaml.MappingNode):
            yield source, entry
    for source in sources:
        if source.kind == "group_vars" and source.node is not None:
            yield source, source.node


def _host_keys(sources: Sequence[Source], host: str) -> Iterator[tuple[Source, yaml.Node]]:
    for source, group in _groups(sources):
        if found := pair_of(child_node(group, "hosts"), host):
            yield source, found[0]


def _groups(sources: Sequence[Source]) -> Iterator[tuple[Source, yaml.Node]]:
    for source in sources:
        if source.kind == "hosts" and isinstance(source.node, yaml.MappingNode):
            pending = [value for _, value in source.node.value]
            while pending:
                group = pending.pop(0)
                yield source, group
                below = child_node(group, "children")
                if isinstance(below, yaml.MappingNode):
                    pending += [value for _, value in below.value]


def _line(node: yaml.Node, steps: Sequence[str]) -> int | None:
    """Return the line of the deepest existing part of a variable; None if even its first part is missing."""
    line = None
    for step in steps:
        if found := pair_of(node, step):
            name, node = found
            line = name.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and step.isdigit() and int(step) < len(node.value):
            node = node.value[int(step)]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _ini_line(sources: Sequence[Source], host: str, word: str) -> str:
    """Return ``file:line`` of the variable's first occurrence in an INI file, or else of the host's."""
    for wanted in (word, host):
        for source in sources:
            if source.kind == "hosts" and source.node is None:
                for number, text in enumerate(source.text.splitlines(), 1):
                    if re.search(rf"(?<![\w-]){re.escape(wanted)}(?![\w-])", text):
                        return source.locate_line(number)
    return ""
