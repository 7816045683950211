"""Checks with a user-space peer or a manipulated middle are seen red: what they need is lost or forged.

Rows that captures show are seen red on rewritten captures: tests/wire/test_rows.py. That the mended lab is
green is for test_whole_suite.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.e2e.conftest import Configured
from tests.e2e.sabotage import broken

#: Rewrites an option's version and flags on its way in. The window takes the difference, so that the sum of
#: the TCP header's words, and with it the checksum, stays as it was.
FORGED = "tcp flags & (syn | ack) == syn @th,176,16 {asked} @th,176,16 set 0x0101 @th,112,16 set {window}"


@dataclass(frozen=True)
class Middle:
    """A rule of nftables on a host, and the cases that must fail under it."""

    host: str
    hook: str
    rule: str
    cases: tuple[str, ...]

    @property
    def command(self) -> str:
        """What puts the rule in place."""
        hook = f"{{ type filter hook {self.hook} priority -200; }}"
        lines = ("table inet sabotage", f"chain inet sabotage c {hook}", f"rule inet sabotage c {self.rule}")
        return "nft -f - <<'X'\n" + "\n".join(f"add {line}" for line in lines) + "\nX"


MIDDLES = {
    "B's resets are lost": Middle(
        "server1",
        "output",
        "tcp flags & rst == rst drop",
        (
            "RFC8684-3.2/4[direct]",
            "RFC8684-3.2/5[third-packet-direct]",
            "RFC8684-3.2/7[third-packet-direct]",
            "RFC8684-3.3/1[direct-missing]",
            "RFC8684-3.3/1[direct-unasked]",
            "RFC8684-3.3.1/3[direct]",
        ),
    ),
    "A's resets are lost": Middle(
        "client",
        "output",
        "ip daddr 198.18.1.31 ip saddr 198.18.2.10 tcp flags & rst == rst drop",
        ("RFC8684-3.2/5[answer-R21]", "RFC8684-3.2/7[answer-R23]"),
    ),
    "third packets of joins are lost": Middle(
        "client", "output", "tcp option mptcp subtype 1 tcp flags & syn == 0 drop", ("RFC8684-3.2/6",)
    ),
    "announcements are lost": Middle(
        "server1", "input", "tcp option mptcp subtype 3 drop", ("RFC8684-3.4.1/3[direct]",)
    ),
    "later data is lost": Middle(
        "server1",
        "input",
        "tcp option mptcp subtype 2 tcp flags & psh == psh drop",
        ("RFC8684-3.5/2[direct]", "RFC8684-3.6/1[without-RST-direct]", "RFC8684-3.8/1[direct]"),
    ),
    "B sees flag H": Middle(
        "server1",
        "input",
        FORGED.format(asked="0x0100", window="0xfffe"),
        ("RFC8684-3.1/5[peer-direct-R05]",),
    ),
    "B does not see flag B": Middle(
        "server1",
        "input",
        FORGED.format(asked="0x0141", window="0x0040"),
        ("RFC8684-3.1/6[peer-direct-R06]",),
    ),
    "joins are lost": Middle(
        "server1", "input", "tcp option mptcp subtype 1 drop", ("RFC8684-6/1", "SPLIT-6")
    ),
    "SYNs are lost": Middle("server1", "input", "tcp flags & (syn | ack) == syn drop", ("RFC8684-3.1/11",)),
    "first data is lost": Middle(
        "server1",
        "input",
        "tcp option mptcp subtype 0 tcp flags & psh == psh drop",
        ("RFC8684-3.1/4[third-packet-lost-direct]",),
    ),
}


@pytest.mark.parametrize("middle", MIDDLES.values(), ids=MIDDLES.keys())
def test_wrong_middle_is_seen(configured: Configured, middle: Middle) -> None:
    chosen = [f"--claim={case}" for case in middle.cases]
    with broken(configured, middle.host, middle.command, "nft delete table inet sabotage"):
        red = configured.suite("--strict", *chosen)
    assert red.verdicts() == dict.fromkeys(middle.cases, "fail"), red.output
