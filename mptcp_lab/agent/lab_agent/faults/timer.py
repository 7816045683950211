"""The systemd timer of a fault: it lifts the fault even if no keeper runs any more.

Without systemd there is no timer: the probe then restarts a keeper that has ended.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ..basics import RUN, patient
from ..files import write_whole
from ..tools import TOOL_WITHIN, run_tool

SYSTEMD = Path("/run/systemd/system")


def stored_program() -> Path:
    """Return the path of a copy of this program that stays when this process ends.

    The program may run from a temporary zip file; it is then copied to /run/mptcp-lab/keeper.zip.
    """
    archive = getattr(__spec__.loader, "archive", None)
    if archive is None:
        return Path(__file__).parents[1]
    stored, content = RUN / "keeper.zip", Path(archive).read_bytes()
    if not stored.exists() or stored.read_bytes() != content:
        write_whole(stored, content)
    return stored


def program_command() -> list[str]:
    """Return the command that runs this program independently of the SSH session."""
    return [sys.executable, "-I", "-B", str(stored_program())]


def timer_name(fault: str) -> str:
    """Return the name of a fault's timer unit, without the suffix `.timer`."""
    return f"mptcp-lab-lift-{fault}"


def arm_timer(fault: str, ttl: float) -> None:
    """Start a systemd timer that lifts a fault after `ttl` seconds; do nothing without systemd."""
    if not SYSTEMD.is_dir():
        return
    timer = [f"--on-active={ttl:.3f}s", "--timer-property=AccuracySec=100ms"]
    service = ["--service-type=oneshot", "--property=OOMScoreAdjust=-1000"]
    command = ["systemd-run", "--quiet", "--collect", f"--unit={timer_name(fault)}", *timer, *service]
    run_tool([*command, *program_command(), "lift", fault])


def disarm_timer(fault: str) -> None:
    """Stop a fault's timer; systemd removes one that has elapsed."""
    if SYSTEMD.is_dir():
        argv = ["systemctl", "--quiet", "--no-block", "stop", f"{timer_name(fault)}.timer"]
        subprocess.run(argv, capture_output=True, timeout=patient(TOOL_WITHIN), check=False)
