"""Write IPv4 addresses of endpoints as IPv4-mapped IPv6 ones (DIRECT-17)."""

from __future__ import annotations

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.probe import NewEndpoint, eventually
from mptcp_lab.suite.direct.endpoints import SIGNAL, SUBFLOW, SUBFLOWS_TIMEOUT_S, Ends
from mptcp_lab.suite.direct.families import check_passes
from mptcp_lab.suite.direct.listeners import ANY, MAPPED
from mptcp_lab.suite.packets import rows, tcp_capture
from mptcp_lab.suite.sockets import AddressPair, at_both_ends, parse_sockets, ss_command


def check_mapped_endpoints(ends: Ends, is_mapped: bool, evidence: EvidenceBox) -> None:
    """Check that endpoints of both ends with mapped addresses join, as IPv4 ones do.

    The connection is over IPv4; the client connects to a mapped address, by an IPv6 socket, if `is_mapped`.
    """
    server, client = ends.server, ends.client
    by_client, by_server = (ends.a[1], ends.b[0]), ends.pair_by_route(ends.b[1])
    ends.require_reachable(by_client, by_server)
    mine = NewEndpoint(f"{MAPPED}{ends.a[1]}", SUBFLOW, device=client.paths[1].device)
    theirs = NewEndpoint(f"{MAPPED}{ends.b[1]}", SIGNAL, device=server.paths[1].device)
    to = f"{MAPPED}{ends.b[0]}" if is_mapped else ends.b[0]
    with (
        client.probe.replace_endpoints(mine),
        server.probe.replace_endpoints(theirs),
        server.probe.listen(ANY["dual-stack"], 0, shape="dual-stack") as listener,
        tcp_capture(client, listener.port) as capture,
        client.probe.connect(to, listener.port) as out,
        listener.accept() as into,
    ):
        check_passes(out, into, "at first")

        def find_pairs() -> set[AddressPair]:
            sockets = parse_sockets(server.probe.run(ss_command("sport", listener.port)).stdout)
            return at_both_ends(out.facts().subflows, sockets)

        wanted = {ends.first, by_client, by_server}
        eventually(
            find_pairs,
            until=lambda found: found == wanted,
            within=SUBFLOWS_TIMEOUT_S,
            what=f"the subflows of mapped endpoints: {sorted(wanted)}",
        )
        check_passes(out, into, "with the subflows")
        check_passes(into, out, "and back")
        packets = capture.stop()
    evidence.packets(rows(packets, client.name))
