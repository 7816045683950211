"""Whether the hosts are what the playbooks say: a run in check mode, and what it would change."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from mptcp_lab.errors import LabBroken
from mptcp_lab.inventory.load import ROOT

RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", re.MULTILINE)
CHANGED = re.compile(r"^changed: \[(\S+?)\]", re.MULTILINE)


def rehearsal(inventory: str) -> str:
    """Run lab.yml in check mode with differences, which touches nothing; return what Ansible printed."""
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        inventory,
        "lab.yml",
        "--check",
        "--diff",
    ]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    if done.returncode != 0 or not RECAP.search(done.stdout):
        end = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
        raise LabBroken(
            f"lab.yml --check fails:\n{end}", inventory, f"ansible-playbook -i {inventory} lab.yml"
        )
    return done.stdout


def differences(printed: str) -> list[str]:
    """Return what a rehearsal would change: ``host: task``, with the first lines that differ."""
    found, task, lines = [], "", list[str]()
    for line in printed.splitlines():
        if line.startswith("TASK ["):
            task, lines = line.removeprefix("TASK [").rstrip("* ").rstrip("]"), []
        elif re.match(r"[+-]", line):
            lines.append(line)
        elif match := CHANGED.match(line):
            found.append(f"{match[1]}: {task}" + (f" ({' '.join(lines[:6])})" if lines else ""))
            lines = []
    return found
