"""One factor of patience: how much longer waits are on a lab whose hosts are slow, for example emulated.

It is measured when the lab comes up and kept in the lab's state. A normal machine has 1.0: waits are written
with room for a busy one. Every timeout goes through `patient`, and so do the lifetimes of leases and faults.
MPTCP_LAB_PATIENCE overrides the factor.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from mptcp_lab.errors import LabError

ENVIRONMENT = "MPTCP_LAB_PATIENCE"
FILE = "patience"
#: What a normal machine takes to start Python, and to do so on a host over a new SSH connection; and what the
#: slowest host takes to start a probe, of several that are opened side by side.
PYTHON_S, SSH_PYTHON_S, PROBE_S = 0.02, 0.35, 0.6
#: Up to this many times the normal time a machine is only busy, and waits have room for that.
BUSY = 4.0
MOST = 60.0
TRIES = 3
#: A host that does not answer in this time is not measured.
MEASURE_TIMEOUT_S = 120.0
START_PYTHON = ("python3", "-I", "-S", "-c", "pass")

_factor = 1.0


def patient(seconds: float) -> float:
    """Return a wait, or a lifetime, in this lab's measure."""
    return seconds * factor()


def factor() -> float:
    """Return the factor in use: the environment's, else the one that was measured."""
    given = os.environ.get(ENVIRONMENT)
    if not given:
        return _factor
    try:
        value = float(given)
    except ValueError:
        value = 0.0
    if not 1.0 <= value <= MOST:
        raise LabError(
            f"{given!r} is not a factor from 1 to {MOST:g}",
            f"environment: {ENVIRONMENT}",
            f"unset {ENVIRONMENT}",
        )
    return value


def use(value: float) -> None:
    """Use a factor from now on in this process."""
    global _factor  # one process works on one lab
    _factor = value


def judged(seconds: float, reference: float) -> float:
    """Return the factor for something that takes `seconds`, and `reference` seconds on a normal machine."""
    ratio = seconds / reference
    return 1.0 if ratio <= BUSY else round(min(ratio, MOST), 1)


def of_this_machine() -> float:
    """Measure this machine, on whose processors the hosts of an embedded lab run."""
    return judged(fastest([sys.executable, *START_PYTHON[1:]]), PYTHON_S)


def of_hosts(ssh_config: Path, hosts: Sequence[str]) -> float:
    """Measure hosts over SSH, one after the other; the slowest decides."""
    ssh = ["ssh", "-F", str(ssh_config), "-o", f"ConnectTimeout={MEASURE_TIMEOUT_S:.0f}"]
    return max(
        (judged(fastest([*ssh, host, *START_PYTHON], tries=1), SSH_PYTHON_S) for host in hosts), default=1.0
    )


def fastest(command: Sequence[str], tries: int = TRIES, clock: Callable[[], float] = time.monotonic) -> float:
    """Run a command some times; return the shortest time, which other work on the machine disturbs least."""
    found = []
    for _ in range(tries):
        began = clock()
        with suppress(subprocess.TimeoutExpired):  # then it took that long
            subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=MEASURE_TIMEOUT_S
            )
        found.append(clock() - began)
    return min(found)


def keep(state: Path) -> None:
    """Write the factor that was measured, not the environment's, to a lab's state folder."""
    draft = state / f".{FILE}.{os.getpid()}"
    draft.write_text(f"{_factor}\n")
    draft.replace(state / FILE)


def kept(state: Path) -> float | None:
    """Return the factor in a lab's state folder, or None where none was kept."""
    try:
        return min(max(1.0, float((state / FILE).read_text())), MOST)
    except (OSError, ValueError):
        return None
