"""Running lab.yml: the one way in which our code calls Ansible."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mptcp_lab.paths import ROOT

#: Whoever kills a suite kills the playbook that it runs: left alone, it would wait for its output to be read.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")


def run_lab(
    inventory: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run lab.yml on an inventory with the project's configuration; return its output, without colours."""
    tool = str(Path(sys.executable).with_name("ansible-playbook"))
    return subprocess.run(
        [*DIES_WITH_US, tool, "-i", inventory, "lab.yml", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            **(environment or {}),
        },
        check=False,
    )
