"""A session of ordinary traffic that shows every passive requirement of RFC 8684, captured at both ends.

Each scenario is one habit of a real connection: it joins, moves data, loses a path, is closed, falls back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from mptcp_lab.errors import Breach, Unsupported
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import Counters, Fault, NeverHappened, eventually
from mptcp_lab.suite.expectations import announcing_nothing, expected_pairs, wait_for_joins
from mptcp_lab.suite.packets import segments
from mptcp_lab.suite.traffic import Flow, Target
from mptcp_lab.wire import Analysis, Connection, Segment, analyse
from mptcp_lab.wire.rows import Observation, Outcome, Row

#: A port that no service of the lab uses, for ADD_ADDR with a port.
ANNOUNCED_PORT = 7999
WITHIN_SECONDS = 30.0
SOME_BYTES = 100_000


@dataclass(frozen=True)
class End:
    """What one end of the session saw: its packets to and from the client, numbered from 1."""

    host: str
    packets: tuple[Segment, ...]
    analysis: Analysis
    pcapng: bytes

    @classmethod
    def of(cls, host: str, pcapng: bytes, client: Machine) -> End:
        """Analyse a capture; a proxy's back leg is left out."""
        mine = {nic.address(family) for nic in client.host.nics for family in (4, 6)}
        found = (each for each in segments(pcapng) if each.src in mine or each.dst in mine)
        packets = tuple(replace(each, number=number) for number, each in enumerate(found, 1))
        return cls(host, packets, analyse(packets, is_whole_end=True), pcapng)

    def named(self, numbers: tuple[int, ...]) -> list[Segment]:
        """The packets of these numbers."""
        return [self.packets[number - 1] for number in numbers]


@dataclass(frozen=True)
class Shown:
    """What a connection, as one end saw it, shows of a requirement."""

    end: End
    connection: Connection
    observation: Observation


@dataclass(frozen=True)
class Traffic:
    """A session's captures from both ends, and which scenarios did not come to their end, and why.

    ``lacking`` holds what the kernels lack for the scenarios that could not be followed to their end.
    """

    ends: tuple[End, End]
    unfinished: tuple[str, ...] = ()
    lacking: tuple[Unsupported, ...] = ()

    def of(self, row: Row) -> list[Shown]:
        """Every connection that shows something of a requirement, whether it is kept or breached."""
        shown = [
            Shown(end, connection, row.check(connection))
            for end in self.ends
            for connection in end.analysis.connections
        ]
        return [each for each in shown if each.observation.outcome is not Outcome.NOT_OBSERVED]


def ordinary_traffic(client: Machine, target: Target) -> Traffic:
    """Run every scenario between a client and a target, one by one, and return what both ends saw."""
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
        End.of(machine.name, capture.stop(), client) for machine, capture in zip(ends, captures, strict=True)
    )
    return Traffic((first, second), tuple(unfinished), tuple(lacking))


#: What moves at nearly the same moment, for kernels that lack a counter: joins are counted when they are
#: answered instead of when they are sent, and refused joins when they come in.
INSTEAD = {"MPJoinSynTx": "MPJoinSynAckRx", "MPJoinRejected": "MPJoinSynRx"}


def _moved(machine: Machine, before: Counters, counter: str, times: int = 1) -> None:
    """Wait until a host's MPTCP counter has moved so far; `Unsupported` where its kernel has none like it."""
    if not before.has(counter):
        counter = INSTEAD.get(counter, counter)
    eventually(
        lambda: machine.probe.counters().delta(before).mptcp(counter),
        until=lambda number: number >= times,
        within=WITHIN_SECONDS,
        what=f"{counter} on {machine.name}",
    )


@contextmanager
def _counted(machine: Machine, counter: str, times: int = 1) -> Iterator[None]:
    """Wait at the end of the block until a host's MPTCP counter has moved since its begin."""
    before = machine.probe.counters()
    yield
    _moved(machine, before, counter, times)


@contextmanager
def _joined(client: Machine, target: Target) -> Iterator[Flow]:
    """A stream under way on every expected subflow, ended when the block ends."""
    with target.flow(client) as data:
        transfer = data.start()
        wait_for_joins(data, expected_pairs(client, target.machine))
        yield data
        data.end(transfer)


def _goes_on(data: Flow) -> None:
    """Wait until more of a stream has arrived."""
    data.until_received(SOME_BYTES, WITHIN_SECONDS)


def _fault(target: Target, kind: str, **params: Any) -> Fault:
    return target.machine.probe.fault(kind, **params)


def _lasts_until(client: Machine, target: Target, machine: Machine, counter: str) -> None:
    """A stream that ends when a host's MPTCP counter has moved."""
    before = machine.probe.counters()
    with target.flow(client) as data:
        transfer = data.start()
        _moved(machine, before, counter)
        data.end(transfer)


def _plain_client(client: Machine, target: Target) -> None:
    """A client without MPTCP."""
    with target.flow(client, protocol="tcp") as data:
        data.upload(SOME_BYTES)


def _two_at_once(client: Machine, target: Target) -> None:
    """Two live connections, all their subflows, closed in order, one direction after the other."""
    with _joined(client, target) as one, _joined(client, target) as other:
        _goes_on(one)
        _goes_on(other)


def _no_announcements(client: Machine, target: Target) -> None:
    """The server announces nothing: the client joins by itself when data has been acknowledged."""
    with announcing_nothing(target.machine):
        _lasts_until(client, target, client, "MPJoinSynTx")


def _first_path_lost(client: Machine, target: Target) -> None:
    """The server's firewall drops the first path for a while: its data goes over the others."""
    with _joined(client, target) as data:
        _goes_on(data)
        with _counted(client, "MPTCPRetrans"), _fault(target, "drop", source=client.address(0)):
            _goes_on(data)


def _backup_path(client: Machine, target: Target) -> None:
    """The second path joins as backup, becomes regular, and goes away with its address's endpoint."""
    address = client.address(1)
    flags = ["subflow", "fullmesh", "backup"]
    with ExitStack() as backup:
        backup.enter_context(client.probe.fault("endpoint_change", address=address, flags=flags))
        with _joined(client, target) as data:
            _goes_on(data)
            with _counted(client, "MPPrioTx"):
                backup.close()
            with _counted(client, "RmAddrTx"), client.probe.fault("endpoint_remove", address=address):
                _goes_on(data)


def _checksums(client: Machine, target: Target) -> None:
    """The client asks for checksums; then a payload is changed, with several subflows and with one."""
    first: dict[str, Any] = {"direction": "out", "source": client.address(0), "dport": target.port}
    with client.probe.fault("sysctl", name="net.mptcp.checksum_enabled", value=1):
        failing = _counted(target.machine, "MPFailTx")
        with _joined(client, target) as data, failing, client.probe.fault("flip", **first):
            _goes_on(data)
        _eventually_contiguous(client, target, first)


def _eventually_contiguous(client: Machine, target: Target, flipped: dict[str, Any]) -> None:
    """Change the payload on an only subflow; again where data was sent twice before: then none falls back."""
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
        with _counted(target.machine, "MPFailTx"), client.probe.fault("flip", position=1000, **flipped):
            _goes_on(data)
        data.end(transfer)


def _not_to_this_address(client: Machine, target: Target) -> None:
    """The server sets flag C."""
    name = "net.mptcp.allow_join_initial_addr_port"
    with _fault(target, "sysctl", name=name, value=0):
        _lasts_until(client, target, client, "MPJoinSynTx")


def _join_refused(client: Machine, target: Target) -> None:
    """The server has no room for subflows."""
    with _fault(target, "limits", subflows=0):
        _lasts_until(client, target, target.machine, "MPJoinRejected")


def _announced_port(client: Machine, target: Target) -> None:
    """The server announces another address with a port, and the client joins there."""
    there = {"address": _other_address(target), "port": ANNOUNCED_PORT}
    with _fault(target, "endpoint_add", flags=["signal"], **there):
        _lasts_until(client, target, target.machine, "MPJoinPortAckRx")


def _unreachable_announced(client: Machine, target: Target) -> None:
    """The server announces an address where joins are refused by a firewall."""
    address = _other_address(target)
    before = client.probe.counters()
    with (
        _fault(target, "reject", destination=address, dport=target.port),
        _fault(target, "endpoint_add", address=address, flags=["signal"]),
        _joined(client, target) as data,
    ):
        _goes_on(data)
    if before.has("MPJoinSynTx"):  # where it is absent, the capture alone shows the join
        asked = client.probe.counters().delta(before).mptcp("MPJoinSynTx")
        assert asked > 0, f"{client.name} sent no join to the announced address {address} (MPJoinSynTx)"


def _announcement_lost(client: Machine, target: Target) -> None:
    """The echo of an announcement is lost on the way."""
    address = _other_address(target)
    with target.flow(client) as data:
        data.stream.send(0, header=data.greeting("sink")).wait(5)
        wait_for_joins(data, expected_pairs(client, target.machine))
        before = target.machine.probe.counters()
        with (
            client.probe.fault("drop", direction="out", dport=target.port),
            _counted(target.machine, "AddAddrTx", 2),
        ):
            announced = _fault(target, "endpoint_add", address=address, flags=["signal"])
        with announced:
            _moved(target.machine, before, "EchoAdd")
            data.stream.shutdown()
            data.stream.receive().wait(WITHIN_SECONDS)


def _aborted(client: Machine, target: Target) -> None:
    """The client aborts while data is under way."""
    with _counted(target.machine, "MPFastcloseRx"), target.flow(client) as data:
        data.start()
        wait_for_joins(data, expected_pairs(client, target.machine))
        data.stream.close(reset=True)


def _stripped(client: Machine, target: Target) -> None:
    """A middlebox takes the option out: of SYN/ACKs on either side, then of all after the handshake."""
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
    """An address of the server that is no endpoint of its own."""
    paths = {nic.device for nic in target.machine.paths}
    return next(str(nic.address(4)) for nic in target.machine.host.nics if nic.up and nic.device not in paths)


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
    _aborted,
    _stripped,
)
