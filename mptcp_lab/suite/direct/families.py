"""Keep IP versions apart on a connection, and join link-local addresses (DIRECT-13)."""

from __future__ import annotations

from dataclasses import replace

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NeverHappened, NewEndpoint, Stream, eventually
from mptcp_lab.suite.deviations import IPV6_ON_IPV4, NO_LAMINAR, check_not_lacking
from mptcp_lab.suite.direct.endpoints import (
    FULLMESH,
    LAMINAR,
    OTHER_ID,
    QUIET_BYTES,
    SIGNAL,
    SUBFLOW,
    SUBFLOWS_TIMEOUT_S,
    Ends,
    connection,
)
from mptcp_lab.suite.direct.flags import find_announcements, find_withdrawn_ids, wait_for_pairs
from mptcp_lab.suite.expectations import matrix_between
from mptcp_lab.suite.packets import first_syns, format_segments, rows, tcp_capture
from mptcp_lab.suite.rows import check_rows
from mptcp_lab.suite.sockets import AddressPair, at_both_ends, parse_sockets, ss_command

#: The requirements whose options a connection over IPv6 has to show: joins, announcements, withdrawals.
FORMS = ("R17", "R18", "R19", "R39", "R42", "R47")


def _make_ipv6_endpoints(machine: Machine, flags: tuple[str, ...]) -> list[NewEndpoint]:
    nics = enumerate(machine.paths[:2])
    return [NewEndpoint(machine.address(path, 6), flags, device=nic.device) for path, nic in nics]


def check_ipv4_only(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that an IPv4 socket joins no IPv6 address, though the server announces some and A has endpoints.

    An IPv4 endpoint that is added afterwards joins.

    Raises:
        Unsupported: IPv6 addresses were joined, and the client's kernel is known to do so.
    """
    second = ends.a[1], ends.b[0]
    ends.require_reachable(second)
    with (
        ends.client.probe.replace_endpoints(*_make_ipv6_endpoints(ends.client, FULLMESH)) as at_client,
        ends.server.probe.replace_endpoints(*_make_ipv6_endpoints(ends.server, SIGNAL)),
        connection(ends) as (data, packets),
    ):
        client = ends.client.probe
        eventually(
            lambda: client.counters().delta(data.opening.before[0]).mptcp("AddAddr"),
            until=bool,
            within=SUBFLOWS_TIMEOUT_S,
            what=f"an announcement at {client.host} (AddAddr)",
        )
        try:
            wait_for_pairs(data, {ends.first}, "IPv6 addresses at both ends")
        except NeverHappened:
            if any(":" in local for local, _ in data.pairs()):
                what = "an IPv4 socket without IPv6 subflows"
                check_not_lacking(IPV6_ON_IPV4, client.kernel, client.host, what)
            raise
        at_client.add(replace(ends.at_client(SUBFLOW)[1], id=OTHER_ID))
        wait_for_pairs(data, {ends.first, second}, "an IPv4 endpoint is added")
    evidence.packets(rows(packets, ends.client.name))
    announced = find_announcements(packets, ends.b)
    assert any(each.address.version == 6 for each in announced), f"the server announced {announced}"
    syns = [each for each in first_syns(packets) if each.src.version == 6]
    assert not syns, f"IPv6 subflows of a connection over IPv4: {format_segments(syns)}"


def read_link_local(machine: Machine, path: int) -> str:
    """Return the link-local address of a machine's NIC, with the NIC; `Unsupported` if it has none."""
    device = machine.paths[path].device
    for link in machine.probe.read("addresses"):
        if link["ifname"] == device:
            for each in link["addr_info"]:
                if each["family"] == "inet6" and each["scope"] == "link":
                    return str(each["local"])
    raise Unsupported("link-local addresses", f"{device} has none", machine.name)


def check_link_local(client: Machine, server: Machine, laminar: bool, evidence: EvidenceBox) -> None:
    """Check that a connection between link-local addresses takes no harm from an announced one.

    The client cannot know by which NIC it reaches that address, so that it joins it only from a `laminar`
    endpoint, which names a NIC.

    Raises:
        Unsupported: the hosts have no link-local addresses, or the client's kernel has no laminar endpoints.
    """
    ours = [f"{read_link_local(client, path)}%{client.paths[path].device}" for path in (0, 1)]
    theirs = [f"{read_link_local(server, path)}%{server.paths[path].device}" for path in (0, 1)]
    local, announced = strip_device(ours[1]), strip_device(theirs[1])
    mine = [NewEndpoint(local, LAMINAR, device=client.paths[1].device)] if laminar else []
    with (
        client.probe.replace_endpoints(*mine),
        server.probe.replace_endpoints() as at_server,
        server.probe.listen(theirs[0], 0) as listener,
        server.probe.listen(theirs[1], listener.port),
        tcp_capture(client, listener.port) as capture,
        client.probe.connect(f"{strip_device(theirs[0])}%{client.paths[0].device}", listener.port) as out,
        listener.accept() as into,
    ):
        check_passes(out, into, "at first")
        before = client.probe.counters()
        at_server.add(NewEndpoint(announced, SIGNAL, device=server.paths[1].device))
        eventually(
            lambda: client.probe.counters().delta(before).mptcp("AddAddr"),
            until=bool,
            within=SUBFLOWS_TIMEOUT_S,
            what=f"an announcement at {client.name} (AddAddr)",
        )
        if laminar:
            _wait_for_pair(client, server, out, listener.port, (local, announced))
        check_passes(out, into, "after an announcement")
        check_passes(into, out, "and back")
        pairs = {(each.local, each.remote) for each in out.facts().subflows}
        packets = capture.stop()
    evidence.packets(rows(packets, client.name))
    evidence.subflows([{"local": mine, "remote": other} for mine, other in sorted(pairs)])
    wanted = {(strip_device(ours[0]), strip_device(theirs[0])), *([(local, announced)] if laminar else [])}
    assert pairs == wanted, f"subflows {sorted(pairs)}, expected {sorted(wanted)}"


def strip_device(address: str) -> str:
    """Return a link-local address without its NIC."""
    return address.partition("%")[0]


def check_passes(source: Stream, sink: Stream, when: str) -> None:
    """Check that data passes from one end of a connection to the other."""
    receiving = sink.receive(QUIET_BYTES)
    sent = source.send(QUIET_BYTES, seed=when).wait(SUBFLOWS_TIMEOUT_S)
    got = receiving.wait(SUBFLOWS_TIMEOUT_S)
    assert (sent.nbytes, sent.sha256) == (got.nbytes, got.sha256), f"{got.nbytes} octets arrived {when}"


def _wait_for_pair(client: Machine, server: Machine, out: Stream, port: int, pair: AddressPair) -> None:
    """Wait for a subflow; raise `Unsupported` where the client's kernel lacks laminar endpoints."""

    def pairs() -> set[AddressPair]:
        printed = server.probe.run(ss_command("sport", port)).stdout
        return at_both_ends(out.facts().subflows, parse_sockets(printed))

    try:
        eventually(
            pairs, until=lambda found: pair in found, within=SUBFLOWS_TIMEOUT_S, what=f"the subflow {pair}"
        )
    except NeverHappened:
        check_not_lacking(NO_LAMINAR, client.probe.kernel, client.name, "laminar endpoints")
        raise


def check_ipv6_endpoints(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that IPv6 endpoints at both ends are deleted one by one, and join again when they are added.

    Raises:
        Unsupported: the lab's network does not connect these addresses over IPv6.
    """
    mine, theirs = ([machine.address(path, 6) for path in (0, 1)] for machine in (ends.client, ends.server))
    first, by_client, by_server = (mine[0], theirs[0]), (mine[1], theirs[0]), ends.pair_by_route(theirs[1])
    pairs = {first, by_client, by_server}
    if missing := pairs - matrix_between(ends.client, ends.server, 6).possible:
        raise Unsupported("IPv6 subflows between two paths", f"{sorted(missing)} do not reach each other")
    subflow = replace(_make_ipv6_endpoints(ends.client, SUBFLOW)[1], id=OTHER_ID)
    signal = replace(_make_ipv6_endpoints(ends.server, SIGNAL)[1], id=OTHER_ID)
    with (
        ends.client.probe.replace_endpoints(subflow) as at_client,
        ends.server.probe.replace_endpoints(signal) as at_server,
        connection(ends, to=theirs[0], source=mine[0]) as (data, packets),
    ):
        wait_for_pairs(data, pairs, "the connection begins")
        at_server.delete(signal)
        wait_for_pairs(data, {first, by_client}, "the server's endpoint is deleted")
        at_client.delete(subflow)
        wait_for_pairs(data, {first}, "the client's endpoint is deleted")
        at_client.add(subflow)
        at_server.add(signal)
        wait_for_pairs(data, pairs, "both are added again")
    evidence.packets(rows(packets, ends.client.name))
    for addresses in (mine, theirs):
        withdrawn = find_withdrawn_ids(packets, addresses)
        assert withdrawn == {OTHER_ID}, f"ids withdrawn from {addresses[0]}: {sorted(withdrawn)}"
    check_rows([each for each in packets if each.src.version == 6], FORMS)
