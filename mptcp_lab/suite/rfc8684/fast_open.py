"""Send data in the SYN of an MPTCP connection (TCP Fast Open), and check where its octets go (R60)."""

from __future__ import annotations

import errno
from hashlib import sha256

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import IPPROTO_MPTCP, RunResult
from mptcp_lab.probe.streams import NothingAccepted
from mptcp_lab.suite.packets import capable, first_syn, format_segments, rows, tcp_capture
from mptcp_lab.suite.traffic import is_mptcp
from mptcp_lab.wire import Segment, analyse
from mptcp_lab.wire.packet import ACK, SYN
from mptcp_lab.wire.rows import ROWS, Outcome

FAST_OPEN_SETTING = "net.ipv4.tcp_fastopen"
#: Values of the setting: as client without a cookie; as server, for every listener, without a cookie.
CLIENT, SERVER, OFF = 0x1 | 0x4, 0x2 | 0x200 | 0x400, 0
MSG_FASTOPEN = 0x20000000
FIRST, THEN = b"in the SYN, ", b"and after it"
FAST_OPEN = next(row for row in ROWS if row.alias == "R60")
#: Sends the first data with MSG_FASTOPEN and more data afterwards, then waits for the end of the connection.
#: Its exit status is the error of the first call.
CLIENT_PROGRAM = f"""
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM, {IPPROTO_MPTCP})
try:
    s.sendto({FIRST!r}, {MSG_FASTOPEN}, (sys.argv[1], int(sys.argv[2])))
except OSError as error:
    sys.exit(error.errno)
s.sendall({THEN!r}); s.shutdown(socket.SHUT_WR); s.recv(1)
"""


def check_data_in_syn(
    client: Machine, server: Machine, evidence: EvidenceBox, server_setting: int, family: int = 4
) -> bool:
    """Check that data in the SYN is delivered once, and its mapping; return whether the SYN/ACK took data.

    `server_setting` is the server's `FAST_OPEN_SETTING`. A connection whose SYN lost its data may fall back.

    Raises:
        Unsupported: the client's kernel refuses MSG_FASTOPEN on an MPTCP socket, as Linux before 6.2 does.
    """
    address = server.address(0, family)
    with (
        client.probe.fault("sysctl", name=FAST_OPEN_SETTING, value=CLIENT),
        server.probe.fault("sysctl", name=FAST_OPEN_SETTING, value=server_setting),
        server.probe.listen(address, 0) as listener,
        tcp_capture(client, listener.port) as capture,
    ):
        sender = client.probe.start(
            "run", argv=["python3", "-c", CLIENT_PROGRAM, address, str(listener.port)]
        )
        try:
            accepted = listener.accept()
        except NothingAccepted:
            if sender.read(RunResult).returncode == errno.EOPNOTSUPP:
                what = "MSG_FASTOPEN on an MPTCP socket (Linux 6.2)"
                raise Unsupported(what, "sendto: EOPNOTSUPP", client.name) from None
            raise
        with accepted:
            got = accepted.receive().wait(5)
            still_mptcp = is_mptcp(accepted)
        done = sender.read(RunResult)
        assert done.returncode == 0, f"the client's program failed: {done.stderr.strip()}"
        packets = capture.stop()
    evidence.figure("MPTCP afterwards", int(still_mptcp))
    evidence.packets(rows(packets, client.name))
    syn = first_syn(packets)
    assert capable(syn) and syn.payload == FIRST, "the SYN had no MP_CAPABLE, or no data"
    is_taken = _takes_data(packets, syn)
    assert still_mptcp or not is_taken, "the connection fell back although the SYN's data was taken"
    seen = FAST_OPEN.check(analyse(packets).connections[0])
    shows = Outcome.OK if still_mptcp else Outcome.NOT_OBSERVED
    assert seen.outcome is shows, f"{seen.detail}: {format_segments(packets)}"
    sent = (len(FIRST + THEN), sha256(FIRST + THEN).hexdigest())
    assert (got.nbytes, got.sha256) == sent, "the data was lost, or delivered twice"
    return is_taken


def _takes_data(packets: list[Segment], syn: Segment) -> bool:
    """Return whether the SYN/ACK acknowledges the data of a SYN."""
    answer = next(s for s in packets if s.flags & (SYN | ACK) == SYN | ACK and s.dport == syn.sport)
    return (answer.ack - syn.seq) % (1 << 32) == 1 + syn.payload_length
