"""Open listeners of different shapes at the server, and check which joins they accept (DIRECT-17)."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.inventory.model import Service
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.probe import ConnectFailed, Listener, NewEndpoint, Stream, eventually
from mptcp_lab.suite.direct.endpoints import SIGNAL, SUBFLOWS_TIMEOUT_S
from mptcp_lab.suite.expectations import expected_pairs, wait_for_joins
from mptcp_lab.suite.packets import first_syns, format_segments, joins, rows, tcp_capture
from mptcp_lab.suite.sockets import AddressPair, at_both_ends, parse_sockets, ss_command
from mptcp_lab.suite.state.units import PRINTED, listeners
from mptcp_lab.suite.traffic import Target
from mptcp_lab.wire.packet import RST

ANNOUNCED_ID = 7
#: How many bytes must still pass after a join was refused.
AFTERWARDS_BYTES = 20_000
TRANSFER_TIMEOUT_S = 10.0
MAPPED = "::ffff:"


@dataclass(frozen=True)
class Shape:
    """Listeners of the server, and the connection that is made to them before the server announces B-2.

    ``on`` has the server's paths whose addresses are listened on; with a `shape` there is one socket for all.
    The client connects over `family`, with an IPv6 socket and a mapped address if `mapped`. If the listeners
    are closed after the accept (`closed`), or none is on B-2's address, the join must be refused.
    """

    on: tuple[int, ...] = ()
    shape: str = ""
    family: int = 4
    mapped: bool = False
    closed: bool = False

    @property
    def is_joined(self) -> bool:
        """Return whether the join must be accepted."""
        return not self.closed and (bool(self.shape) or 1 in self.on)


#: The cases of DIRECT-17 with listeners of the probe.
SHAPES = {
    "wildcard": Shape(shape="wildcard"),
    "dual-stack-ipv4": Shape(shape="dual-stack"),
    "dual-stack-mapped": Shape(shape="dual-stack", mapped=True),
    "dual-stack-ipv6": Shape(shape="dual-stack", family=6),
    "ipv6-only": Shape(shape="ipv6-only", family=6),
    "one-address": Shape(on=(0,)),
    "one-address-ipv6": Shape(on=(0,), family=6),
    "two-addresses": Shape(on=(0, 1)),
    "two-addresses-ipv6": Shape(on=(0, 1), family=6),
    "closed-after-accept": Shape(on=(0, 1), closed=True),
    "wildcard-closed-after-accept": Shape(shape="wildcard", closed=True),
}
#: By shape: the address that the listener binds.
ANY = {"wildcard": "0.0.0.0", "dual-stack": "::", "ipv6-only": "::"}  # noqa: S104 (for seconds, on a free port)


@contextmanager
def listeners_of(server: Machine, wanted: Shape) -> Iterator[list[Listener]]:
    """Open the listeners of a shape on one free port, and close them at the end of the block."""
    with ExitStack() as opened:
        if wanted.shape:
            any_address = ANY[wanted.shape]
            yield [opened.enter_context(server.probe.listen(any_address, 0, shape=wanted.shape))]
            return
        addresses = [server.address(path, wanted.family) for path in wanted.on]
        found = [opened.enter_context(server.probe.listen(addresses[0], 0))]
        for address in addresses[1:]:
            found.append(opened.enter_context(server.probe.listen(address, found[0].port)))
        yield found


def check_joins_by_listener(client: Machine, server: Machine, wanted: Shape, evidence: EvidenceBox) -> None:
    """Check that B accepts a join where a listener is, and refuses it with RST where none is.

    The client has no endpoints, so that it joins the announced address once. The connection carries data
    afterwards, also where the join was refused.
    """
    first, second = server.address(0, wanted.family), server.address(1, wanted.family)
    announced = NewEndpoint(second, SIGNAL, ANNOUNCED_ID, server.paths[1].device)
    with ExitStack() as opened:
        opened.enter_context(client.probe.replace_endpoints())
        endpoints = opened.enter_context(server.probe.replace_endpoints())
        listening = opened.enter_context(listeners_of(server, wanted))
        port = listening[0].port
        _check_diagnosed(server, wanted, port)
        capture = opened.enter_context(tcp_capture(client, port))
        out = opened.enter_context(client.probe.connect(f"{MAPPED if wanted.mapped else ''}{first}", port))
        into = opened.enter_context(listening[0].accept())
        for listener in listening if wanted.closed else ():
            listener.close()
        if wanted.shape == "ipv6-only":
            _check_refuses_ipv4(client, server, port)
        before = server.probe.counters()
        endpoints.add(announced)
        if wanted.is_joined:
            pairs = _wait_for_join(out, server, port, second)
        else:
            eventually(
                lambda: server.probe.counters().delta(before)["Tcp", "OutRsts"],
                until=lambda resets: resets > 0,
                within=SUBFLOWS_TIMEOUT_S,
                what=f"{server.name} refuses a join to {second}",
            )
            pairs = _pairs_of(out, server, port)
        growth = server.probe.counters().delta(before)
        _check_data(out, into)
        _check_data(into, out)
        packets = capture.stop()
    evidence.subflows([{"local": local, "remote": remote} for local, remote in sorted(pairs)])
    evidence.packets(rows(packets, client.name))
    asked = [s for s in joins(packets) if str(s.dst) == second]
    assert asked, f"no join to {second} was captured, only {format_segments(first_syns(packets))}"
    resets = [s for s in packets if s.flags & RST and str(s.src) == second]
    if wanted.is_joined:
        assert growth.mptcp("MPJoinAckRx") == 1, f"joins that B accepted: {growth.mptcp('MPJoinAckRx')}"
        assert not resets, f"B resets the join: {format_segments(resets)}"
    else:
        assert len(pairs) == 1, f"a join came up where nothing listens: {sorted(pairs)}"
        assert resets, f"B did not answer the join with RST: {format_segments(packets)}"


def _check_refuses_ipv4(client: Machine, server: Machine, port: int) -> None:
    """Check that the server refuses an IPv4 connection at once."""
    try:
        client.probe.connect(server.address(0), port).close()
    except ConnectFailed as failed:
        assert failed.errno == errno.ECONNREFUSED, f"connect() over IPv4 failed otherwise: {failed}"
    else:
        raise AssertionError("an IPv6-only listener accepted a connection over IPv4")


def _check_diagnosed(server: Machine, wanted: Shape, port: int) -> None:
    """Check that socket diagnostics show just the listeners that were opened, as MPTCP ones."""
    addresses = {server.address(path, wanted.family) for path in wanted.on}
    expected = {PRINTED[wanted.shape]} if wanted.shape else addresses
    mptcp, _ = listeners(server.probe)
    found = {address for address, each in mptcp if each == port}
    assert found == expected, f"MPTCP listeners on port {port}: {sorted(found)}, expected {sorted(expected)}"


def _pairs_of(out: Stream, server: Machine, port: int) -> set[AddressPair]:
    sockets = parse_sockets(server.probe.run(ss_command("sport", port)).stdout)
    mine = out.facts().subflows
    return at_both_ends(mine, sockets)


def _wait_for_join(out: Stream, server: Machine, port: int, remote: str) -> set[AddressPair]:
    return eventually(
        lambda: _pairs_of(out, server, port),
        until=lambda pairs: len(pairs) == 2 and remote in {pair[1] for pair in pairs},
        within=SUBFLOWS_TIMEOUT_S,
        what=f"a join to {remote}",
    )


def _check_data(source: Stream, sink: Stream) -> None:
    """Check that data passes from one end to the other."""
    receiving = sink.receive(AFTERWARDS_BYTES)
    sent = source.send(AFTERWARDS_BYTES, seed=source.name).wait(TRANSFER_TIMEOUT_S)
    got = receiving.wait(TRANSFER_TIMEOUT_S)
    assert (sent.nbytes, sent.sha256) == (got.nbytes, got.sha256), f"{got.nbytes} octets arrived"


def check_joins_proxy(client: Machine, machines: Session, service: Service, evidence: EvidenceBox) -> None:
    """Check that a proxy's listener on all addresses gets every expected subflow, over each IP version."""
    proxy = machines.machines[service.host]
    mptcp, _ = listeners(proxy.probe)
    found = {address for address, port in mptcp if port == service.port}
    assert found == {PRINTED[service.listen]}, f"MPTCP listeners of {service.name}: {sorted(found)}"
    for family in (4, 6) if service.listen == "dual-stack" else (4,):
        target = Target(proxy, service, *machines.backend(service), family)
        with target.flow(client) as data:
            transfer = data.start()
            joined = wait_for_joins(data, expected_pairs(client, proxy, family))
            ended = data.end(transfer)
        joined.check_exact(family)
        evidence.subflows(joined.matrix.rows(), name=f"subflows over IPv{family}")
        evidence.figure(f"subflows over IPv{family}", len(joined.of_family(family)))
        assert ended.intact, f"over IPv{family}: {ended.difference}"
