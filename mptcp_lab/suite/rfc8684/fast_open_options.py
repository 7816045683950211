"""Use TCP Fast Open by socket options, and with a cookie, on MPTCP connections (R60)."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import IPPROTO_MPTCP, RunResult, eventually
from mptcp_lab.suite.direct.ports import find_free_port
from mptcp_lab.suite.packets import capable, first_syns, format_segments, joins, rows, tcp_capture
from mptcp_lab.suite.rfc8684.fast_open import FAST_OPEN_SETTING, FIRST, MSG_FASTOPEN, OFF, THEN
from mptcp_lab.suite.state.units import listeners
from mptcp_lab.wire import Segment
from mptcp_lab.wire.codec import TcpOption
from mptcp_lab.wire.packet import ACK, SYN

FAST_OPEN_KIND = 34
TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE = 23, 30, 34
#: Values of the setting: with a cookie, and, as client, without one.
COOKIE, NO_COOKIE = 0x1 | 0x2, 0x1 | 0x2 | 0x4
#: The server's queue of connections whose SYN had data.
QUEUE = 5
RUN_TIMEOUT_S = 15.0

#: Opens connections one after another; each sends its first data in the SYN, if it may, and more afterwards.
CLIENT_PROGRAM = f"""
import socket, sys
address, port, times, options = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
for _ in range(times):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, {IPPROTO_MPTCP})
    for option in map(int, options):
        s.setsockopt(socket.IPPROTO_TCP, option, 1)
    if options:
        s.connect((address, port)); s.sendall({FIRST!r})
    else:
        s.sendto({FIRST!r}, {MSG_FASTOPEN}, (address, port))
    s.sendall({THEN!r}); s.shutdown(socket.SHUT_WR); s.recv(1); s.close()
"""
#: Accepts connections one after another, and prints length and digest of what came on each.
SERVER_PROGRAM = f"""
import hashlib, socket, sys
address, port, times, options = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, {IPPROTO_MPTCP})
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
for option in map(int, options):
    s.setsockopt(socket.IPPROTO_TCP, option, {QUEUE} if option == {TCP_FASTOPEN} else 1)
s.bind((address, port)); s.listen()
for _ in range(times):
    c, _ = s.accept(); data = b""
    while more := c.recv(4096): data += more
    print(len(data), hashlib.sha256(data).hexdigest()); c.close()
"""


@dataclass(frozen=True)
class Usage:
    """How client and server use Fast Open: the setting of both, their socket options, and how often.

    `is_taken` says whether the server takes the data of the last SYN. With a cookie the client connects
    twice: the first SYN asks for it. A client without options uses MSG_FASTOPEN.
    """

    setting: int
    client: tuple[int, ...]
    server: tuple[int, ...]
    times: int = 1
    is_taken: bool = True


USAGES = {
    "cookie": Usage(COOKIE, (), (TCP_FASTOPEN,), times=2),
    "option-and-cookie": Usage(COOKIE, (TCP_FASTOPEN_CONNECT,), (TCP_FASTOPEN,), times=2),
    "option": Usage(NO_COOKIE, (TCP_FASTOPEN_CONNECT,), (TCP_FASTOPEN, TCP_FASTOPEN_NO_COOKIE)),
    "option-refused": Usage(NO_COOKIE, (TCP_FASTOPEN_CONNECT,), (), is_taken=False),
    "no-cookie-option": Usage(
        COOKIE, (TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE), (TCP_FASTOPEN, TCP_FASTOPEN_NO_COOKIE)
    ),
}


def check_usage(client: Machine, server: Machine, usage: Usage, evidence: EvidenceBox) -> None:
    """Check that Fast Open works as a client and a server use it, and that all data arrives once."""
    address = server.address(0)
    port = str(find_free_port(server, address))
    client.probe.run(["ip", "tcp_metrics", "delete", address])  # a cookie of an earlier connection
    at_server = usage.setting if usage.server else OFF
    with (
        client.probe.fault("sysctl", name=FAST_OPEN_SETTING, value=usage.setting),
        server.probe.fault("sysctl", name=FAST_OPEN_SETTING, value=at_server),
        tcp_capture(client, int(port)) as capture,
    ):
        program = [address, port, str(usage.times)]
        receiver = server.probe.start("run", argv=_argv(SERVER_PROGRAM, program, usage.server))
        eventually(
            lambda: (address, int(port)) in listeners(server.probe)[0],
            until=bool,
            within=RUN_TIMEOUT_S,
            what=f"a listener on port {port} of {server.name}",
        )
        sender = client.probe.start("run", argv=_argv(CLIENT_PROGRAM, program, usage.client))
        sent, got = (each.read(RunResult, RUN_TIMEOUT_S) for each in (sender, receiver))
        packets = capture.stop()
    evidence.packets(rows(packets, client.name))
    for machine, result in ((client, sent), (server, got)):
        assert result.returncode == 0, f"the program on {machine.name} failed: {result.stderr.strip()}"
    whole = f"{len(FIRST + THEN)} {sha256(FIRST + THEN).hexdigest()}"
    assert got.stdout.split("\n")[:-1] == [whole] * usage.times, "data was lost, or delivered twice"
    _check_syns(packets, usage)


def _argv(program: str, arguments: list[str], options: tuple[int, ...]) -> list[str]:
    return ["python3", "-c", program, *arguments, *map(str, options)]


def _check_syns(packets: list[Segment], usage: Usage) -> None:
    """Check the SYNs and their answers: cookie, data, and whether the server took the data."""
    syns = list({syn.sport: syn for syn in first_syns(packets) if not joins([syn])}.values())
    assert len(syns) == usage.times and all(map(capable, syns)), f"SYNs: {format_segments(syns)}"
    answers = [_answer(packets, syn) for syn in syns]
    if usage.times == 2:
        assert (_cookie(syns[0]), syns[0].payload) == (b"", b""), (
            "the first SYN did not just ask for a cookie"
        )
        cookie = _cookie(answers[0])
        assert cookie, f"the server gave no cookie: {format_segments(answers[:1])}"
        assert _cookie(syns[1]) == cookie, "the second SYN does not have the server's cookie"
    else:
        assert _cookie(syns[0]) is None, "a SYN without a cookie has the option"
    assert syns[-1].payload == FIRST, f"the last SYN has no data: {format_segments(syns[-1:])}"
    taken = (answers[-1].ack - syns[-1].seq) % (1 << 32) == 1 + len(FIRST)
    assert taken == usage.is_taken, f"data in the SYN was taken: {taken}"
    assert capable(answers[-1]) or not taken, "data was taken, and the connection fell back"


def _answer(packets: list[Segment], syn: Segment) -> Segment:
    return next(s for s in packets if s.flags & (SYN | ACK) == SYN | ACK and s.dport == syn.sport)


def _cookie(segment: Segment) -> bytes | None:
    """Return the cookie of a segment, an empty one that asks for it, or None without the option."""
    found = [o for o in segment.options if isinstance(o, TcpOption) and o.kind == FAST_OPEN_KIND]
    return found[0].data if found else None
