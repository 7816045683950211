"""Watch the keepalives of each subflow on the wire (DIRECT-18)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NewEndpoint, eventually
from mptcp_lab.suite.direct.endpoints import SUBFLOW, SUBFLOWS_TIMEOUT_S
from mptcp_lab.suite.direct.socket_options import JOINED_ID, KEEPALIVE, set_options
from mptcp_lab.suite.expectations import direct_flow, origin_of
from mptcp_lab.suite.packets import tcp_capture
from mptcp_lab.wire import Segment
from mptcp_lab.wire.packet import FIN, RST, SYN

#: Probes begin after so many seconds without data and come so far apart; so many go unanswered at most.
IDLE_S, INTERVAL_S, PROBES = 1, 1, 2
TIMERS = (1, IDLE_S, INTERVAL_S, PROBES)
#: A kernel's timer may fire by a tick before the clock of the capture shows the second.
EARLY_S = 0.1
SEQUENCE_NUMBERS = 1 << 32
#: The working subflow's probes come within this time: it may have been idle later than the other one.
WORKING_TIMEOUT_S = 5.0
#: The kernel's count of keepalives that it sent, of all connections (net/ipv4/tcp_output.c).
SENT = ("TcpExt", "TCPKeepAlive")


def check_keepalives(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Check that each idle subflow sends keepalives, and that one without answers ends after the last.

    The second subflow joins after the options were set, and its path fails while it is idle.

    Raises:
        Unsupported: the client's kernel does not accept the options on MPTCP sockets.
    """
    port = origin_of(server).port
    first, second = ((client.address(path), server.address(0)) for path in (0, 1))
    options = [
        replace(option, value=struct.pack("=i", value))
        for option, value in zip(KEEPALIVE, TIMERS, strict=True)
    ]
    with (
        client.probe.replace_endpoints() as endpoints,
        server.probe.replace_endpoints(),
        tcp_capture(client, port) as capture,
        direct_flow(client, server) as data,
    ):
        before = client.probe.counters()
        transfer = data.start()
        data.wait_for_bytes(1)
        accepted = set_options(data.stream, options)
        if refused := [option.name for option in options if option not in accepted]:
            what = f"{' and '.join(refused)} on MPTCP sockets"
            raise Unsupported(what, "the kernel refuses to set this", client.name)
        endpoints.add(NewEndpoint(second[0], SUBFLOW, JOINED_ID, client.paths[1].device))
        eventually(
            data.pairs,
            until=lambda found: found == {first, second},
            within=SUBFLOWS_TIMEOUT_S,
            what="a later subflow",
        )
        transfer.finish()
        with server.probe.fault("drop", source=second[0], dport=port):
            eventually(
                lambda: {(each.local, each.remote) for each in data.stream.facts().subflows},
                until=lambda found: found == {first},
                within=SUBFLOWS_TIMEOUT_S,
                what="the end of the subflow whose keepalives get no answer",
            )
            eventually(
                lambda: client.probe.counters().delta(before)[SENT],
                until=lambda sent: sent >= 2 * PROBES,
                within=WORKING_TIMEOUT_S,
                what="keepalives of both subflows",
            )
            packets = capture.stop()
        ended = data.end(transfer)
    seen = {pair[0]: find_keepalives(packets, pair[0]) for pair in (first, second)}
    evidence.document("keepalives by address: seconds", seen)
    assert len(seen[first[0]]) >= PROBES, f"keepalives of the working subflow: {seen[first[0]]}"
    assert len(seen[second[0]]) == PROBES, f"keepalives without an answer: {seen[second[0]]}, not {PROBES}"
    for address, times in seen.items():
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert min(gaps) >= INTERVAL_S - EARLY_S, f"keepalives of {address} came {min(gaps):.2f} s apart"
    assert ended.intact, ended.difference


def find_keepalives(packets: Sequence[Segment], source: str) -> list[float]:
    """Return when the keepalives of a subflow that leave from an address were sent, in seconds.

    A keepalive carries no data, and its sequence number is the one before the next to be sent.
    """
    mine = [each for each in packets if str(each.src) == source]
    following, found = -1, []
    for each in mine:
        is_empty = not each.payload_length and not each.flags & (SYN | FIN | RST)
        if is_empty and following >= 0 and each.seq == (following - 1) % SEQUENCE_NUMBERS:
            found.append(each.time_ns / 1e9)
        else:
            following = (each.seq + each.payload_length + bool(each.flags & SYN)) % SEQUENCE_NUMBERS
    return found
