"""Announce addresses with ports, withdraw them, and announce them again (DIRECT-16, DIRECT-19)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NewEndpoint, Origin, eventually
from mptcp_lab.suite.direct.endpoints import (
    QUIET_BYTES,
    SIGNAL,
    SUBFLOW,
    SUBFLOWS_TIMEOUT_S,
    Ends,
    connection,
)
from mptcp_lab.suite.direct.flags import find_announcements, find_withdrawn_ids
from mptcp_lab.suite.direct.several import third_path
from mptcp_lab.suite.expectations import origin_of
from mptcp_lab.suite.packets import rows
from mptcp_lab.suite.rows import check_rows
from mptcp_lab.suite.traffic import Flow

#: The local address of a subflow at the client, its remote address and its remote port.
Subflow = tuple[str, str, int]
#: The counter of SYN/ACKs of joins with the backup bit.
BACKUP_ANSWERS = "MPJoinSynAckBackupRx"


@dataclass(frozen=True)
class AtBothEnds:
    """A connection whose subflows lead to several ports of the server."""

    data: Flow
    origin: Origin
    number: int

    def read_subflows(self) -> set[Subflow]:
        """Return the subflows that both ends have established."""
        here, there = self.data.stream.facts(), self.origin.facts(self.number)
        mine = {(s.local, s.lport, s.remote, s.rport) for s in here.subflows if s.is_established}
        theirs = {(s.remote, s.rport, s.local, s.lport) for s in there.subflows if s.is_established}
        return {(local, remote, port) for local, _, remote, port in mine & theirs}

    def wait_for(self, wanted: set[Subflow], what: str) -> None:
        """Wait until both ends have just these subflows; check that they stay while data flows."""
        eventually(
            self.read_subflows, until=lambda found: found == wanted, within=SUBFLOWS_TIMEOUT_S, what=what
        )
        self.data.wait_for_bytes(QUIET_BYTES)
        after = self.read_subflows()
        assert after == wanted, f"{what}: {sorted(wanted)} became {sorted(after)} unasked"


def find_free_port(machine: Machine, address: str) -> int:
    """Return a port on which nothing listens at an address, and which no connection in TIME-WAIT has.

    The kernel does not listen for an endpoint with a port while a subflow to that port is in TIME-WAIT.
    """
    with machine.probe.listen(address, 0) as listener:
        return listener.port


def check_with_port(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that an address with a port is joined there, and left when it is withdrawn or flushed.

    The server announces its second address with a port for joins only, and the client has an endpoint
    besides. The endpoints are deleted and added again one by one, then flushed at both ends. The withdrawn
    address comes back with another port.
    """
    port, server = origin_of(ends.server).port, ends.server
    first, by_client = (*ends.first, port), (ends.a[1], ends.b[0], port)
    pair = ends.pair_by_route(ends.b[1])
    ends.require_reachable(by_client[:2], pair)
    mine = ends.at_client(SUBFLOW)[1]
    announced = replace(ends.at_server(SIGNAL)[1], port=find_free_port(server, ends.b[1]))
    again = replace(announced, port=find_free_port(server, ends.b[1]))
    before, after = (*pair, announced.port), (*pair, again.port)
    with (
        ends.client.probe.replace_endpoints(mine) as at_client,
        server.probe.replace_endpoints(announced) as at_server,
        connection(ends) as (data, packets),
    ):
        live = AtBothEnds(data, data.origin, data.record().number)
        live.wait_for({first, by_client, before}, "the connection begins")
        at_server.delete(announced)
        live.wait_for({first, by_client}, "the server withdraws the address with its port")
        at_client.delete(mine)
        live.wait_for({first}, "the client's endpoint is deleted")
        at_server.add(again)
        live.wait_for({first, after}, "the server announces the address with another port")
        at_client.add(replace(mine, id=0))  # the join has made an implicit endpoint, which this one replaces
        live.wait_for({first, after, by_client}, "the client's endpoint is added again")
        at_client.flush()
        at_server.flush()
        live.wait_for({first}, "both ends flushed")
    evidence.packets(rows(packets, ends.client.name))
    sent = [(str(each.address), each.port) for each in find_announcements(packets, ends.b)]
    assert sent == [(each.address, each.port) for each in (announced, again)], f"the server announced {sent}"
    assert find_withdrawn_ids(packets, ends.b) == {announced.id}, "the server did not withdraw its address"


def check_several_ports(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that two addresses with ports are joined there: on one port, then on two, as backups.

    The client's kernel counts the backup bit of the answers to its joins, if it can (MPJoinSynAckBackupRx).
    """
    server = ends.server
    with (
        third_path(ends.client, server) as (_, theirs),
        ends.client.probe.replace_endpoints(),
        server.probe.replace_endpoints() as at_server,
        connection(ends) as (data, packets),
    ):
        addresses = {ends.b[1]: server.paths[1].device, str(theirs.address()): theirs.device}
        first, port = (*ends.first, origin_of(server).port), find_free_port(server, ends.b[1])
        one_port = [
            NewEndpoint(to, SIGNAL, number, addresses[to], port) for number, to in enumerate(addresses, 2)
        ]
        two_ports = [
            replace(each, port=find_free_port(server, each.address), flags=(*SIGNAL, "backup"))
            for each in one_port
        ]
        live = AtBothEnds(data, data.origin, data.record().number)
        for endpoints, what in ((one_port, "one port"), (two_ports, "two ports")):
            before = ends.client.probe.counters()
            for each in endpoints:
                at_server.add(each)
            joined = {(*ends.pair_by_route(each.address), each.port) for each in endpoints}
            live.wait_for({first, *joined}, f"two addresses with {what}")
            for each in endpoints:
                at_server.delete(each)
            live.wait_for({first}, f"the server withdraws the addresses with {what}")
        growth = ends.client.probe.counters().delta(before)
    evidence.packets(rows(packets, ends.client.name))
    if growth.has(BACKUP_ANSWERS):
        backups = growth.mptcp(BACKUP_ANSWERS)
        assert backups == len(two_ports), f"{backups} of {len(two_ports)} joins were answered as backups"


def check_port_over_ipv6(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that an IPv6 address with a port is announced and joined if the packets have no timestamps.

    With them, the options of a packet have no room for such an announcement (R61).
    """
    server, client = ends.server, ends.client
    mine, theirs = client.address(0, 6), [server.address(path, 6) for path in (0, 1)]
    announced = NewEndpoint(theirs[1], SIGNAL, 8, server.paths[1].device, find_free_port(server, theirs[1]))
    with (
        client.probe.fault("sysctl", name="net.ipv4.tcp_timestamps", value=0),
        client.probe.replace_endpoints(),
        server.probe.replace_endpoints(announced),
        connection(ends, to=theirs[0], source=mine) as (data, packets),
    ):
        live = AtBothEnds(data, data.origin, data.record().number)
        first, joined = (mine, theirs[0]), ends.pair_by_route(theirs[1])
        port = origin_of(server).port
        live.wait_for({(*first, port), (*joined, announced.port)}, "an IPv6 address with a port")
    evidence.packets(rows(packets, client.name))
    sent = [(str(each.address), each.port) for each in find_announcements(packets, theirs)]
    assert sent == [(announced.address, announced.port)], f"the server announced {sent}"
    check_rows(packets, ("R39", "R42"))
