"""Run proxy1 of a configured lab with a program that it builds from source, and with the package's again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.e2e.conftest import BIN, Configured, run_tool
from tests.e2e.debian import Debian, offer, take_back

#: The packages that a build needs; the hosts' own pool has no compiler.
COMPILER = ("gcc", "make", "libc6-dev")


def converge(configured: Configured, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the playbooks that set up proxies, on proxy1 alone."""
    books = ["playbooks/retire.yml", "playbooks/proxies.yml", "--limit=proxy1"]
    return run_tool([str(BIN / "ansible-playbook"), "-i", str(configured.own.folder), *books, *arguments])


def running(configured: Configured, unit: str) -> str:
    """Return the program that a unit of proxy1 runs."""
    main = f"$(systemctl show --property=MainPID --value {unit})"
    return configured.own.ssh("proxy1", f"readlink /proc/{main}/exe").strip()


@contextmanager
def building(configured: Configured, debian: Debian, variables: Mapping[str, Any]) -> Iterator[None]:
    """Give proxy1 these variables, with a compiler in its repository, in the block; undo both after it."""
    ssh_config = configured.own.paths.state / "ssh_config"
    inventory = configured.own.folder / "hosts.yml"
    before = inventory.read_text()
    configured.own.edit(lambda children: children["proxies"]["hosts"]["proxy1"].update(variables))
    try:
        offer(ssh_config, "proxy1", debian.repository(*COMPILER))
        done = converge(configured)
        assert done.returncode == 0, done.stdout
        yield
    finally:
        inventory.write_text(before)
        take_back(ssh_config, "proxy1")
        done = converge(configured)
        assert done.returncode == 0, done.stdout
