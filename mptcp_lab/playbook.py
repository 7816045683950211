"""Run lab.yml, in the environment that every call of Ansible from Python code of the project gets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mptcp_lab.paths import ROOT

#: Kill the playbook if this process dies; otherwise it would wait for a reader of its output.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")


def ansible_environment(**variables: str) -> dict[str, str]:
    """Return the environment for a command of Ansible: this process's, with the project's ansible.cfg.

    The locale is UTF-8, because Ansible refuses to run with any other one, such as LC_ALL=C.
    """
    configuration = str(ROOT / "ansible.cfg")
    return {**os.environ, "LC_ALL": "C.UTF-8", "ANSIBLE_CONFIG": configuration, **variables}


def run_lab(
    inventory: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run lab.yml on an inventory with the project's ansible.cfg; return status and output, uncoloured."""
    tool = str(Path(sys.executable).with_name("ansible-playbook"))
    return subprocess.run(
        [*DIES_WITH_US, tool, "-i", inventory, "lab.yml", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=ansible_environment(ANSIBLE_NOCOLOR="1", **(environment or {})),
        check=False,
    )
