"""The systemd timer of a fault: it lifts the fault even if no keeper runs any more.

Without systemd there is no timer: the probe then restarts a keeper that has ended.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from ..basics import RUN, patient
from ..bus import MANAGER, ROOT_PATH, Bus
from ..files import write_whole
from ..tools import run_tool

SYSTEMD = Path("/run/systemd/system")
STARTS_WITHIN_S = 5.0


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
    try:
        with Bus() as bus:
            start_timer(bus, timer_name(fault), ttl, [*program_command(), "lift", fault])
    except OSError:  # an older systemd may refuse a property: its own program knows how to ask
        run_tool(systemd_run(timer_name(fault), ttl, [*program_command(), "lift", fault]))


def systemd_run(name: str, ttl: float, command: list[str]) -> list[str]:
    """Return the command that does the same as `start_timer`."""
    timer = [f"--on-active={ttl:.3f}s", "--timer-property=AccuracySec=100ms"]
    service = ["--service-type=oneshot", "--property=OOMScoreAdjust=-1000"]
    return ["systemd-run", "--quiet", "--collect", f"--unit={name}", *timer, *service, *command]


def start_timer(bus: Bus, name: str, ttl: float, command: list[str]) -> None:
    """Start a transient timer and the service that it starts once; return when the timer is active.

    Raises OSError if systemd refuses, or if the timer is not active in time.
    """
    common = [("Description", ("s", " ".join(command))), ("CollectMode", ("s", "inactive-or-failed"))]
    timer = [
        ("TimersMonotonic", ("a(st)", [("OnActiveSec", int(ttl * 1e6))])),
        ("AccuracyUSec", ("t", 100_000)),
        ("RemainAfterElapse", ("b", False)),
    ]
    service = [
        ("Type", ("s", "oneshot")),
        ("OOMScoreAdjust", ("i", -1000)),
        ("ExecStart", ("a(sasb)", [(command[0], command, False)])),
    ]
    auxiliary = [(f"{name}.service", common + service)]
    unit, signature = f"{name}.timer", "ssa(sv)a(sa(sv))"
    bus.call(ROOT_PATH, MANAGER, "StartTransientUnit", signature, unit, "fail", common + timer, auxiliary)
    deadline = time.monotonic() + patient(STARTS_WITHIN_S)
    while (state := bus.read_state(unit)) != "active":
        if time.monotonic() >= deadline:
            raise OSError(f"{unit} is {state}")
        time.sleep(0.001)


def disarm_timer(fault: str) -> None:
    """Stop a fault's timer; systemd removes one that has elapsed."""
    if not SYSTEMD.is_dir():
        return
    with contextlib.suppress(OSError), Bus() as bus:  # without its fault, a timer that is left does nothing
        bus.call(ROOT_PATH, MANAGER, "StopUnit", "ss", f"{timer_name(fault)}.timer", "replace")
