"""Render every configuration that the playbooks would write, without contacting a host.

`render` runs lab.yml itself in check mode, against simulated hosts ("on paper"). No Ansible module runs: each
call gets one fixed JSON document per host as its answer. Templates, variables and refusals are those of a
real run. The facts that a role would read from a host (NetworkManager, an existing mptcpd) are those of a
newly installed host.
"""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mptcp_lab.errors import LabError
from mptcp_lab.inventory.model import Host, Lab
from mptcp_lab.paths import ROOT
from mptcp_lab.playbook import run_lab

__all__ = ["File", "Paper", "paper_host", "render"]
#: System of a simulated host if no other is known: the name of a file in roles/system/systems.
SYSTEM = "debian-13"


@dataclass(frozen=True)
class Paper:
    """The assumed facts of a simulated host.

    ``system`` is a name in roles/system/systems; ``versions`` is what the proxies print about their versions.
    """

    system: str = SYSTEM
    versions: str = ""


@dataclass(frozen=True, order=True)
class File:
    """A file that a host would get: the absolute path there, the mode as an octal number, the text."""

    host: str
    path: str
    mode: str
    content: str


def render(lab: Lab, known: Mapping[str, Paper] | None = None) -> list[File]:
    """Return the files that lab.yml would write, in order of host and path.

    ``known`` has the facts of hosts by name. For other hosts, the inventory's lab_render_system and
    lab_render_versions apply; the default is Debian 13 with proxies that have no option for MPTCP.

    Raises:
        LabError: lab.yml does not run, or a task refuses; the error quotes the task's message.
    """
    with tempfile.TemporaryDirectory(prefix="mptcp-lab-paper-") as folder:
        for host in lab.hosts.values():
            paper_host(Path(folder, host.name), host, (known or {}).get(host.name) or _stated_facts(host))
        printed = _rehearse(lab, Path(folder))
    return sorted({(file.host, file.path): file for file in _files(lab, printed)}.values())


def _stated_facts(host: Host) -> Paper:
    """Return the facts that the inventory states for a host, which only renderings use."""
    says = host.variables.get
    return Paper(str(says("lab_render_system", SYSTEM)), str(says("lab_render_versions", "")))


def paper_host(folder: Path, host: Host, paper: Paper) -> None:
    """Write the interpreter of a simulated host: it ignores the module and prints one fixed answer."""
    found = {
        "system": paper.system,
        "name": paper.system,
        "versions": paper.versions,
        "architecture": "amd64",
        "kernel": "",
        "lacking": [],
        "container": False,
        "profile": "upstream",
        "settings": [],  # the kernel is not known: all requested settings count as present
        "socket_error": "",
        "devices": [nic.device for nic in host.nics],
        "management": [],
        "mptcpd": "",
        "network_manager": False,
        "packages": [],
        "recorded": False,
        "owners": [],
        "lease": "",
    }
    kernel = {"missing": [], "running": "", "wanted": "", "entries": []}  # the answer of `boot_kernel`
    answer = {
        "changed": False,
        "rc": 0,
        "state": "absent",
        "stat": {"exists": False},
        "found": found,
        "units": {},
        **kernel,
    }
    facts = {"ansible_pkg_mgr": "dnf4"}  # only the dnf module reads this
    folder.mkdir()
    (folder / "answer.json").write_text(
        json.dumps({**answer, "ansible_facts": facts, "stdout": json.dumps(found)})
    )
    interpreter = folder / "python"
    interpreter.write_text(f"#!/bin/sh\ncat >/dev/null\ncat {shlex.quote(str(folder))}/answer.json\n")
    interpreter.chmod(0o700)


def _rehearse(lab: Lab, folder: Path) -> str:
    """Run lab.yml against the simulated hosts in a folder; return the output of callback plugin `render`."""
    variables = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": f"{folder}/{{{{ inventory_hostname }}}}/python",
        "lab_lock": "",
    }
    environment = {
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "plugins/callback"),
        "ANSIBLE_STDOUT_CALLBACK": "render",
    }
    arguments = ("--check", "-e", json.dumps(variables))
    done = run_lab(lab.source, *arguments, environment=environment)
    if done.returncode and '"failed"' not in done.stdout:
        raise LabError(
            f"lab.yml failed: {done.stderr.strip()}", lab.source, "ansible-playbook lab.yml --check"
        )
    return done.stdout


def _files(lab: Lab, printed: str) -> Iterator[File]:
    for line in printed.splitlines():
        printed_file: dict[str, Any] = json.loads(line)
        if "failed" in printed_file:
            raise LabError(
                f"lab.yml fails on {printed_file['host']}: {printed_file['failed']}",
                lab.source,
                "correct the variable or the template that it names, then run the command again",
            )
        yield File(**printed_file)
