"""The lock as dataclasses, and as the text of `lab.lock.yml`; only `find_lock_file` and `read` use files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from mptcp_lab.errors import LabError
from mptcp_lab.lock.yaml_text import parse_yaml
from mptcp_lab.text import to_one_line
from mptcp_lab.untrusted import Malformed, Node, read_text

NAME = "lab.lock.yml"
FORMAT = 1
MOST_BYTES = 16 << 20
REWRITE = "run ./lab lock to write it again, from the hosts as they are"


class LockError(LabError):
    """A lock cannot be used; the error has the reason, the path and the next command."""


@dataclass(frozen=True)
class Host:
    """The state of one host; each mapping is from a name to the observed value.

    ``tools`` has the version output of programs, ``packages`` has package versions. ``files`` has mode, owner
    and SHA-256 of the files that the playbooks render, by path. ``settings`` has the lab's sysctls, links,
    addresses, routes, rules, endpoints, limits and nftables tables.
    """

    kernel: str
    system: str
    tools: Mapping[str, str]
    packages: Mapping[str, str]
    files: Mapping[str, str]
    settings: Mapping[str, str]

    def select_files(self, paths: Iterable[str]) -> Host:
        """Return the host with only the files at these paths."""
        return replace(self, files={path: self.files[path] for path in paths if path in self.files})


@dataclass(frozen=True)
class Lock:
    """The state of a lab at one time; ``revision`` is not compared.

    ``tools`` are the controller's, which are not compared either, and the files of a column's kernel, which
    are (`kernel_differences`).
    """

    lab: str
    revision: str
    tools: Mapping[str, str]
    hosts: Mapping[str, Host]

    def check_inventory(self, names: Iterable[str], where: str) -> None:
        """Raise `LockError` if the hosts of the lock are not those of the inventory."""
        here = set(names)
        if here == set(self.hosts):
            return
        parts = {"does not have": sorted(here - set(self.hosts)), "also has": sorted(set(self.hosts) - here)}
        listed = " and ".join(f"{verb} {', '.join(hosts)}" for verb, hosts in parts.items() if hosts)
        raise LockError(f"it is the lock of another inventory ({self.lab}): it {listed}", where, REWRITE)


def find_lock_file(inventory: str) -> Path | None:
    """Return the path of the lock beside an inventory (a folder or a file), or None."""
    source = Path(inventory)
    path = (source if source.is_dir() else source.parent) / NAME
    return path if path.exists() else None


def read(path: Path) -> Lock:
    """Return the lock in a file; raise `LockError` if it cannot be used."""
    try:
        return parse(read_text(path, MOST_BYTES), str(path))
    except Malformed as error:
        raise LockError(f"it cannot be read: {error}", str(path), REWRITE) from None


def dump(lock: Lock) -> str:
    """Return the lock as text; equal locks give equal text. Packages that all hosts share are listed once."""
    hosts = {name: asdict(host) for name, host in lock.hosts.items()}
    everywhere = set.intersection(*(set(host["packages"].items()) for host in hosts.values()))
    for host in hosts.values():
        host["packages"] = dict(set(host["packages"].items()) - everywhere)
    document = {
        "format": FORMAT,
        "lab": lock.lab,
        "revision": lock.revision,
        "tools": dict(lock.tools),
        "packages": dict(everywhere),
        "hosts": hosts,
    }
    head = (
        "# Versions, files and settings of a lab's hosts. Written by ./lab lock; see docs/reproducible.md.\n"
    )
    return f"{head}digest: {_digest(document)}\n" + yaml.safe_dump(document, width=1000, sort_keys=True)


def parse(text: str, where: str) -> Lock:
    """Return the lock in a text; raise `LockError` if it is incomplete, edited, or of a newer format."""
    try:
        document = parse_yaml(text)
    except Malformed as error:
        raise LockError(f"it cannot be read: {error}", where, REWRITE) from None
    if not isinstance(document, dict) or type(document.get("format", 0)) is not int:
        raise LockError("it is not the lock of a lab", where, REWRITE)
    if document.get("format", 0) > FORMAT:
        newer = (
            f"it has format {document['format']}, and this revision of mptcp-lab reads formats up to {FORMAT}"
        )
        wrote = to_one_line(str(document.get("revision")))
        raise LockError(newer, where, f"use the revision that wrote it ({wrote})")
    digest = document.pop("digest", "")
    try:
        lock = _lock(Node(document))
    except Malformed as error:
        raise LockError(f"it was cut short or edited: {error}", where, REWRITE) from None
    if digest != _digest(document):
        raise LockError("it was cut short or edited: its digest does not match its content", where, REWRITE)
    return lock


def _lock(root: Node) -> Lock:
    root.check_keys("format", "lab", "revision", "tools", "packages", "hosts")
    if root["format"].whole_number() != FORMAT:
        raise Malformed(f"there is no format {root['format'].whole_number()}")
    everywhere = root["packages"].texts()
    hosts = {name: _host(host, everywhere) for name, host in root["hosts"].members()}
    if not hosts:
        raise Malformed("it has no hosts")
    return Lock(root["lab"].text(), root["revision"].text(), root["tools"].texts(), hosts)


def _host(node: Node, everywhere: Mapping[str, str]) -> Host:
    node.check_keys(*(field.name for field in fields(Host)))
    return Host(
        kernel=node["kernel"].text(),
        system=node["system"].text(),
        tools=node["tools"].texts(),
        packages={**everywhere, **node["packages"].texts()},
        files=node["files"].texts(),
        settings=node["settings"].texts(),
    )


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(yaml.safe_dump(document, sort_keys=True).encode()).hexdigest()
