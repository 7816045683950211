"""Wave 1: what a session of ordinary traffic shows, row by row, as both ends captured it."""

import pytest

from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.ordinary import Shown, Traffic
from mptcp_lab.suite.packets import rows, shown
from mptcp_lab.wire.rows import ROWS, Outcome, Row

#: R16 has a file of its own; a capture alone never shows R20 (docs/wire.md).
ELSEWHERE = ("R16", "R20")
PASSIVE = [
    pytest.param(row, marks=claim(row.alias), id=row.alias) for row in ROWS if row.alias not in ELSEWHERE
]


@pytest.mark.parametrize("row", PASSIVE)
def test_ordinary_traffic(ordinary: Traffic, evidence: EvidenceBox, row: Row) -> None:
    """Ordinary traffic shows the requirement at work, and neither end sees it breached."""
    found = ordinary.of(row)
    breaches = [each for each in found if each.observation.outcome is Outcome.BREACH]
    for each in (breaches or found)[:2]:
        packets = each.end.named(each.observation.packets)
        table = rows(packets, each.end.host, "", packets[0].time_ns)
        evidence.packets(table, name=f"packets at {each.end.host}")
    assert found, f"{row.requirement}: the session did not show it"
    assert not breaches, f"{row.requirement}: {'; '.join(map(told, breaches[:2]))}"


def told(found: Shown) -> str:
    """Say what is wrong, and in which packets."""
    packets = shown(found.end.named(found.observation.packets))
    return f"{found.observation.detail} (seen at {found.end.host}: {packets})"
