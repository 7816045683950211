"""The dead-man: a process that lifts faults when their time is over.

It is a process of its own, outside the SSH session: it needs no probe, no network, no controller.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from .basics import AgentError
from .faults.records import FAULTS, fault_lock, lift_fault, read_faults
from .faults.timer import SYSTEMD, program_command
from .files import file_lock
from .tools import notify, run_tool

KEEPER_PERIOD, KEEPER_IDLE = 0.2, 10.0
KEEPER_PATIENCE = 2.0
UNDO_TRIES = 30


def ensure_keeper() -> None:
    """Start a keeper unless one runs, and wait until it does. The caller holds fault_lock."""
    try:
        with file_lock(FAULTS / "keeper.lock", 0):
            pass
    except AgentError:
        return  # a keeper holds it for as long as it lives
    command = [*program_command(), "keeper"]
    if SYSTEMD.is_dir():
        # It is started again however it ended and however often; only its own exit, with 0, is final.
        properties = {
            "Restart": "always",
            "RestartSec": "50ms",
            "StartLimitIntervalSec": "0",
            "RestartPreventExitStatus": "0",
            "OOMScoreAdjust": "-1000",
        }
        unit = ["systemd-run", "--quiet", "--collect", "--service-type=notify"]
        unit += [f"--property={name}={value}" for name, value in properties.items()]
        run_tool([*unit, f"--unit=mptcp-lab-keeper-{os.urandom(4).hex()}", *command])
        return
    starter = subprocess.Popen(
        [*command, "--detach"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    out, _ = starter.communicate()
    if out != b"ready\n":
        raise AgentError(
            "keeper", "the keeper that would lift the fault did not start; the fault is not applied"
        )


def keeper_main(detach: bool) -> int:
    """Lift every fault when its time is over; end when there has been none for a while."""
    if detach and os.fork():
        return 0
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # systemd has done so already; a container may not allow it
        Path("/proc/self/oom_score_adj").write_text("-1000")
    with contextlib.ExitStack() as life:
        try:
            life.enter_context(file_lock(FAULTS / "keeper.lock", 1.0))
        except AgentError:  # another one was started while systemd was about to start this one again
            notify("READY=1")
            return 0
        notify("READY=1")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        busy = time.monotonic()
        while True:
            _lift_due()
            with fault_lock(KEEPER_PATIENCE, go_on=True):
                # Counted while no record can be written: the next fault will find no keeper.
                if any(record["tries"] < UNDO_TRIES for record in read_faults()):
                    busy = time.monotonic()
                elif time.monotonic() - busy > KEEPER_IDLE:
                    life.close()
                    return 0
            time.sleep(KEEPER_PERIOD)


def lift_main(fault: str) -> int:
    """Lift a fault whose time is over, again and again if that fails; the command of a fault's timer."""
    for _ in range(UNDO_TRIES):
        try:
            lift_fault(fault, KEEPER_PATIENCE, go_on=True)
        except (AgentError, OSError) as error:
            sys.stderr.write(f"fault {fault} is not lifted yet: {error}\n")
            time.sleep(1.0)
        else:
            return 0
    return 1


def _lift_due() -> None:
    for record in read_faults():
        # an undo that failed is tried again, a second later each time
        if record["tries"] < UNDO_TRIES and record["deadline"] + record["tries"] <= time.monotonic():
            with contextlib.suppress(AgentError, OSError):
                lift_fault(record["id"], KEEPER_PATIENCE, go_on=True)
