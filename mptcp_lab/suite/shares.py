"""Which of a client's NICs carried how much, and how much of it twice."""

from __future__ import annotations

from collections.abc import Mapping

from mptcp_lab.probe import Counters, NicBytes
from mptcp_lab.suite.session import Machine


def by_nic(client: Machine, before: Mapping[str, NicBytes]) -> dict[str, float]:
    """Return, per path NIC, its share of the bytes that left by all of them since `before`."""
    now = client.probe.nics()
    sent = {nic.device: now[nic.device].delta(before[nic.device]).tx_bytes for nic in client.paths}
    return {device: nbytes / max(1, sum(sent.values())) for device, nbytes in sent.items()}


def sent_again(client: Machine, before: Counters) -> float:
    """Return the share of retransmissions among the data segments that a client has sent since `before`."""
    moved = client.probe.counters().delta(before)
    again = moved["Tcp", "RetransSegs"]
    return again / max(1, again + moved["TcpExt", "TCPOrigDataSent"])
