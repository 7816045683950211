"""Checks with a user-space peer or a manipulated middle are seen red: what they need is lost or forged.

Rows that captures show are seen red on rewritten captures: tests/wire/test_rows.py. That a healthy lab is
green is for test_whole_suite.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from mptcp_lab.machines.lease import Lease
from mptcp_lab.machines.session import session
from mptcp_lab.suite.packets import first_syns
from mptcp_lab.suite.rfc8684.peer_subflow import Subflow
from mptcp_lab.suite.rfc8684.peer_wire import Wire
from mptcp_lab.wire import Dss, MpCapable, Segment
from mptcp_lab.wire.endpoint import Endpoint, Leg
from mptcp_lab.wire.packet import ACK, SYN
from tests.e2e.conftest import Configured
from tests.e2e.sabotage import IMPATIENT, Sabotage, assert_seen, broken, options

SYNS, SYN_ACKS = "tcp flags & (syn | ack) == syn", "tcp flags & (syn | ack) == syn | ack"
#: Octets 2 and 3 of an MPTCP option (kind 30) are its subtype and version, and the flags of MP_CAPABLE.
FORGED = SYNS + " tcp option @30,16,16 {asked} tcp option @30,16,16 set 0x0101"
#: MP_CAPABLE after the SYN gets version 1 and flag H alone.
RIGHT_AFTER_SYN = (
    "tcp flags & syn == 0 tcp option mptcp subtype 0 tcp option @30,16,16 != 0x0101"
    " tcp option @30,16,16 set 0x0101"
)
#: The payload of a packet with the data that suite/rfc8684/fast_open.py sends in its SYN ("in t") is changed.
CHANGED_AFTER_SYN = "tcp flags & syn == 0 @ih,0,32 0x696e2074 @ih,0,32 set 0x494e2054"
#: The first option of a SYN/ACK, the segment size, becomes MP_CAPABLE of version 1 without a key. Nobody on
#: the way looks at the checksum: what is heard is taken from the wire.
GAINED = SYN_ACKS + " tcp option maxseg size > 0 @th,160,32 set 0x1e040101"


@dataclass(frozen=True)
class Middle:
    """Rules of nftables on a host, by hook and one per line, and the cases that must fail under them."""

    host: str
    rules: dict[str, str]
    cases: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command that puts the rules in place."""
        lines = ["table inet sabotage"]
        for hook, rules in self.rules.items():
            lines.append(f"chain inet sabotage {hook} {{ type filter hook {hook} priority -200; }}")
            lines += [f"rule inet sabotage {hook} {rule}" for rule in rules.splitlines()]
        return "nft -f - <<'X'\n" + "\n".join(f"add {line}" for line in lines) + "\nX"


#: What a host answers to nonsense: nothing, and the connection lives. Lost data looks like a dead connection.
IGNORED = ("3.4.2/1[ignored{}-R47]", "3.5/2[ignored{}-R50]", "3.6/1[ignored{}-R51]")

MIDDLES = {
    "B's resets are lost": Middle(
        "server1",
        {"output": "tcp flags & rst == rst drop"},
        (
            "3.2/4[direct]",
            "3.2/5[third-packet-direct]",
            "3.2/7[third-packet-direct]",
            "3.3/1[direct-missing]",
            "3.3/1[direct-unasked]",
            "3.3.1/3[direct]",
        ),
    ),
    "A's resets are lost": Middle(
        "client",
        {"output": "ip daddr 198.18.1.31 ip saddr 198.18.2.10 tcp flags & rst == rst drop"},
        (
            "3.2/5[answer-R21]",
            "3.2/7[answer-R23]",
            "3.3/1[by-server-missing]",
            "3.3/1[by-server-unasked]",
            "3.3.1/3[by-server]",
        ),
    ),
    "third packets of joins are lost": Middle(
        "client", {"output": "tcp option mptcp subtype 1 tcp flags & syn == 0 drop"}, ("3.2/6",)
    ),
    "announcements and removals to B are lost": Middle(
        "server1",
        {"input": "tcp option mptcp subtype { 3, 4 } drop"},
        ("3.4.1/3[direct]", "3.4.2/1[several-ids-direct]"),
    ),
    "announcements to A are lost": Middle(
        "client", {"input": "tcp option mptcp subtype 3 drop"}, ("3.4.1/3[by-server]",)
    ),
    "later data to B is lost": Middle(
        "server1",
        {"input": "tcp option mptcp subtype 2 tcp flags & psh == psh drop"},
        (*(case.format("-direct") for case in IGNORED), "3.8/1[direct]"),
    ),
    "B does not see flags as they are": Middle(
        "server1",
        {
            "input": (
                f"{FORGED.format(asked='0x0100')}\n{FORGED.format(asked='0x0141')}\n"
                "tcp option @30,16,16 0x0121 tcp option @30,16,16 set 0x0101"
            )
        },
        ("3.1/5[peer-direct-R05]", "3.1/6[peer-direct-R06]", "3.1/14[by-client]"),
    ),
    "B's answers gain MP_CAPABLE": Middle("server1", {"output": GAINED}, ("3.1/7[peer-direct-R07]",)),
    "B answers version 2": Middle(
        "server1",
        {
            "input": FORGED.format(asked="0x0201"),
            "output": SYN_ACKS + " tcp option @30,16,16 0x0101 tcp option @30,16,16 set 0x0201",
        },
        ("3.1/7[version-2-direct]",),
    ),
    "B sees a right third packet": Middle(
        "server1",
        {"input": RIGHT_AFTER_SYN},
        ("3.1/6[third-packet-direct-R06]", "3.1/7[third-packet-direct-R07]"),
    ),
    "A does not see flags and version as they are": Middle(
        "client",
        {
            "input": (
                f"{SYN_ACKS} tcp option @30,16,16 0x0100 tcp option @30,16,16 set 0x0101\n"
                f"{SYN_ACKS} tcp option @30,16,16 0x0141 tcp option @30,16,16 set 0x0101\n"
                f"{SYN_ACKS} tcp option @30,16,8 0x00 tcp option @30,16,16 set 0x0101"
            )
        },
        ("3.1/5[answer-R05]", "3.1/6[answer-R06]", "3.1/7[answer-R07]"),
    ),
    "joins are lost": Middle("server1", {"input": "tcp option mptcp subtype 1 drop"}, ("6/1", "SPLIT-6")),
    "SYNs are lost": Middle("server1", {"input": SYNS + " drop"}, ("3.1/11",)),
    "SYNs lose the option": Middle(
        "server1",
        {"input": SYNS + " reset tcp option mptcp"},
        ("B.2/1[accepted]", "B.2/1[IPv6-accepted]"),
    ),
    "data after a SYN is changed": Middle(
        "server1", {"input": CHANGED_AFTER_SYN}, ("B.2/1[IPv6-refused]", "B.2/1[cookies]")
    ),
    "first data is lost": Middle(
        "server1",
        {"input": "tcp option mptcp subtype 0 tcp flags & psh == psh drop"},
        ("3.1/4[third-packet-lost-direct]",),
    ),
}


def cases(middle: Middle) -> list[str]:
    """The cases' full names."""
    return [case if case.startswith("SPLIT") else f"RFC8684-{case}" for case in middle.cases]


@pytest.mark.parametrize("middle", MIDDLES.values(), ids=MIDDLES.keys())
def test_wrong_middle_is_seen(configured: Configured, middle: Middle) -> None:
    wrong = cases(middle)
    with broken(configured, middle.host, middle.command, "nft delete table inet sabotage"):
        red = configured.suite("--strict", *options(*wrong), *IMPATIENT)
    assert red.verdicts() == dict.fromkeys(wrong, "fail"), red.output


#: Without timestamps the announcement has room, and is lost on its way out: neither sent nor dropped.
LOST = Middle("server1", {"output": "tcp option mptcp subtype 3 drop"}, ("A/1",))
OPTION_SPACE = Sabotage(
    "RFC8684-A/1",
    LOST.host,
    f"sysctl -qw net.ipv4.tcp_timestamps=0; {LOST.command}",
    "sysctl -qw net.ipv4.tcp_timestamps=1; nft delete table inet sabotage",
    "neither sent nor dropped",
)


def test_announcement_that_vanishes_is_seen(configured: Configured) -> None:
    assert_seen(configured, OPTION_SPACE)


#: Seen red with a user-space server that answers in B's place.
WRONG_SERVER = "RFC8684-3.1/10[peer-direct]"


def reds() -> Iterator[tuple[str, str]]:
    """A fault, and the case that fails with it."""
    yield from ((name, case) for name, middle in MIDDLES.items() for case in cases(middle))
    yield "a server that goes on with MPTCP", WRONG_SERVER
    yield "announcements lost where there is room", OPTION_SPACE.claim


def answers_with_dss(wire: Wire) -> None:
    """A wrong server: it speaks MPTCP after a third packet without MP_CAPABLE."""
    syn = wire.next(first_syns_only, "a SYN")
    endpoint = Endpoint()
    first = Subflow(wire, Leg.from_syn(syn), endpoint)
    first.says(SYN | ACK, MpCapable(endpoint.key))
    first.hears(ACK, lambda segment: segment.payload_length, "data")
    first.says(ACK, Dss(data_ack=endpoint.dsn))


def first_syns_only(segment: Segment) -> bool:
    """Whether a segment opens a connection."""
    return bool(first_syns([segment]))


def test_wrong_server_is_seen(configured: Configured) -> None:
    """B's kernel is kept from its own port 7000, where a user-space peer answers in its place."""
    case = WRONG_SERVER
    with session(configured.own.lab) as machines, ThreadPoolExecutor(1) as beside:
        b = machines.machines["server1"]
        with ExitStack() as stack:
            with Lease.take({b.name: b.probe}, "a test", "sabotage"):
                wire = stack.enter_context(Wire(b, b.address(), 7000, heard_within=120))
            served = beside.submit(answers_with_dss, wire)
            red = configured.suite(f"--claim={case}")
            served.result(timeout=10)
    assert red.verdicts() == {case: "fail"}, red.output
    assert "MPTCP after plain TCP" in red.reason(case)
