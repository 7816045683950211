"""R16: when a client may open further subflows."""

from mptcp_lab.plugin import claim
from mptcp_lab.suite.ordinary import Shown, Traffic
from mptcp_lab.suite.packets import shown
from mptcp_lab.wire import Side
from mptcp_lab.wire.rows import ROWS, Outcome

ROW = next(row for row in ROWS if row.alias == "R16")


@claim("R16", case="silent")
def test_server_announces_nothing(ordinary: Traffic) -> None:
    """Where the server announces no address, no MP_JOIN comes before a DSS of the server."""
    found = [each for each in ordinary.of(ROW) if not announced_first(each)]
    early = [each for each in found if each.observation.outcome is Outcome.BREACH]
    assert found, "no connection had joins without announcements"
    assert not early, f"{ROW.requirement}: {shown(early[0].end.named(early[0].observation.packets))}"


@claim("R16", case="announced")
def test_server_announces(ordinary: Traffic) -> None:
    """Where the server announces addresses, no MP_JOIN comes before its first ADD_ADDR."""
    found = [each for each in ordinary.of(ROW) if each.connection.announcements.total]
    early = [each for each in found if not announced_first(each)]
    early = [each for each in early if each.observation.outcome is Outcome.BREACH]
    assert found, "no connection had joins and announcements"
    assert not early, f"joined before ADD_ADDR: {shown(early[0].end.named(early[0].observation.packets))}"


def announced_first(found: Shown) -> bool:
    """Whether the server announced an address before the first join."""
    first = min(each.first_packet for each in found.connection.subflows[1:])
    announced = (each.packet for each in found.connection.announcements if each.side is Side.SERVER)
    return min(announced, default=first) < first
