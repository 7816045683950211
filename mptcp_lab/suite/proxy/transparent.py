"""Let a router accept connections in the server's place, as a transparent proxy does (PROXY-15)."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import Listener, ProbeError, Stream, eventually
from mptcp_lab.suite.expectations import origin_of
from mptcp_lab.suite.sockets import AddressPair, at_both_ends, parse_sockets, ss_command
from mptcp_lab.suite.traffic import is_mptcp

#: Errors of a kernel without MPTCP, or without transparent MPTCP sockets.
NO_TRANSPARENT = {errno.EOPNOTSUPP, errno.ENOPROTOOPT, errno.EPROTONOSUPPORT}
#: The mark of the packets that the router takes for itself, and the routing table for them.
MARK, TABLE = 7190, 7190
SUBFLOWS_TIMEOUT_S = 10.0
TRANSFER_BYTES = 50_000


def find_routed_address(router: Machine, client: Machine, server: Machine, family: int) -> str:
    """Return an address of the server that the client reaches through the router only.

    Raises:
        Unsupported: the inventory has no such address.
    """
    mine = {nic.segment for nic in client.host.nics}
    for nic in server.host.nics:
        if nic.segment not in mine and router.host.nic_on(nic.segment) and (found := nic.address(family)):
            return str(found)
    raise Unsupported(f"an IPv{family} address of {server.name} behind {router.name}", "there is none")


@contextmanager
def transparent_listener(router: Machine, address: str, port: int, family: int) -> Iterator[Listener]:
    """Accept on the router what is sent to a server's address and port, in the block.

    The listener has the same port: the kernel refuses a join to another port than that of its listener.

    Raises:
        Unsupported: the router's kernel has no TPROXY, or no transparent MPTCP sockets.
    """
    whole = f"{address}/{32 if family == 4 else 128}"
    here, fault = router.address(0, family), router.probe.fault
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(router.probe.listen(here, port, transparent=True))
        except ProbeError as error:
            if error.errno not in NO_TRANSPARENT:
                raise
            raise Unsupported("transparent MPTCP sockets", error.what, router.name) from None
        route = f"add local {whole} dev lo table {TABLE}"
        stack.enter_context(fault("routes", commands=[route], version=family))
        rule = f"add fwmark {MARK} lookup {TABLE} priority {TABLE}"
        stack.enter_context(fault("rules", commands=[rule], version=family))
        tproxy = fault("tproxy", address=address, dport=port, listener=here, port=port, mark=MARK)
        stack.enter_context(tproxy)
        yield listener


def check_transparent(
    client: Machine, router: Machine, server: Machine, family: int, evidence: EvidenceBox
) -> None:
    """Check that a transparent proxy gets the client's connection, with a subflow of each NIC, and serves it.

    The client sees the server's address, and nothing reaches the server.
    """
    address, port = find_routed_address(router, client, server, family), origin_of(server).port
    counts = server.probe.origin(origin_of(server).name).counts
    before = counts()["accepted"]
    pairs = {(client.address(path, family), address) for path in range(len(client.paths))}
    with (
        transparent_listener(router, address, port, family) as listener,
        client.probe.connect(address, port) as out,
        listener.accept() as into,
    ):
        check_carries(out, into)
        _wait_for(client, router, out, port, pairs)
        check_carries(into, out)
        local = into.facts().local
        assert is_mptcp(into), "the transparent proxy's end of the connection is not MPTCP"
    evidence.subflows([{"local": mine, "remote": other} for mine, other in sorted(pairs)])
    assert local is not None and local.address == address, f"the proxy's end is {local}, not {address}"
    assert counts()["accepted"] == before, f"{server.name} got a separate connection"


def check_carries(source: Stream, sink: Stream) -> None:
    """Check that data arrives whole at the other end of a connection."""
    receiving = sink.receive(TRANSFER_BYTES)
    sent = source.send(TRANSFER_BYTES, seed=source.name).wait(SUBFLOWS_TIMEOUT_S)
    got = receiving.wait(SUBFLOWS_TIMEOUT_S)
    assert (sent.nbytes, sent.sha256) == (got.nbytes, got.sha256), f"{got.nbytes} octets arrived"


def _wait_for(client: Machine, router: Machine, out: Stream, port: int, pairs: set[AddressPair]) -> None:
    def read_pairs() -> set[AddressPair]:
        printed = router.probe.run(ss_command("sport", port)).stdout
        return at_both_ends(out.facts().subflows, parse_sockets(printed))

    eventually(
        read_pairs,
        until=lambda now: now == pairs,
        within=SUBFLOWS_TIMEOUT_S,
        what=f"a subflow of each NIC of {client.name} at {router.name}",
    )
