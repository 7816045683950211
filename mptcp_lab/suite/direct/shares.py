"""Measure the share of bytes on each of a client's NICs, retransmissions, and what its links can carry."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from mptcp_lab.inventory.model import Nic
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import Counters, NicBytes
from mptcp_lab.suite.expectations import origin_of
from mptcp_lab.suite.traffic import flow


def by_nic(client: Machine, before: Mapping[str, NicBytes]) -> dict[str, float]:
    """Return each path NIC's share, from 0 to 1, of the bytes that left by all of them since `before`."""
    now = client.probe.nics()
    sent = {nic.device: now[nic.device].delta(before[nic.device]).tx_bytes for nic in client.paths}
    return {device: nbytes / max(1, sum(sent.values())) for device, nbytes in sent.items()}


def sent_again(client: Machine, before: Counters) -> float:
    """Return the share of retransmissions among the data segments that a client has sent since `before`."""
    moved = client.probe.counters().delta(before)
    again = moved["Tcp", "RetransSegs"]
    return again / max(1, again + moved["TcpExt", "TCPOrigDataSent"])


def plain_goodput(client: Machine, server: Machine, nbytes: int) -> float:
    """Return the summed goodput of plain TCP over all of the client's paths at once, in Mbit/s.

    Each path carries `nbytes` bytes to the server's address on the same segment, or to its first one if it
    has none there.
    """
    origin = origin_of(server)
    with ExitStack() as opened:
        flows = [
            opened.enter_context(
                flow(
                    client,
                    _address_on_segment(nic, server),
                    origin.port,
                    server,
                    origin,
                    protocol="tcp",
                    source=source,
                )
            )
            for nic in client.paths
            if (source := str(nic.address()))
        ]
        transfers = [each.begin(nbytes) for each in flows]
        ended = [each.finish_upload(transfer) for each, transfer in zip(flows, transfers, strict=True)]
    return sum(each.goodput for each in ended)


def _address_on_segment(nic: Nic, server: Machine) -> str:
    near = (index for index, path in enumerate(server.paths) if path.segment == nic.segment)
    return server.address(next(near, 0))
