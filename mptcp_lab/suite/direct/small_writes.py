"""See how a connection's small writes become segments, with TCP_NODELAY and with TCP_CORK (DIRECT-18)."""

from __future__ import annotations

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.direct.both_ends import Served, served_client, server_listeners
from mptcp_lab.suite.direct.socket_options import SOL_TCP
from mptcp_lab.suite.packets import rows, tcp_capture
from mptcp_lab.wire import Segment

TCP_NODELAY, TCP_CORK = 1, 3
WRITES, WRITE_BYTES = 5, 100
TRANSFER_TIMEOUT_S = 10.0


def check_small_writes(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Check that small writes are sent one by one with TCP_NODELAY, and are held back with TCP_CORK.

    What is held back leaves when TCP_CORK is cleared, and when TCP_NODELAY is set besides.
    """
    with (
        client.probe.replace_endpoints(),
        server.probe.replace_endpoints(),
        server_listeners(server) as listeners,
        tcp_capture(client, listeners[0].port, [client.paths[0].device]) as capture,
        served_client(client, server, listeners) as found,
    ):
        stream = found.stream
        stream.setsockopt(SOL_TCP, TCP_NODELAY, 1)
        _write(found, 1)
        stream.setsockopt(SOL_TCP, TCP_NODELAY, 0)
        stream.setsockopt(SOL_TCP, TCP_CORK, 1)
        _write(found, 2, (TCP_CORK, 0))
        stream.setsockopt(SOL_TCP, TCP_CORK, 1)
        _write(found, 3, (TCP_NODELAY, 1))
        packets = capture.stop()
    evidence.packets(rows(packets, client.name))
    sizes = _sizes(packets, client.address(0))
    evidence.figure("segments with TCP_CORK", len(sizes) - WRITES)
    fault = find_fault(sizes)
    assert not fault, fault


def find_fault(sizes: list[int]) -> str:
    """Return what is wrong with the sizes of the segments of all writes; an empty text if nothing is."""
    if sizes[:WRITES] != [WRITE_BYTES] * WRITES:
        return f"with TCP_NODELAY the segments had {sizes} octets"
    corked = sizes[WRITES:]
    if sum(corked) != 2 * WRITES * WRITE_BYTES:
        return f"with TCP_CORK the segments had {corked} octets"
    return f"TCP_CORK held nothing back: segments of {corked} octets" if len(corked) >= WRITES else ""


def _write(found: Served, number: int, release: tuple[int, int] | None = None) -> None:
    """Write some data, set an option that lets it leave, and wait until it has arrived."""
    receiving = found.accepted.receive(WRITES * WRITE_BYTES)
    sending = found.stream.send(WRITES * WRITE_BYTES, seed=number, chunk=WRITE_BYTES, interval=0.001)
    sent = sending.wait(TRANSFER_TIMEOUT_S)
    if release:
        found.stream.setsockopt(SOL_TCP, *release)
    got = receiving.wait(TRANSFER_TIMEOUT_S)
    assert sent.sha256 == got.sha256, f"what arrived in round {number} is not what was sent"


def _sizes(packets: list[Segment], source: str) -> list[int]:
    """Return the payload of each data segment from an address, without repetitions."""
    data = {s.seq: s.payload_length for s in packets if str(s.src) == source and s.payload_length}
    return list(data.values())
