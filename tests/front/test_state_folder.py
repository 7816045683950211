"""The folder .lab holds evidence and keys: it is closed to others whoever makes it first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.front.conftest import Checkout
from tests.labs import edit_groups, keep_two_hosts

#: What makes .lab, or passes by; the suite ends with 4, since no lab is up.
FIRST = {
    "validate": (["-m", "mptcp_lab.inventory", "validate", "embedded"], 0),
    "render": (["-m", "mptcp_lab.render", "--inventory", "embedded", "--unvalidated"], 0),
    "suite": (["-m", "pytest", "conformance/", "--hosts=embedded", "--claim=STATE-2"], 4),
    "playbook": ([str(Path(sys.executable).with_name("ansible-playbook")), "lab.yml", "--list-tasks"], 0),
}


@pytest.mark.parametrize("name", FIRST)
def test_nobody_else_may_enter(checkout: Checkout, name: str) -> None:
    words, code = FIRST[name]
    edit_groups(checkout.root / "inventories/embedded", keep_two_hosts)  # rendering takes a time per host
    done = subprocess.run(
        [sys.executable, *words],
        cwd=checkout.root,
        env={**os.environ, "PYTHONPATH": str(checkout.root)},
        umask=0o022,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    state = checkout.root / ".lab"
    assert not state.exists() or state.stat().st_mode & 0o777 == 0o700
    assert state.exists() or name in ("validate", "playbook")
