"""The keeper: a watchdog process on the host that lifts faults when their time is over.

It runs outside the SSH session, so it works without a probe, a network or a controller.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from .basics import AgentError, patient
from .faults.records import FAULTS, fault_lock, lift_fault, read_faults
from .faults.timer import SYSTEMD, program_command
from .files import file_lock
from .tools import notify, run_tool

KEEPER_PERIOD, KEEPER_IDLE = 0.2, 10.0
#: systemd's default for the start of a unit; an emulated host takes a minute to start Python and the keeper.
START_WITHIN = 90.0
KEEPER_PATIENCE = 2.0
UNDO_TRIES = 30


def ensure_keeper() -> None:
    """Start a keeper unless one runs, and wait until it is ready. The caller holds fault_lock.

    Raises AgentError if the keeper does not start.
    """
    try:
        with file_lock(FAULTS / "keeper.lock", 0):
            pass
    except AgentError:
        return  # a keeper holds this lock as long as it runs
    command = [*program_command(), "keeper", f"--patience={patient(1.0):g}"]
    if SYSTEMD.is_dir():
        # systemd restarts the keeper after every crash, without a limit; only exit status 0 is final.
        properties = {
            "Restart": "always",
            "RestartSec": "50ms",
            "StartLimitIntervalSec": "0",
            "RestartPreventExitStatus": "0",
            "TimeoutStartSec": f"{patient(START_WITHIN):.0f}s",
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
    """Lift each fault when its time is over; return after `KEEPER_IDLE` seconds without a fault to lift."""
    if detach and os.fork():
        return 0
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # systemd has set it already; a container may not allow it
        Path("/proc/self/oom_score_adj").write_text("-1000")
    with contextlib.ExitStack() as life:
        try:
            life.enter_context(file_lock(FAULTS / "keeper.lock", 1.0))
        except AgentError:  # another keeper was started while systemd was about to restart this one
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
                # Under the lock no new record can be written: the next fault finds no keeper and starts one.
                if any(record["tries"] < UNDO_TRIES for record in read_faults()):
                    busy = time.monotonic()
                elif time.monotonic() - busy > patient(KEEPER_IDLE):
                    life.close()
                    return 0
            time.sleep(KEEPER_PERIOD)


def lift_main(fault: str) -> int:
    """Lift a fault whose time is over, with up to `UNDO_TRIES` tries; a fault's systemd timer runs this.

    Returns the exit status: 0 if the fault is lifted, else 1.
    """
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
        # An undo that failed is retried: after n failures, the next try is n seconds after the deadline.
        if record["tries"] < UNDO_TRIES and record["deadline"] + record["tries"] <= time.monotonic():
            with contextlib.suppress(AgentError, OSError):
                lift_fault(record["id"], KEEPER_PATIENCE, go_on=True)
