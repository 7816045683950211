"""What a check left behind: every host's network state, compared with what it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mptcp_lab.embedded import fabric
from mptcp_lab.embedded.place import here
from mptcp_lab.errors import LabBroken, LabError
from mptcp_lab.probe import NetworkState, NeverHappened, changes, eventually
from mptcp_lab.suite.session import Machine, Session

#: What undoes itself (an ARP entry, a socket that closes, a port that forwards again) has this long to do so.
SETTLE_WITHIN_SECONDS = 15.0
#: Faults last half a minute where nobody asks for more.
LIFTED_WITHIN_SECONDS = 90.0
FABRIC = "the fabric"


def no_faults(machines: Session) -> None:
    """Wait until the faults of probes that died are lifted, as their hosts do by themselves."""

    def left() -> list[str]:
        probes = {name: machine.probe for name, machine in machines.machines.items()}
        return [
            f"{name}: {fault['kind']}"
            for name, probe in probes.items()
            for fault in probe.faults()
            if fault["orphan"]
        ]

    try:
        eventually(left, until=lambda found: not found, within=LIFTED_WITHIN_SECONDS)
    except NeverHappened:
        what = f"an earlier run's faults are in force ({'; '.join(left())})"
        raise LabBroken(what, "", "wait until their time is over, then run again") from None


def network_states(machines: Session) -> dict[str, NetworkState]:
    """Return the network state of every host, read side by side, and of the switch where it is ours."""
    pending = {name: machine.probe.start("network_state") for name, machine in machines.machines.items()}
    states: dict[str, NetworkState] = {name: call.read(dict[str, Any]) for name, call in pending.items()}
    if machines.lab.local:
        states[FABRIC] = {"ports": fabric.port_states(here(machines.lab.name))}
    return states


def resolving(machine: Machine, state: NetworkState) -> list[str]:
    """Return which neighbours a machine waits for on the lab's NICs.

    A request that went into a cable that was out fails seconds later (EHOSTUNREACH), and a connection of the
    next check would fail with it.
    """
    words = tuple(f" on {nic.device}" for nic in machine.host.nics)
    return [
        f"{machine.name}: waits for {each} to answer"
        for each in state.get("resolving", [])
        if each.endswith(words)
    ]


def traces(machines: Session, before: Mapping[str, NetworkState]) -> list[str]:
    """Return what differs from before, host by host, in words; waits for what settles by itself."""

    def differences() -> list[str]:
        now = network_states(machines)
        left = [f"{name}: {change}" for name, old in before.items() for change in changes(old, now[name])]
        return left + [
            line for name, machine in machines.machines.items() for line in resolving(machine, now[name])
        ]

    try:
        return eventually(differences, until=lambda found: not found, within=SETTLE_WITHIN_SECONDS)
    except NeverHappened:
        return differences()
    except LabBroken:
        raise  # a host that is gone explains whatever else went wrong
    except LabError as error:
        return [f"could not be compared: {error}"]
