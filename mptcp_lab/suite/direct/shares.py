"""Measure the share of bytes on each of a client's NICs, retransmissions, and what its links can carry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.inventory.model import Nic
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import Counters, NicBytes
from mptcp_lab.suite.expectations import origin_of
from mptcp_lab.suite.find.hosts import shared_paths
from mptcp_lab.suite.timing import check_time
from mptcp_lab.suite.traffic import flow

LINK_MBIT = 20
#: A queue that loses nothing, because the check is about the scheduler and not about retransmissions.
QUEUE_MS, BURST_KB = 200, 64
#: Each of two equal paths should carry half; a scheduler that uses all paths gives each at least this share.
LEAST_SHARE = 0.2
#: The goodput as a share of the sum of the links: 0.83 or more in 55 runs, many of them beside a load.
LEAST_GOODPUT = 0.75


def by_nic(machine: Machine, nics: Sequence[Nic], before: Mapping[str, NicBytes]) -> dict[str, float]:
    """Return each NIC's share, from 0 to 1, of the bytes that left by these NICs since `before`."""
    now = machine.probe.nics()
    sent = {nic.device: now[nic.device].delta(before[nic.device]).tx_bytes for nic in nics}
    return {device: nbytes / max(1, sum(sent.values())) for device, nbytes in sent.items()}


def near_nics(client: Machine, server: Machine) -> list[Nic]:
    """Return the server's NICs on the segments of the client's paths.

    Raises:
        Unsupported: the server has no NIC on one of them.
    """
    nics = [theirs for _, theirs in shared_paths(client.host, server.host, client.lab)]
    if len(nics) < len(client.paths):
        shared = f"{len(nics)} of {len(client.paths)}"
        raise Unsupported("a NIC on the segment of each of the client's paths", shared, server.name)
    return nics


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


@contextmanager
def limited_nics(machine: Machine, nics: Iterable[Nic]) -> Iterator[None]:
    """Limit the rate at which a machine sends by these NICs, with queues that lose nothing."""
    limit = {"mbit": LINK_MBIT, "latency_ms": QUEUE_MS, "burst_kb": BURST_KB}
    with ExitStack() as limited:
        for nic in nics:
            limited.enter_context(machine.probe.fault("rate", device=nic.device, **limit))
        yield


def check_shares(shares: dict[str, float], of_sum: float, evidence: EvidenceBox) -> None:
    """Check that every path carried its part, and that the goodput comes near the sum of the links."""
    for device, share in shares.items():
        evidence.figure(f"bytes on {device}, of all", share)
    check_time(min(shares.values()) > LEAST_SHARE, f"a path was not used: {shares}")
    check_time(of_sum >= LEAST_GOODPUT, f"the goodput is {of_sum:.2f} of the sum of the links")
