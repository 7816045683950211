"""Measure and apply patience: the factor by which all waits are multiplied on slow (such as emulated) hosts.

The factor is measured when a lab starts, and stored in the lab's state folder. It is 1.0 on a normal machine,
because all waits are long enough for a busy one. All timeouts and the lifetimes of leases and faults are
multiplied by `patient`. MPTCP_LAB_PATIENCE overrides the factor.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from mptcp_lab.errors import LabError

ENVIRONMENT = "MPTCP_LAB_PATIENCE"
FILE = "patience"
#: Normal durations: to start Python here, to start Python on a host over a new SSH connection, and to open
#: several probes in parallel, for the slowest of the hosts.
PYTHON_S, SSH_PYTHON_S, PROBE_S = 0.02, 0.35, 0.6
#: Up to this many times the normal duration a machine counts as busy, and its factor stays 1.0.
BUSY = 4.0
MOST = 60.0
TRIES = 3
#: Timeout of one measurement; a host that does not answer counts as this slow.
MEASURE_TIMEOUT_S = 120.0
START_PYTHON = ("python3", "-I", "-S", "-c", "pass")

_factor = 1.0


def patient(seconds: float) -> float:
    """Return a wait or a lifetime in seconds, multiplied by this lab's factor."""
    return seconds * factor()


def factor() -> float:
    """Return the factor in use: that of the environment, else the measured one.

    Raises:
        LabError: MPTCP_LAB_PATIENCE is not a number from 1 to MOST.
    """
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
    """Set the measured factor of this process."""
    global _factor  # a process works on one lab only
    _factor = value


def compute_factor(seconds: float, reference: float) -> float:
    """Return the factor for an action that took `seconds`; a normal machine needs `reference` seconds."""
    ratio = seconds / reference
    return 1.0 if ratio <= BUSY else round(min(ratio, MOST), 1)


def measure_this_machine() -> float:
    """Measure the factor of this machine, whose CPUs the hosts of an embedded lab share.

    CPU time counts, not time: a machine that other programs keep busy when a lab comes up is not a slow one.
    """
    return compute_factor(
        fastest([sys.executable, *START_PYTHON[1:]], clock=cpu_seconds_of_children), PYTHON_S
    )


def cpu_seconds_of_children() -> float:
    """Return the CPU time in seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_hosts(ssh_config: Path, hosts: Sequence[str]) -> float:
    """Measure the factor of hosts over SSH, one after the other; the slowest host decides."""
    ssh = ["ssh", "-F", str(ssh_config), "-o", f"ConnectTimeout={MEASURE_TIMEOUT_S:.0f}"]
    return max(
        (compute_factor(fastest([*ssh, host, *START_PYTHON], tries=1), SSH_PYTHON_S) for host in hosts),
        default=1.0,
    )


def fastest(command: Sequence[str], tries: int = TRIES, clock: Callable[[], float] = time.monotonic) -> float:
    """Run a command `tries` times and return the shortest duration in seconds.

    Other load on the machine disturbs the shortest duration least.
    """
    found = []
    for _ in range(tries):
        began = clock()
        with suppress(subprocess.TimeoutExpired):  # the duration is then the timeout
            subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=MEASURE_TIMEOUT_S
            )
        found.append(clock() - began)
    return min(found)


def keep(state: Path) -> None:
    """Write the measured factor, not that of the environment, to a lab's state folder."""
    draft = state / f".{FILE}.{os.getpid()}"
    draft.write_text(f"{_factor}\n")
    draft.replace(state / FILE)


def read_factor(state: Path) -> float | None:
    """Return the factor in a lab's state folder, or None if there is none."""
    try:
        return min(max(1.0, float((state / FILE).read_text())), MOST)
    except (OSError, ValueError):
        return None
