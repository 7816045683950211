"""The agent imports only what a command needs: a keeper starts before the first fault of many checks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mptcp_lab.paths import AGENT

LIFT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from lab_agent import basics
basics.RUN = Path(sys.argv[2])
from lab_agent.command import main
status = main(["lift", "00000000"])
print(status, *sorted(name for name in sys.modules if name.startswith("lab_agent.")))
"""


def test_lifting_a_fault_imports_no_service(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIFT, str(AGENT), str(tmp_path)], capture_output=True, text=True, check=True
    )
    status, *modules = done.stdout.split()
    assert status == "0"
    assert "lab_agent.faults.undo" in modules
    assert not {f"lab_agent.{name}" for name in ("probe", "capture", "examine", "origin")} & set(modules)
