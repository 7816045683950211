"""Wave 1: check each row on a session of ordinary traffic, as both ends captured it.

| about | rows (the function of each is in mptcp_lab/wire/rows/) |
| --- | --- |
| connection initiation, keys | R01 R02 R03 R04 R05 R06 R08 R09 R10 R12 R13 R14 R15 R16 |
| starting subflows | R17 R18 R19 R24 R25 R26 R57 R58 |
| data, closing, priorities | R28 R29 R31 R32 R33 R34 R35 R36 R37 R38 |
| addresses | R39 R40 R42 R43 R44 R45 R46 R47 |
| fast close, resets, fallback | R49 R51 R52 R53 R54 R55 |
"""

import pytest

from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.packets import format_segments, rows
from mptcp_lab.suite.rfc8684.ordinary import Shown, Traffic
from mptcp_lab.wire import Side
from mptcp_lab.wire.rows import ROWS, Outcome, Row

FIRST_JOIN = next(row for row in ROWS if row.alias == "R16")
#: R16 is checked below. R20 is checked in test_peer_client.py, because a capture alone never shows it
#: (docs/dev/wire.md), and R60 in test_fastopen.py.
ELSEWHERE = ("R16", "R20", "R60")
PASSIVE = [
    pytest.param(row, marks=claim(row.alias), id=row.alias) for row in ROWS if row.alias not in ELSEWHERE
]


@pytest.mark.parametrize("row", PASSIVE)
def test_ordinary_traffic(ordinary: Traffic, evidence: EvidenceBox, row: Row) -> None:
    """Ordinary traffic shows the requirement at work, and neither end sees it breached."""
    found = ordinary.observations(row)
    breaches = [each for each in found if each.observation.outcome is Outcome.BREACH]
    for each in (breaches or found)[:2]:
        packets = each.end.select_packets(each.observation.packets)
        table = rows(packets, each.end.host)
        evidence.packets(table, name=f"packets at {each.end.host}")
    for end in ordinary.ends if breaches or not found else ():
        evidence.pcap(f"session at {end.host}", end.pcapng)
    if not found and ordinary.lacking:
        raise ordinary.lacking[0]
    assert found, f"{row.requirement}: the session did not show it; {'; '.join(ordinary.unfinished)}"
    assert not breaches, f"{row.requirement}: {'; '.join(map(describe, breaches[:2]))}"


def describe(found: Shown) -> str:
    """Return what is wrong, on which host it was seen, and in which packets."""
    return f"{found.observation.detail} (seen at {found.end.host}: {format_packets(found)})"


def format_packets(found: Shown) -> str:
    """Return the packets of an observation as text."""
    return format_segments(found.end.select_packets(found.observation.packets))


@claim("R29", case="whole-session")
def test_every_scenario_ended(ordinary: Traffic) -> None:
    """Every scenario completes and its streams are delivered, whatever happens to the subflows."""
    assert not ordinary.unfinished, "; ".join(ordinary.unfinished)
    if ordinary.lacking:
        raise ordinary.lacking[0]


@claim("R57", case="local-port")
def test_local_port(ordinary: Traffic) -> None:
    """A join leaves from the local port of the first subflow, where that is possible."""
    pairs = [
        (connection.subflows[0], further)
        for connection in ordinary.ends[0].analysis.mptcp
        for further in connection.subflows[1:]
        if further.opener is Side.CLIENT
    ]
    others = [(first.sport, further.sport) for first, further in pairs if further.sport != first.sport]
    assert pairs, "no connection had joins"
    assert not others, f"first subflow and join left from ports {others[0]}, and {len(others) - 1} more so"


@claim("R16", case="silent")
def test_server_announces_nothing(ordinary: Traffic) -> None:
    """Where the server announces no address, no MP_JOIN comes before a DSS of the server."""
    found = [each for each in ordinary.observations(FIRST_JOIN) if not announced_first(each)]
    early = [each for each in found if each.observation.outcome is Outcome.BREACH]
    assert found, "no connection had joins without announcements"
    assert not early, f"{FIRST_JOIN.requirement}: {format_packets(early[0])}"


@claim("R16", case="announced")
def test_server_announces(ordinary: Traffic) -> None:
    """Where the server announces addresses, no MP_JOIN comes before its first ADD_ADDR.

    An MP_JOIN after the ADD_ADDR is the known deviation of this row, as ./lab pcap shows it.
    """
    found = [each for each in ordinary.observations(FIRST_JOIN) if each.connection.announcements.total]
    early = [each for each in found if each.observation.outcome is Outcome.BREACH]
    assert found, "no connection had joins and announcements"
    assert not early, f"joined before ADD_ADDR: {format_packets(early[0])}"


def announced_first(found: Shown) -> bool:
    """Return whether the server announced an address before the first join."""
    first = min(each.first_packet for each in found.connection.subflows[1:])
    announced = (each.packet for each in found.connection.announcements if each.side is Side.SERVER)
    return min(announced, default=first) < first
