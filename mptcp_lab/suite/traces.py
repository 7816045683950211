"""Find the traces of a check: compare every host's network state with the state before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from ipaddress import ip_address, ip_interface
from typing import Any

from mptcp_lab.errors import Disturbed, LabBroken, LabError
from mptcp_lab.machines.cables import port_states
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.probe import NetworkState, NeverHappened, changes, eventually

#: How long a change that undoes itself may take: an ARP entry, a socket that closes, a port that forwards
#: again.
SETTLE_WITHIN_SECONDS = 15.0
#: Longer than a fault lasts by default, which is half a minute.
LIFTED_WITHIN_SECONDS = 90.0
FABRIC = "the fabric"
#: How a neighbour is named that a machine waits for.
WAITS, ANSWERS = "waits for ", " to answer"
#: A datagram to the port for discarded data (RFC 863), from one address to another.
DATAGRAM = """import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sender:
    sender.bind((sys.argv[1], 0))
    sender.sendto(b"", (sys.argv[2], 9))"""


def no_faults(machines: Session) -> None:
    """Wait until hosts have lifted the faults of probes that died, as they do when a fault's time is over.

    Raises:
        LabBroken: some of these faults are still in force after `LIFTED_WITHIN_SECONDS`.
    """

    def orphaned_faults() -> list[str]:
        probes = {name: machine.probe for name, machine in machines.machines.items()}
        return [
            f"{name}: {fault['kind']}"
            for name, probe in probes.items()
            for fault in probe.faults()
            if fault["orphan"]
        ]

    try:
        eventually(orphaned_faults, until=lambda found: not found, within=LIFTED_WITHIN_SECONDS)
    except NeverHappened:
        what = f"an earlier run's faults are in force ({'; '.join(orphaned_faults())})"
        raise LabBroken(what, "", "wait until their time is over, then run again") from None


def wait_for_addresses(machines: Session) -> None:
    """Wait until no address is tentative any more (duplicate address detection, RFC 4862 section 5.4).

    On a host that was just booted this takes a second or two; its new local route would count as a trace.

    Raises:
        LabBroken: some addresses are still tentative after `SETTLE_WITHIN_SECONDS`.
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
    """Return the network state of every host, read in parallel, and the switch ports of a local lab."""
    pending = {name: machine.probe.start("network_state") for name, machine in machines.machines.items()}
    states: dict[str, NetworkState] = {name: call.read(dict[str, Any]) for name, call in pending.items()}
    if machines.lab.local:
        states[FABRIC] = {"ports": port_states(machines.lab)}
    return states


def resolving_neighbours(machine: Machine, state: NetworkState) -> list[str]:
    """Return the neighbours that a machine is resolving on the lab's NICs.

    A request that was sent while a cable was out fails seconds later (EHOSTUNREACH), and would make a
    connection of the next check fail.
    """
    words = tuple(f" on {nic.device}" for nic in machine.host.nics)
    return [
        f"{machine.name}: {WAITS}{each}{ANSWERS}"
        for each in state.get("resolving", [])
        if each.endswith(words)
    ]


def wait_for_neighbours(machine: Machine, state: NetworkState, asked: dict[str, bool]) -> list[str]:
    """Return the neighbours to wait for; ask each whose answer has not come once more, by the right address.

    The request that failed may have had the address of another NIC, for an answer of an earlier connection
    that is sent again: no host replies to that, and the next one would hold packets back for seconds too.
    ``asked`` keeps, by neighbour, whether it was asked.
    """
    waiting = resolving_neighbours(machine, state)
    for line in waiting:
        asked.setdefault(line, False)
    due = [line for line, done in asked.items() if not done and line not in waiting]
    for line in due:
        if line.startswith(f"{machine.name}: "):
            asked[line] = True
            neighbour, device = (
                line.removeprefix(f"{machine.name}: {WAITS}").removesuffix(ANSWERS).split(" on ")
            )
            ask_neighbour(machine, neighbour, device)
            waiting.append(line)
    return waiting


def ask_neighbour(machine: Machine, neighbour: str, device: str) -> None:
    """Let a machine send a datagram to a neighbour from its own address on a NIC, so that it is resolved."""
    family = 6 if ":" in neighbour else 4
    addresses = [nic.address(family) for nic in machine.host.nics if nic.device == device]
    if addresses and addresses[0] is not None:
        machine.probe.run(["python3", "-c", DATAGRAM, str(addresses[0]), neighbour])


def advertised_entries(state: NetworkState) -> Iterator[tuple[str, Any]]:
    """Yield every IPv6 address and route from a router advertisement, as (description, entry).

    The description of a local route is empty.
    """
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
    """Return a network state without the addresses and routes from router advertisements.

    They come and go by themselves.
    """
    theirs = [entry for _, entry in advertised_entries(state)]
    if not theirs:
        return state
    addresses = [
        {**link, "addr_info": [each for each in link.get("addr_info", []) if each not in theirs]}
        for link in state["addresses"]
    ]
    routes = [route for route in state["routes6"] if route not in theirs]
    return {**state, "addresses": addresses, "routes6": routes}


def compare(machines: Session, before: Mapping[str, NetworkState], sound: Collection[str]) -> list[str]:
    """Return the traces on the sound hosts (`traces`), and check that no host was disturbed meanwhile.

    One reading of all hosts serves both.

    Raises:
        Disturbed: a router advertisement changed a host.
        LabBroken: a host cannot be reached any more.
    """
    now = dict(before)

    def read_states() -> Mapping[str, NetworkState]:
        now.update(network_states(machines))
        return now

    left = traces(machines, {name: state for name, state in before.items() if name in sound}, read_states)
    check_undisturbed(machines, before, now)
    return left


def check_undisturbed(
    machines: Session, before: Mapping[str, NetworkState], now: Mapping[str, NetworkState]
) -> None:
    """Raise `Disturbed` if a router advertisement changed a host; each change is reported once in a run."""
    found = [
        f"{name}: {what}"
        for name, state in now.items()
        for what in sorted(
            {what for what, _ in advertised_entries(state)}
            - {what for what, _ in advertised_entries(before[name])}
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


def traces(
    machines: Session,
    before: Mapping[str, NetworkState],
    read_states: Callable[[], Mapping[str, NetworkState]],
) -> list[str]:
    """Return the differences from the state before, one text each, once those that undo themselves are gone.

    Changes by router advertisements are not a check's traces: see `check_undisturbed`. If the states cannot
    be compared, the only text is the error.

    Raises:
        LabBroken: a host cannot be reached any more.
    """

    asked: dict[str, bool] = {}

    def differences() -> list[str]:
        now = read_states()
        left = [
            f"{name}: {change}"
            for name, old in before.items()
            for change in changes(without_advertised(old), without_advertised(now[name]))
        ]
        for name, machine in machines.machines.items():
            left += wait_for_neighbours(machine, now[name], asked)
        return left

    try:
        return eventually(differences, until=lambda found: not found, within=SETTLE_WITHIN_SECONDS)
    except NeverHappened:
        return differences()
    except LabBroken:
        raise  # a host that cannot be reached explains every other failure
    except LabError as error:
        return [f"could not be compared: {error}"]
