"""Let several endpoints come at once and go one by one, at both ends of a live connection (DIRECT-16)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.inventory.model import Nic
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import EndpointControl, NewEndpoint
from mptcp_lab.suite.direct.endpoints import FULLMESH, SIGNAL, SUBFLOW, Ends, connection
from mptcp_lab.suite.direct.flags import find_withdrawn_ids, wait_for_pairs
from mptcp_lab.suite.direct.spare import spare_nic
from mptcp_lab.suite.expectations import matrix_between
from mptcp_lab.suite.packets import rows
from mptcp_lab.suite.sockets import AddressPair
from mptcp_lab.suite.traffic import Flow

#: The ids of the endpoints that come and go: two of each end.
CLIENT_IDS, SERVER_IDS = (2, 3), (8, 9)


@dataclass(frozen=True)
class Changing:
    """A connection whose endpoints come and go: its first subflow, and the controls of both ends."""

    data: Flow
    first: AddressPair
    at_client: EndpointControl
    at_server: EndpointControl

    def wait_for(self, *pairs: AddressPair, after: str) -> None:
        """Wait until just these subflows are there besides the first one."""
        wait_for_pairs(self.data, {self.first, *pairs}, after)


@contextmanager
def third_path(client: Machine, server: Machine) -> Iterator[tuple[Nic, Nic]]:
    """Bring the client's spare NIC up; yield it, and the server's NIC on its segment.

    Raises:
        Unsupported: there is no spare NIC, or the server has none on its segment.
    """
    mine = spare_nic(client)
    theirs = server.host.nic_on(mine.segment)
    if theirs is None or not theirs.ipv4:
        raise Unsupported("a third path", f"{server.name} has no address on {mine.segment}", client.name)
    with client.probe.fault("link_up", device=mine.device, address=str(mine.address())):
        yield mine, theirs


def check_several(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that two endpoints of each end, added at once, make a subflow each and end it when deleted."""
    ends.require_reachable((ends.a[1], ends.b[0]))
    with (
        third_path(ends.client, ends.server) as (mine, theirs),
        ends.client.probe.replace_endpoints() as at_client,
        ends.server.probe.replace_endpoints() as at_server,
        connection(ends) as (data, packets),
    ):
        live = Changing(data, ends.first, at_client, at_server)
        a = [
            NewEndpoint(ends.a[1], SUBFLOW, CLIENT_IDS[0], ends.client.paths[1].device),
            NewEndpoint(str(mine.address()), SUBFLOW, CLIENT_IDS[1], mine.device),
        ]
        b = [
            NewEndpoint(ends.b[1], SIGNAL, SERVER_IDS[0], ends.server.paths[1].device),
            NewEndpoint(str(theirs.address()), SIGNAL, SERVER_IDS[1], theirs.device),
        ]
        by_client = [(each.address, ends.b[0]) for each in a]
        by_server = [ends.pair_by_route(each.address) for each in b]
        live.wait_for(after="the connection begins")
        for each in a:
            at_client.add(each)
        live.wait_for(*by_client, after="two endpoints of the client are added")
        for each in b:
            at_server.add(each)
        live.wait_for(*by_client, *by_server, after="two endpoints of the server are added")
        at_server.delete(b[0])
        live.wait_for(*by_client, by_server[1], after="one endpoint of the server is deleted")
        at_client.delete(a[0])
        live.wait_for(by_client[1], by_server[1], after="one endpoint of the client is deleted")
        at_server.delete(b[1])
        live.wait_for(by_client[1], after="the other endpoint of the server is deleted")
        at_client.delete(a[1])
        live.wait_for(after="the other endpoint of the client is deleted")
    evidence.packets(rows(packets, ends.client.name))
    for what, addresses, ids in (("client", ends.a, CLIENT_IDS), ("server", ends.b, SERVER_IDS)):
        withdrawn = find_withdrawn_ids(packets, addresses)
        assert withdrawn >= set(ids), f"the {what} withdrew the ids {sorted(withdrawn)}, not {sorted(ids)}"


def check_several_ipv6(ends: Ends, evidence: EvidenceBox) -> None:
    """Check the same over IPv6, until the server flushes its endpoints.

    The server announces an IPv6 and an IPv4 address. One of the client's endpoints is a full mesh.
    """
    mine, theirs = ([m.address(path, 6) for path in (0, 1)] for m in (ends.client, ends.server))
    first = (mine[0], theirs[0])
    by_server = [ends.pair_by_route(address) for address in (theirs[1], ends.b[1])]
    by_client = [(mine[1], theirs[0]), (mine[0], theirs[1])]
    if missing := {*by_client, by_server[0]} - matrix_between(ends.client, ends.server, 6).possible:
        raise Unsupported("IPv6 subflows between two paths", f"{sorted(missing)} do not reach each other")
    devices = [[nic.device for nic in m.paths[:2]] for m in (ends.client, ends.server)]
    a = [
        NewEndpoint(mine[1], SUBFLOW, device=devices[0][1]),
        NewEndpoint(mine[0], FULLMESH, device=devices[0][0]),
    ]
    b = [
        NewEndpoint(address, SIGNAL, identity, devices[1][1])
        for address, identity in zip((theirs[1], ends.b[1]), SERVER_IDS, strict=True)
    ]
    with (
        ends.client.probe.replace_endpoints() as at_client,
        ends.server.probe.replace_endpoints() as at_server,
        connection(ends, to=theirs[0], source=mine[0]) as (data, packets),
    ):
        live = Changing(data, first, at_client, at_server)
        live.wait_for(after="the connection begins")
        for each in b:
            at_server.add(each)
        live.wait_for(*by_server, after="two endpoints of the server are added")
        for each in a:  # a join has made an implicit endpoint of the one address, which this one replaces
            at_client.add(replace(each, id=0))
        live.wait_for(*by_server, *by_client, after="two endpoints of the client are added")
        at_server.flush()
        live.wait_for(by_client[0], after="the server flushed")
    evidence.packets(rows(packets, ends.client.name))
    withdrawn = find_withdrawn_ids(packets, theirs)
    assert withdrawn >= set(SERVER_IDS), f"the server withdrew the ids {sorted(withdrawn)}"
