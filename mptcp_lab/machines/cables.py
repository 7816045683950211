"""A NIC's cable: how it is pulled and plugged in again, by what the lab is."""

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
from mptcp_lab.labs.command import privileged
from mptcp_lab.labs.lab_paths import lab_paths
from mptcp_lab.paths import ROOT
from mptcp_lab.patience import patient

#: A switch may ask to log in.
WITHIN_SECONDS = 60.0


@dataclass(frozen=True)
class Cable:
    """Two shell commands of this machine: one pulls the cable, the other plugs it in, also when it is in."""

    name: str
    unplug: str
    plug: str


def cable_of(lab: Lab, host: Host, nic: Nic) -> Cable:
    """Return a NIC's cable; `Unsupported` where nobody said how it is pulled."""
    name = f"{host.name} {nic.device}"
    if lab.flavour == "embedded":
        paths, port = lab_paths(lab.name), fabric.find(lab, host.name, nic.device).port
        ip = shlex.join([*privileged(), "ip", "-n", paths.fabric, "link", "set", port])
        return Cable(name, f"{ip} down", f"{ip} up")
    if lab.flavour == "vm":
        module = [sys.executable, "-B", "-m", "mptcp_lab.labs.vms.monitor", lab.name, host.name, nic.device]
        command = f"cd {shlex.quote(str(ROOT))} && {shlex.join([*privileged(), *module])}"
        return Cable(name, f"{command} unplug", f"{command} plug")
    require_cable(lab, host, nic)
    return Cable(name, nic.unplug, nic.plug)


def require_cable(lab: Lab, host: Host, nic: Nic) -> None:
    """Raise `Unsupported` where the inventory has no commands that pull a NIC's cable and plug it in."""
    if not lab.local and not nic.unplug:
        raise Unsupported("cable", f"lab_nics says no unplug and plug commands for {nic.device}", host.name)


def port_states(lab: Lab) -> dict[str, str]:
    """Return the state of each port of the switch, which is ours where the hosts live on this machine."""
    return fabric.port_states(lab_paths(lab.name))


@contextmanager
def pulled(cable: Cable, within: float = WITHIN_SECONDS) -> Iterator[None]:
    """Pull a cable; it is plugged in at the end, even when this process dies on the way.

    A shell in a session of its own waits for standard input to end (that is: for this process to end it, or
    to die) or for `within` seconds, whichever comes first, and then plugs the cable in.
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
        _, said = guard.communicate()
        if guard.returncode:
            problem = f"the cable is still out: `{cable.plug}` said {said.strip()!r}"
            raise LabBroken(problem, cable.name, "plug it in, and see why the command fails")


def pull(cable: Cable) -> None:
    """Run the command that pulls the cable."""
    try:
        done = subprocess.run(
            ["sh", "-c", cable.unplug],
            capture_output=True,
            text=True,
            timeout=patient(WITHIN_SECONDS),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Inconclusive("cable", f"{cable.name}: `{cable.unplug}` does not come to an end") from None
    if done.returncode:
        raise Inconclusive("cable", f"{cable.name}: `{cable.unplug}` said {done.stderr.strip()!r}")
