"""What a check left behind: every host's network state, compared with what it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_interface
from typing import Any

from mptcp_lab.errors import Disturbed, LabBroken, LabError
from mptcp_lab.machines.cables import port_states
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.probe import NetworkState, NeverHappened, changes, eventually

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


def wait_for_addresses(machines: Session) -> None:
    """Wait until no host tries out an address any more (duplicate address detection, RFC 4862 section 5.4).

    A host that was just booted does, for a second or two; its new local route would be taken for a trace.
    """

    def tentative() -> list[str]:
        return [
            f"{name}: {address.get('local')}"
            for name, machine in machines.machines.items()
            for device in machine.probe.read("addresses")
            for address in device.get("addr_info", ())
            if address.get("tentative")
        ]

    try:
        eventually(tentative, until=lambda found: not found, within=SETTLE_WITHIN_SECONDS)
    except NeverHappened:
        what = f"addresses are tentative ({'; '.join(tentative())})"
        raise LabBroken(what, "", "look for another host that has them: ip -6 neighbour") from None


def network_states(machines: Session) -> dict[str, NetworkState]:
    """Return the network state of every host, read side by side, and of the switch where it is ours."""
    pending = {name: machine.probe.start("network_state") for name, machine in machines.machines.items()}
    states: dict[str, NetworkState] = {name: call.read(dict[str, Any]) for name, call in pending.items()}
    if machines.lab.local:
        states[FABRIC] = {"ports": port_states(machines.lab)}
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


def advertised(state: NetworkState) -> Iterator[tuple[str, Any]]:
    """Yield every IPv6 address and route that a router advertisement brought, with its device."""
    networks = []
    for link in state.get("addresses", []):
        for address in link.get("addr_info", []):
            if address.get("family") == "inet6" and address.get("dynamic"):
                networks.append((link["ifname"], ip_interface(f"{address['local']}/{address['prefixlen']}")))
                yield f"address {address['local']}/{address['prefixlen']} on {link['ifname']}", address
    for route in state.get("routes6", []):
        to, device = str(route.get("dst", "")), route.get("dev", "")
        local = route.get("table") == "local" and any(
            device == on and ip_address(to.partition("/")[0]) in of.network for on, of in networks
        )
        if route.get("protocol") == "ra" or local:
            via = f" via {route['gateway']}" if "gateway" in route else ""
            yield ("" if local else f"route {to}{via} on {device}"), route


def without_advertised(state: NetworkState) -> NetworkState:
    """Return a network state without what router advertisements brought, which comes and goes by itself."""
    theirs = [entry for _, entry in advertised(state)]
    if not theirs:
        return state
    addresses = [
        {**link, "addr_info": [each for each in link.get("addr_info", []) if each not in theirs]}
        for link in state["addresses"]
    ]
    routes = [route for route in state["routes6"] if route not in theirs]
    return {**state, "addresses": addresses, "routes6": routes}


def check_undisturbed(machines: Session, before: Mapping[str, NetworkState]) -> None:
    """Raise `Disturbed` when a router advertisement changed a host; each change is named once in a run."""
    now = network_states(machines)
    found = [
        f"{name}: {what}"
        for name, state in now.items()
        for what in sorted(
            {what for what, _ in advertised(state)} - {what for what, _ in advertised(before[name])}
        )
        if what
    ]
    fresh = [line for line in found if line not in machines.disturbances]
    machines.disturbances.update(fresh)
    if fresh:
        raise Disturbed(
            "the network",
            f"router advertisements changed hosts while the check ran ({'; '.join(fresh)})",
            "find the router that sends them, or switch accept_ra off on these NICs",
        )


def traces(machines: Session, before: Mapping[str, NetworkState]) -> list[str]:
    """Return what differs from before, host by host, in words; waits for what settles by itself.

    What router advertisements bring is no trace of a check: see `check_undisturbed`.
    """

    def differences() -> list[str]:
        now = network_states(machines)
        left = [
            f"{name}: {change}"
            for name, old in before.items()
            for change in changes(without_advertised(old), without_advertised(now[name]))
        ]
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
