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

from .basics import RUN, AgentError
from .fault_records import FAULTS, fault_lock, lift_fault, read_faults
from .files import file_lock
from .tools import notify, run_tool

KEEPER_PERIOD, KEEPER_IDLE = 0.2, 10.0
KEEPER_PATIENCE = 2.0
UNDO_TRIES = 30


def program_for_a_keeper() -> Path:
    """This program, where it stays when this process ends: it may have come as a zip in memory."""
    archive = getattr(__spec__.loader, "archive", None)
    if archive is None:
        return Path(__file__).parents[1]
    kept = RUN / "keeper.zip"
    kept.write_bytes(Path(archive).read_bytes())
    return kept


def ensure_keeper() -> None:
    """Start a keeper unless one runs, and wait until it does. The caller holds fault_lock."""
    try:
        with file_lock(FAULTS / "keeper.lock", 0):
            pass
    except AgentError:
        return  # a keeper holds it for as long as it lives
    python = [sys.executable, "-I", "-B", str(program_for_a_keeper())]
    if Path("/run/systemd/system").is_dir():
        unit = [
            "systemd-run",
            "--quiet",
            "--collect",
            "--service-type=notify",
            "--property=Restart=on-failure",
        ]
        run_tool([*unit, f"--unit=mptcp-lab-keeper-{os.urandom(4).hex()}", *python, "keeper"])
        return
    starter = subprocess.Popen(
        [*python, "keeper", "--detach"],
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
    with contextlib.ExitStack() as life:
        life.enter_context(file_lock(FAULTS / "keeper.lock", 1.0))
        notify("READY=1")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        busy = time.monotonic()
        while True:
            _lift_due()
            with fault_lock(KEEPER_PATIENCE, go_on=True):
                if any(record["tries"] < UNDO_TRIES for record in read_faults()):
                    busy = time.monotonic()
                elif time.monotonic() - busy > KEEPER_IDLE:
                    life.close()  # while no record can be written: the next fault will find no keeper
                    return 0
            time.sleep(KEEPER_PERIOD)


def _lift_due() -> None:
    for record in read_faults():
        # an undo that failed is tried again, a second later each time
        if record["tries"] < UNDO_TRIES and record["deadline"] + record["tries"] <= time.monotonic():
            with contextlib.suppress(AgentError, OSError):
                lift_fault(record["id"], KEEPER_PATIENCE, go_on=True)
