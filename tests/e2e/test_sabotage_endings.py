"""Cases of RFC 8684 and of IPv6 that packetdrill and the kernel's selftests have too, seen red."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Configured
from tests.e2e.sabotage import Sabotage, assert_seen, filtered, with_marks
from tests.e2e.test_sabotage_coverage import ANNOUNCEMENT, JOIN, SYN
from tests.e2e.test_sabotage_endpoints import ONCE
from tests.e2e.test_sabotage_joins import THIRD

#: The ports of user-space peers, as the other end of the connection.
TO_PEER, FROM_PEER = "tcp dport 20000-29999", "tcp sport 20000-29999"
#: A DSS with DATA_FIN that comes first among the options (kind 30; flag F).
DATA_FIN = "@th,160,8 0x1e @th,184,8 & 0x10 == 0x10"
FIN, RST = (f"tcp flags & {flag} == {flag}" for flag in ("fin", "rst"))


def _fought(claim: str, host: str, name: str, value: int, before: int, word: str) -> Sabotage:
    """Let another program set a sysctl again and again, as a daemon that fights the lab would."""
    loop = f"while sleep 0.02; do sysctl -qw {name}={value}; done"
    command = f"systemd-run -q --unit=setter sh -c '{loop}'"
    return Sabotage(claim, host, command, f"systemctl stop setter; sysctl -qw {name}={before}", word)


SABOTAGES = {
    "A sends its DATA_FIN once": filtered(
        "RFC8684-3.3.3/1[lost-closes-first]",
        "client",
        "output",
        f"{TO_PEER} {DATA_FIN} {ONCE}",
        "DATA_FIN once more did not come",
    ),
    "B gets the first data without options": filtered(
        "RFC8684-3.3.3/1[with-first-data]",
        "server1",
        "input",
        f"{FROM_PEER} tcp flags & psh == psh reset tcp option mptcp",
        "DATA_ACK of data and DATA_FIN did not come",
    ),
    "A's FIN is lost": filtered(
        "RFC8684-3.3.3/3[acknowledged-ahead]",
        "client",
        "output",
        f"{TO_PEER} {FIN} drop",
        "FIN of the subflow did not come",
    ),
    "A answers MP_FASTCLOSE with nothing": filtered(
        "RFC8684-3.5/1[received-on-ack]",
        "client",
        "output",
        f"{TO_PEER} {RST} drop",
        "RST of a subflow did not come",
    ),
    "A's reset subflow answers nothing": filtered(
        "RFC8684-3.6/1[only-subflow]",
        "client",
        "output",
        f"{TO_PEER} {RST} drop",
        "RST of a subflow that has ended did not come",
    ),
    "A does not get the RST": filtered(
        "RFC8684-3.6/1[plain-tcp]", "client", "input", f"{FROM_PEER} {RST} drop", "did not end within"
    ),
    "B resets data without options": filtered(
        "RFC8684-3.7/1[after-data]",
        "server1",
        "input",
        f"{FROM_PEER} meta length 140 reject with tcp reset",
        "ACK of data without options did not come",
    ),
    "the reset of a first subflow is lost": filtered(
        "RFC8684-3.3.1/3[on-first-subflow]",
        "client",
        "output",
        f"{TO_PEER} {RST} drop",
        "RST of the first subflow did not come",
    ),
    "B announces no port over IPv6": filtered(
        "RFC8684-A/1[joined]", "server1", "output", ANNOUNCEMENT, "an IPv6 address with a port"
    ),
    "B's probes of the window are lost": filtered(
        "RFC8684-3.1/4[closed-window]",
        "server1",
        "output",
        f"{TO_PEER} tcp flags & syn == 0 meta length < 300 drop",
        "a probe of the window did not come",
    ),
    "the echo on another subflow is lost": filtered(
        "RFC8684-3.4.1/4[on-a-new-subflow]",
        "client",
        "input",
        f"{FROM_PEER} tcp option mptcp subtype add-addr drop",
        "an echo that client takes",
    ),
    "B asks for no checksums": _fought(
        "RFC8684-3.1/15[asked-for-by-server]",
        "server1",
        "net.mptcp.checksum_enabled",
        0,
        0,
        "without a checksum",
    ),
    "the joins of a client with flag C are lost": filtered(
        "RFC8684-3.1/14[forbidding-client]", "server1", "input", f"{JOIN} drop", "the client forbids joins"
    ),
    "B announces nothing again": Sabotage(
        "RFC8684-3.4.1/5[several-ipv6]",
        "server1",
        "sysctl -qw net.mptcp.add_addr_timeout=0",
        "sysctl -qw net.mptcp.add_addr_timeout=120",
        "AddAddr on client",
    ),
    "B's MP_FASTCLOSE is lost": filtered(
        "RFC8684-3.5/1[by-server]", "server1", "output", f"{RST} drop", "MPFastcloseRx on client"
    ),
    "B gives no cookie": _fought(
        "RFC8684-B.2/1[by-cookie]", "server1", "net.ipv4.tcp_fastopen", 0, 1, "the server gave no cookie"
    ),
    "B takes no data by socket option": _fought(
        "RFC8684-B.2/1[by-option]", "server1", "net.ipv4.tcp_fastopen", 0, 1, "was taken: False"
    ),
    "A's echoes over IPv6 are lost": filtered(
        "DIRECT-13[endpoints]",
        "client",
        "output",
        "meta nfproto ipv6 tcp option mptcp subtype add-addr drop",
        "ADD_ADDR",
    ),
    "B takes nothing large over IPv6": filtered(
        "DIRECT-13[plain-server]",
        "server1",
        "input",
        "meta nfproto ipv6 meta length > 1000 drop",
        "did not end within",
    ),
    "third packets dropped at B, IPv6 with cookies": filtered(
        "PROXY-13[direct-ipv6]", "server1", "input", f"{THIRD} drop", "third packet dropped at the server"
    ),
    "B gets no MPTCP option over IPv6": filtered(
        "DIRECT-14[python-ipv6]",
        "server1",
        "input",
        f"meta nfproto ipv6 {SYN} tcp dport 7000 reset tcp option mptcp",
        "to B: ",
    ),
    "B gets no MPTCP option over IPv6, readable octets": filtered(
        "PROXY-15[readable-ipv6]",
        "server1",
        "input",
        f"meta nfproto ipv6 {SYN} tcp dport 7000 reset tcp option mptcp",
        "not of the kind that this check reads",
    ),
}
#: The others run with `-m long` only: each waits five seconds or more for what does not come.
ALWAYS = ("B asks for no checksums", "B gives no cookie", "B gets no MPTCP option over IPv6")


@pytest.mark.parametrize("sabotage", with_marks(SABOTAGES, ALWAYS))
def test_broken_lab_is_seen(configured: Configured, sabotage: Sabotage) -> None:
    assert_seen(configured, sabotage)
