"""Derive the expected state of files on a host from a rendering."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Mapping

from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.lock.document import Host
from mptcp_lab.render import File, Paper


def expected_files(files: Iterable[File]) -> dict[str, dict[str, str]]:
    """Return, by host and path, the expected mode, owner (root) and SHA-256 of each file."""
    expected: dict[str, dict[str, str]] = {}
    for file in files:
        mode = stat.filemode(stat.S_IFREG | int(file.mode, 8))
        digest = hashlib.sha256(file.content.encode()).hexdigest()
        expected.setdefault(file.host, {})[file.path] = f"{mode} 0:0 {digest}"
    return expected


def papers(hosts: Mapping[str, Host]) -> dict[str, Paper]:
    """Return, by host, the observed system and proxy versions that a rendering depends on."""
    return {
        name: Paper(host.system, " ".join(host.tools.get(engine, "") for engine in PROXIES))
        for name, host in hosts.items()
    }
