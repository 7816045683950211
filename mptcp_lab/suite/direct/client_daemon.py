"""Manage the paths of a client from user space, beside endpoints that the kernel has (DIRECT-26)."""

from __future__ import annotations

import errno
from dataclasses import replace

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NewEndpoint, ProbeError
from mptcp_lab.suite.deviations import NO_ID_0, check_not_lacking
from mptcp_lab.suite.direct.choices import order_subflow
from mptcp_lab.suite.direct.flags import wait_for_pairs
from mptcp_lab.suite.expectations import direct_flow, origin_of
from mptcp_lab.suite.packets import format_segments, joins, mptcp_options, rows, tcp_capture
from mptcp_lab.suite.split.forwarders import userspace_paths
from mptcp_lab.wire import AddAddr, MpJoinSyn, MpPrio, RemoveAddr

ENDPOINT_ID = 7


def check_endpoints_ignored(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Check that endpoints in the kernel do nothing to a connection whose paths user space manages.

    An endpoint with both flags is there when the connection begins. It becomes a backup and is deleted while
    a subflow from its address, which user space has ordered, carries data.
    """
    first, second = ((client.address(path), server.address(0)) for path in (0, 1))
    endpoint = NewEndpoint(second[0], ("subflow", "signal"), ENDPOINT_ID, client.paths[1].device)
    with (
        userspace_paths(client),
        client.probe.replace_endpoints(endpoint) as endpoints,
        tcp_capture(client, origin_of(server).port) as capture,
        direct_flow(client, server) as data,
    ):
        transfer = data.start()
        wait_for_pairs(data, {first}, "an endpoint in the kernel")
        refused = order_subflow(client, server, data.stream)
        assert refused == "", f"the connection refused an order: {refused}"
        wait_for_pairs(data, {first, second}, "user space has ordered a subflow")
        endpoints.change(replace(endpoint, flags=("subflow", "signal", "backup")))
        wait_for_pairs(data, {first, second}, "the endpoint is a backup")
        endpoints.delete(endpoint)
        wait_for_pairs(data, {first, second}, "the endpoint is deleted")
        ended = data.end(transfer)
        packets = capture.stop()
    evidence.packets(rows(packets, client.name))
    sent = [each for each in packets if str(each.src) in (first[0], second[0])]
    asked = {(each.src, each.sport) for each in joins(sent)}
    assert len(asked) == 1, f"one join was commanded, A sent these: {format_segments(joins(sent))}"
    for kind, what in ((AddAddr, "announced"), (RemoveAddr, "withdrew"), (MpPrio, "changed")):
        found = [o for s in sent for o in mptcp_options(s) if isinstance(o, kind) and not _is_echo(o)]
        assert not found, f"{client.name} {what} a path that user space manages: {found}"
    assert ended.intact, ended.difference


def _is_echo(option: object) -> bool:
    return isinstance(option, AddAddr) and option.echo


def check_id_0(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Check that user space can open a further subflow with id 0, from another address.

    Raises:
        Unsupported: the client's kernel is known to refuse the id.
    """
    first, second = ((client.address(path), server.address(0)) for path in (0, 1))
    port = origin_of(server).port
    with (
        userspace_paths(client),
        tcp_capture(client, port) as capture,
        direct_flow(client, server) as data,
    ):
        transfer = data.start()
        wait_for_pairs(data, {first}, "the connection begins")
        try:
            orders = client.probe.steering(data.stream)
            orders.create_subflow(second[0], 0, second[1], port, device=client.paths[1].device)
        except ProbeError as error:
            if error.errno == errno.EINVAL:
                check_not_lacking(NO_ID_0, client.probe.kernel, client.name, "a further subflow with id 0")
            raise AssertionError(f"the kernel of {client.name} refused the id 0: {error}") from None
        wait_for_pairs(data, {first, second}, "user space has ordered a subflow with id 0")
        ended = data.end(transfer)
        packets = capture.stop()
    evidence.packets(rows(packets, client.name))
    found = [o.address_id for s in joins(packets) for o in mptcp_options(s) if isinstance(o, MpJoinSyn)]
    assert set(found) == {0}, f"address ids of the joins: {found}"
    assert ended.intact, ended.difference
