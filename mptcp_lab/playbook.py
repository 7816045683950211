"""Run lab.yml; all Python code of the project calls Ansible through this module."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mptcp_lab.paths import ROOT

#: Kill the playbook if this process dies; otherwise it would wait for a reader of its output.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")


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
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            **(environment or {}),
        },
        check=False,
    )
