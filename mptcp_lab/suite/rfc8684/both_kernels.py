"""Set options of MPTCP at one end or both, and check what the packets between two kernels show."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NewEndpoint
from mptcp_lab.suite.direct.both_ends import served_client, server_listeners
from mptcp_lab.suite.direct.endpoints import SIGNAL, SUBFLOW, Ends, connection
from mptcp_lab.suite.direct.flags import UNREACHABLE, find_announcements, wait_for_pairs
from mptcp_lab.suite.direct.live import check_exchange
from mptcp_lab.suite.expectations import origin_of
from mptcp_lab.suite.packets import capable, format_segments, rows, tcp_capture
from mptcp_lab.suite.rfc8684.closing import check_aborted
from mptcp_lab.suite.rfc8684.ordinary import wait_for_growth
from mptcp_lab.suite.rfc8684.repetition import repeating_soon
from mptcp_lab.suite.rows import check_rows
from mptcp_lab.suite.traffic import flow
from mptcp_lab.wire import Dss, MpCapable

CHECKSUMS, JOINS_ALLOWED = "net.mptcp.checksum_enabled", "net.mptcp.allow_join_initial_addr_port"
FLAG_C = 0x20


@contextmanager
def _set(machines: Collection[Machine], name: str, value: int) -> Iterator[None]:
    with ExitStack() as stack:
        for machine in machines:
            stack.enter_context(machine.probe.fault("sysctl", name=name, value=value))
        yield


def check_checksums(
    client: Machine, server: Machine, asking: Collection[Machine], evidence: EvidenceBox
) -> None:
    """Check that every mapping has a checksum, both ways, if these machines ask for it."""
    with (
        _set(asking, CHECKSUMS, 1),
        server_listeners(server) as listeners,
        tcp_capture(client, listeners[0].port) as capture,
        served_client(client, server, listeners) as found,
    ):
        check_exchange(found, "with checksums")
        packets = capture.stop()
    evidence.packets(rows(packets, client.name))
    for machine in (client, server):
        mine = {str(nic.address()) for nic in machine.paths}
        mapped = [s for s in packets if str(s.src) in mine for o in s.options if isinstance(o, Dss) and o.dsn]
        assert mapped, f"no mapping of {machine.name} was captured"
        bare = [s for s in mapped for o in s.options if isinstance(o, Dss) and o.dsn and o.checksum is None]
        assert not bare, f"mappings of {machine.name} without a checksum: {format_segments(bare)}"
    check_rows(packets, ["R15"])


def check_joins_of_forbidding_client(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that a client which forbids joins to its own address (flag C) joins the server as ever."""
    second, third = (ends.a[1], ends.b[0]), ends.pair_by_route(ends.b[1])
    ends.require_reachable(second, third)
    with (
        _set([ends.client], JOINS_ALLOWED, 0),
        ends.client.probe.replace_endpoints(ends.at_client(SUBFLOW)[1]),
        ends.server.probe.replace_endpoints(ends.at_server(SIGNAL)[1]),
        connection(ends) as (data, packets),
    ):
        wait_for_pairs(data, {ends.first, second, third}, "the client forbids joins to its first address")
    evidence.packets(rows(packets, ends.client.name))
    flags = {o.flags for s in packets if capable(s) for o in s.options if isinstance(o, MpCapable)}
    assert any(each & FLAG_C for each in flags), f"flags of MP_CAPABLE: {sorted(flags)}, none with C"


def check_aborted_by_server(client: Machine, server: Machine) -> None:
    """Check that a client learns by MP_FASTCLOSE that the server has aborted the connection."""
    before = client.probe.counters()
    with server_listeners(server) as listeners, served_client(client, server, listeners) as found:
        check_exchange(found, "before the abort")
        found.accepted.close(reset=True)
        wait_for_growth(client, before, "MPFastcloseRx")
        check_aborted(found.stream)


def check_announced_again(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Check that each of several announcements over IPv6 is sent again while no echo comes.

    One of the addresses can be joined; no host has the other one, which is IPv4.
    """
    origin, to = origin_of(server), server.address(0, 6)
    endpoints = [
        NewEndpoint(server.address(1, 6), SIGNAL, 8, server.paths[1].device),
        NewEndpoint(UNREACHABLE[7], SIGNAL, 9),
    ]
    with (
        client.probe.replace_endpoints(),
        server.probe.replace_endpoints() as at_server,
        flow(client, to, origin.port, server, origin) as data,
        tcp_capture(server, origin.port) as capture,
    ):
        data.stream.send(0, header=data.greeting("sink")).wait(5)
        data.record()
        before, arrived = server.probe.counters(), client.probe.counters()
        with repeating_soon(server), client.probe.fault("drop", direction="out", dport=origin.port):
            for each in endpoints:
                at_server.add(each)
            wait_for_growth(client, arrived, "AddAddr", 2 * len(endpoints))
        wait_for_growth(server, before, "EchoAdd", len(endpoints))
        packets = capture.stop()
    evidence.packets(rows(packets, server.name))
    found = {str(each.address) for each in find_announcements(packets, {to})}
    assert found == {each.address for each in endpoints}, f"the server announced {sorted(found)}"
