"""Pull a NIC's cable and plug it in again, by the means of the lab's flavour."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mptcp_lab.errors import Inconclusive, LabBroken, Unsupported
from mptcp_lab.inventory.model import Host, Lab, Nic
from mptcp_lab.labs import fabric
from mptcp_lab.labs.command import root_prefix
from mptcp_lab.labs.executor import executor_of
from mptcp_lab.labs.lab_paths import lab_paths
from mptcp_lab.paths import ROOT
from mptcp_lab.patience import patient

#: Timeout in seconds of one cable command, and the longest time that a cable stays out. It leaves time to
#: log in to a switch.
WITHIN_SECONDS = 60.0


@dataclass(frozen=True)
class Cable:
    """Two shell commands for the controller: `unplug` and `plug`, which is a no-op if the cable is in."""

    name: str
    unplug: str
    plug: str


def cable_of(lab: Lab, host: Host, nic: Nic) -> Cable:
    """Return a NIC's cable.

    Raises:
        Unsupported: a NIC of a hardware lab has no unplug and plug commands in the inventory.
    """
    name = f"{host.name} {nic.device}"
    if lab.flavour == "embedded":
        paths, port = lab_paths(lab.name), fabric.find(lab, host.name, nic.device).port
        down, up = (
            shlex.join(executor_of(paths).command("ip", "-n", paths.fabric, "link", "set", port, state))
            for state in ("down", "up")
        )
        return Cable(name, down, up)
    if lab.flavour == "vm":
        module = [sys.executable, "-B", "-m", "mptcp_lab.labs.vms.monitor", lab.name, host.name, nic.device]
        command = f"cd {shlex.quote(str(ROOT))} && {shlex.join([*root_prefix(), *module])}"
        return Cable(name, f"{command} unplug", f"{command} plug")
    require_cable(lab, host, nic)
    return Cable(name, nic.unplug, nic.plug)


def require_cable(lab: Lab, host: Host, nic: Nic) -> None:
    """Raise `Unsupported` where the inventory has no commands that pull a NIC's cable and plug it in."""
    if not lab.local and not nic.unplug:
        raise Unsupported("cable", f"lab_nics has no unplug and plug commands for {nic.device}", host.name)


def port_states(lab: Lab) -> dict[str, str]:
    """Return the state of each switch port; only for labs whose hosts run on this machine."""
    return fabric.port_states(lab_paths(lab.name))


@contextmanager
def cable_out(cable: Cable, within: float = WITHIN_SECONDS) -> Iterator[None]:
    """Pull a cable, and plug it in at the end of the block, even if this process is killed.

    A watchdog shell in a separate session plugs the cable in when its standard input closes (because the
    block ended or this process died), or after `within` seconds, whichever comes first.

    Raises:
        Inconclusive: the unplug command failed or did not finish in time.
        LabBroken: the plug command failed, so the cable is still out.
    """
    guard = subprocess.Popen(
        ["sh", "-c", f"trap '' INT HUP; timeout {patient(within)} cat; {cable.plug}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        pull(cable)
        yield
    finally:
        was_early = guard.poll() is not None  # perhaps before the unplug command had ended
        _, said = guard.communicate()
        code = guard.returncode
        if was_early:
            again = subprocess.run(["sh", "-c", cable.plug], capture_output=True, text=True, check=False)
            code, said = again.returncode, again.stderr
        if code:
            problem = f"the cable is still out: `{cable.plug}` failed with {said.strip()!r}"
            raise LabBroken(problem, cable.name, "plug it in by hand, and run the command again")


def pull(cable: Cable) -> None:
    """Run the command that pulls the cable; raise `Inconclusive` if it fails or times out."""
    try:
        done = subprocess.run(
            ["sh", "-c", cable.unplug],
            capture_output=True,
            text=True,
            timeout=patient(WITHIN_SECONDS),
            check=False,
        )
    except subprocess.TimeoutExpired:
        problem = f"{cable.name}: `{cable.unplug}` did not finish within {patient(WITHIN_SECONDS):g} s"
        raise Inconclusive("cable", problem) from None
    if done.returncode:
        raise Inconclusive("cable", f"{cable.name}: `{cable.unplug}` failed with {done.stderr.strip()!r}")
