"""Connect kernels to a user-space peer and the peer to kernels, and check that the connection lives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_bytes

from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import Pending, Stream
from mptcp_lab.probe.streams import Opened
from mptcp_lab.suite.rfc8684.peer import Peer
from mptcp_lab.suite.rfc8684.peer_subflow import Subflow
from mptcp_lab.suite.rfc8684.peer_wire import HEARD_WITHIN_SECONDS, Wire
from mptcp_lab.suite.traffic import Target
from mptcp_lab.wire import (
    MpCapable,
)
from mptcp_lab.wire.packet import ACK, SYN


def start_connect(client: Machine, server: Peer) -> tuple[Wire, Subflow, Pending]:
    """Let a client's kernel connect to a peer; return the wire, the subflow to answer on, and the call."""
    wire = server.listens(server.machine.address())
    to = {"address": str(wire.address), "port": wire.port}
    connecting = client.probe.start("connect", protocol="mptcp", timeout=HEARD_WITHIN_SECONDS, **to)
    first, _ = server.answers(wire)
    return wire, first, connecting


@contextmanager
def served_client(client: Machine, server: Peer) -> Iterator[tuple[Wire, Subflow, Stream]]:
    """Connect a client's kernel to a peer; yield the wire, the first subflow and the client's stream.

    The peer has sent data before, so that the client may open further subflows.
    """
    wire, first, connecting = start_connect(client, server)
    first.says(SYN | ACK, MpCapable(server.endpoint.key, flags=server.endpoint.flags))
    first.hears(ACK, what="the third packet")
    with Stream(client.probe, connecting.read(Opened)) as stream:
        check_alive(first)
        yield wire, first, stream
        stream.close(reset=True)


def talks_to(opened: Peer, target: Target) -> Subflow:
    """Connect a peer on A to a target from A-1, and return the first subflow."""
    return opened.connects(target.machine.address(), target.port, opened.machine.address(0))


def check_alive(first: Subflow) -> None:
    """Check that the other end still acknowledges data on a connection."""
    first.sends(token_bytes(100))
    first.hears_data_ack()
