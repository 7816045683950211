"""Generate ordinary traffic that shows every passive requirement of RFC 8684, captured at both ends.

Each scenario is one event in the life of a connection: it joins, moves data, loses a path, is closed, or
falls back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from mptcp_lab.errors import Breach, Unsupported
from mptcp_lab.inventory.model import Host, Lab
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import Counters, Fault, NeverHappened, eventually
from mptcp_lab.suite.expectations import announcing_nothing, expected_pairs, wait_for_joins
from mptcp_lab.suite.packets import segments
from mptcp_lab.suite.rfc8684.repetition import repeating_soon
from mptcp_lab.suite.traffic import Flow, Target
from mptcp_lab.wire import Analysis, Connection, Segment, analyse
from mptcp_lab.wire.rows import Observation, Outcome, Row

#: A port that no service of the lab uses, for ADD_ADDR with a port.
ANNOUNCED_PORT = 7999
#: The octet of the payload that is changed on the only subflow; a shorter segment passes unchanged. Before
#: Linux 6.18 nf_tables reaches octet 255 of a TCP segment, and the header takes up to 60 of these.
CHANGED_OCTET = 190
WITHIN_SECONDS = 30.0
SOME_BYTES = 100_000


@dataclass(frozen=True)
class End:
    """The capture of one end of the session: its packets to and from the client, numbered from 1."""

    host: str
    packets: tuple[Segment, ...]
    analysis: Analysis
    pcapng: bytes

    @classmethod
    def from_capture(cls, host: str, pcapng: bytes, client: Machine) -> End:
        """Analyse a host's capture, without packets of others than the client, such as a proxy's back leg."""
        mine = {nic.address(family) for nic in client.host.nics for family in (4, 6)}
        found = (each for each in segments(pcapng) if each.src in mine or each.dst in mine)
        packets = tuple(replace(each, number=number) for number, each in enumerate(found, 1))
        return cls(host, packets, analyse(packets, is_whole_end=True), pcapng)

    def select_packets(self, numbers: tuple[int, ...]) -> list[Segment]:
        """Return the packets with these numbers."""
        return [self.packets[number - 1] for number in numbers]


@dataclass(frozen=True)
class Shown:
    """The observation of a requirement on one connection, as one end captured it."""

    end: End
    connection: Connection
    observation: Observation


@dataclass(frozen=True)
class Traffic:
    """The captures of a session from both ends, and the scenarios that did not complete.

    ``unfinished`` has a text for each scenario that failed. ``lacking`` has the error of each scenario that
    the kernels do not support.
    """

    ends: tuple[End, End]
    unfinished: tuple[str, ...] = ()
    lacking: tuple[Unsupported, ...] = ()

    def observations(self, row: Row) -> list[Shown]:
        """Return the observations of a requirement on every connection that shows it, kept or breached."""
        shown = [
            Shown(end, connection, row.check(connection))
            for end in self.ends
            for connection in end.analysis.connections
        ]
        return [each for each in shown if each.observation.outcome is not Outcome.NOT_OBSERVED]


def ordinary_traffic(client: Machine, target: Target) -> Traffic:
    """Run every scenario between a client and a target, one by one; return the captures of both ends."""
    ends = (client, target.machine)
    captures = [machine.probe.capture(machine.devices) for machine in ends]
    unfinished, lacking = list[str](), list[Unsupported]()
    for scenario in SCENARIOS:
        try:
            scenario(client, target)
        except (AssertionError, Breach) as error:
            unfinished.append(f"{scenario.__doc__} But: {error}")
        except Unsupported as error:
            lacking.append(error)
    first, second = (
        End.from_capture(machine.name, capture.stop(), client)
        for machine, capture in zip(ends, captures, strict=True)
    )
    return Traffic((first, second), tuple(unfinished), tuple(lacking))


#: Substitutes for counters that a kernel lacks, which move at nearly the same moment: MPJoinSynAckRx counts a
#: join when it is answered, not when it is sent, and MPJoinSynRx counts a refused join when it arrives.
INSTEAD = {"MPJoinSynTx": "MPJoinSynAckRx", "MPJoinRejected": "MPJoinSynRx"}


def wait_for_growth(machine: Machine, before: Counters, counter: str, times: int = 1) -> None:
    """Wait until a host's MPTCP counter, or else its substitute in `INSTEAD`, has grown by `times`.

    Raises:
        Unsupported: the host's kernel has neither of them.
    """
    if not before.has(counter):
        counter = INSTEAD.get(counter, counter)
    eventually(
        lambda: machine.probe.counters().delta(before).mptcp(counter),
        until=lambda number: number >= times,
        within=WITHIN_SECONDS,
        what=f"{counter} on {machine.name}",
    )


@contextmanager
def _counter_growth(machine: Machine, counter: str, times: int = 1) -> Iterator[None]:
    """Wait at the end of the block until a host's MPTCP counter has grown by `times` since the start."""
    before = machine.probe.counters()
    yield
    wait_for_growth(machine, before, counter, times)


@contextmanager
def _joined_stream(client: Machine, target: Target) -> Iterator[Flow]:
    """Yield a running stream on every expected subflow, and end it when the block ends."""
    with target.flow(client) as data:
        transfer = data.start()
        wait_for_joins(data, expected_pairs(client, target.machine))
        yield data
        data.end(transfer)


def _goes_on(data: Flow) -> None:
    """Wait until `SOME_BYTES` more of a stream have arrived."""
    data.wait_for_bytes(SOME_BYTES, WITHIN_SECONDS)


def _fault(target: Target, kind: str, **params: Any) -> Fault:
    return target.machine.probe.fault(kind, **params)


def _lasts_until(client: Machine, target: Target, machine: Machine, counter: str) -> None:
    """Run a stream until a host's MPTCP counter has grown."""
    before = machine.probe.counters()
    with target.flow(client) as data:
        transfer = data.start()
        wait_for_growth(machine, before, counter)
        data.end(transfer)


def _plain_client(client: Machine, target: Target) -> None:
    """Send data from a client without MPTCP."""
    with target.flow(client, protocol="tcp") as data:
        data.upload(SOME_BYTES)


def _two_at_once(client: Machine, target: Target) -> None:
    """Run two connections at once on all their subflows, and close each one direction after the other."""
    with _joined_stream(client, target) as one, _joined_stream(client, target) as other:
        _goes_on(one)
        _goes_on(other)


def _no_announcements(client: Machine, target: Target) -> None:
    """Announce nothing at the server: the client joins by itself when its data has been acknowledged."""
    with announcing_nothing(target.machine):
        _lasts_until(client, target, client, "MPJoinSynTx")


def _first_path_lost(client: Machine, target: Target) -> None:
    """Drop the first path in the server's firewall for a while: its data goes over the other paths."""
    with _joined_stream(client, target) as data:
        _goes_on(data)
        with _counter_growth(client, "MPTCPRetrans"), _fault(target, "drop", source=client.address(0)):
            _goes_on(data)


def _backup_path(client: Machine, target: Target) -> None:
    """Join the second path as backup, make it regular, and remove the endpoint of its address."""
    address = client.address(1)
    flags = ["subflow", "fullmesh", "backup"]
    with ExitStack() as backup:
        backup.enter_context(client.probe.fault("endpoint_change", address=address, flags=flags))
        with _joined_stream(client, target) as data:
            _goes_on(data)
            with _counter_growth(client, "MPPrioTx"):
                backup.close()
            withdrawn = _counter_growth(target.machine, "RmAddr")
            with withdrawn, client.probe.fault("endpoint_remove", address=address):
                _goes_on(data)


def _checksums(client: Machine, target: Target) -> None:
    """Let the client ask for checksums, then change a payload, with several subflows and with one."""
    first: dict[str, Any] = {"direction": "out", "source": client.address(0), "dport": target.port}
    with client.probe.fault("sysctl", name="net.mptcp.checksum_enabled", value=1):
        failing = _counter_growth(target.machine, "MPFailTx")
        with _joined_stream(client, target) as data, failing, client.probe.fault("flip", **first):
            _goes_on(data)
        _eventually_contiguous(client, target, first)


def _eventually_contiguous(client: Machine, target: Target, flipped: dict[str, Any]) -> None:
    """Change a payload on the only subflow; repeat it, up to twice, if data was sent twice (MPTCPRetrans).

    A connection that has sent data twice before the change does not fall back.
    """
    for last in (False, False, True):
        before = client.probe.counters()
        try:
            _only_path_changed(client, target, flipped)
        except NeverHappened:
            if last or not client.probe.counters().delta(before).mptcp("MPTCPRetrans"):
                raise
        if not client.probe.counters().delta(before).mptcp("MPTCPRetrans"):
            return


def _only_path_changed(client: Machine, target: Target, flipped: dict[str, Any]) -> None:
    with client.probe.fault("limits", subflows=0), target.flow(client) as data:
        transfer = data.start()
        _goes_on(data)
        with (
            _counter_growth(target.machine, "MPFailTx"),
            client.probe.fault("flip", position=CHANGED_OCTET, **flipped),
        ):
            _goes_on(data)
        data.end(transfer)


def _not_to_this_address(client: Machine, target: Target) -> None:
    """Let the server set flag C, which forbids joins to its first address."""
    name = "net.mptcp.allow_join_initial_addr_port"
    with _fault(target, "sysctl", name=name, value=0):
        _lasts_until(client, target, client, "MPJoinSynTx")


def _join_refused(client: Machine, target: Target) -> None:
    """Leave no room for further subflows at the server, which then rejects a join."""
    with _fault(target, "limits", subflows=0):
        _lasts_until(client, target, target.machine, "MPJoinRejected")


def _announced_port(client: Machine, target: Target) -> None:
    """Announce another address of the server with a port, to which the client joins."""
    there = {"address": find_reachable_address(client, target.machine), "port": ANNOUNCED_PORT}
    with _fault(target, "endpoint_add", flags=["signal"], **there):
        _lasts_until(client, target, target.machine, "MPJoinPortAckRx")


def _unreachable_announced(client: Machine, target: Target) -> None:
    """Announce an address of the server at which a firewall rejects joins."""
    address = find_reachable_address(client, target.machine)
    before = client.probe.counters()
    with (
        _fault(target, "reject", destination=address, dport=target.port),
        _fault(target, "endpoint_add", address=address, flags=["signal"]),
        _joined_stream(client, target) as data,
    ):
        _goes_on(data)
    if before.has("MPJoinSynTx"):  # where it is absent, the capture alone shows the join
        asked = client.probe.counters().delta(before).mptcp("MPJoinSynTx")
        assert asked > 0, f"{client.name} sent no join to the announced address {address} (MPJoinSynTx)"


def _announcement_lost(client: Machine, target: Target) -> None:
    """Drop the echo of an announcement on the way, so that the server announces the address again."""
    address = _other_address(target)
    with target.flow(client) as data, ExitStack() as announced:
        data.stream.send(0, header=data.greeting("sink")).wait(5)
        wait_for_joins(data, expected_pairs(client, target.machine))
        before = target.machine.probe.counters()
        with (
            repeating_soon(target.machine),
            client.probe.fault("drop", direction="out", dport=target.port),
            _counter_growth(client, "AddAddr", 2),
        ):
            announced.enter_context(_fault(target, "endpoint_add", address=address, flags=["signal"]))
        wait_for_growth(target.machine, before, "EchoAdd")
        data.stream.shutdown()
        data.stream.receive().wait(WITHIN_SECONDS)


def _abort(client: Machine, target: Target) -> None:
    """Abort the connection at the client while data is in flight."""
    with _counter_growth(target.machine, "MPFastcloseRx"), target.flow(client) as data:
        data.start()
        wait_for_joins(data, expected_pairs(client, target.machine))
        data.stream.close(reset=True)


def _strip_option(client: Machine, target: Target) -> None:
    """Strip the option like a middlebox: from SYN/ACKs at either side, then from data after the handshake."""
    towards: dict[str, Any] = {"direction": "in", "sport": target.port, "packets": "synack"}
    for machine, match in ((target.machine, {**towards, "direction": "out"}), (client, towards)):
        with machine.probe.fault("strip_option", **match), target.flow(client) as data:
            data.upload(SOME_BYTES)
    with (
        announcing_nothing(target.machine),
        target.flow(client) as data,
        _fault(target, "strip_option", direction="in", dport=target.port),
    ):
        data.upload(SOME_BYTES)


def _other_address(target: Target) -> str:
    return find_other_address(target.machine.lab, target.machine.host)


def find_reachable_address(client: Machine, server: Machine) -> str:
    """Return another address of the server, to which the client has a route.

    Without a route a join is sent all the same, from an endpoint's NIC, and the client drops the answer.

    Raises:
        Unsupported: the client has none, as without a gateway, or all addresses of the server are on paths.
    """
    address = find_other_address(server.lab, server.host)
    if client.probe.run(["ip", "-o", "route", "get", address]).returncode:
        raise Unsupported("an address to announce", f"no route to {address}", client.name)
    return address


def find_other_address(lab: Lab, host: Host) -> str:
    """Return an IPv4 address of a server that is not on a path, and so is not one of its endpoints.

    Raises:
        Unsupported: all its IPv4 addresses are on paths.
    """
    paths = lab.path_nics(host)
    others = (nic.address(4) for nic in host.nics if nic.up and nic not in paths)
    if address := next(filter(None, others), None):
        return str(address)
    raise Unsupported("an address to announce", "each of its IPv4 addresses is on a path", host.name)


SCENARIOS: tuple[Callable[[Machine, Target], None], ...] = (
    _plain_client,
    _two_at_once,
    _no_announcements,
    _first_path_lost,
    _backup_path,
    _checksums,
    _not_to_this_address,
    _join_refused,
    _announced_port,
    _unreachable_announced,
    _announcement_lost,
    _abort,
    _strip_option,
)
