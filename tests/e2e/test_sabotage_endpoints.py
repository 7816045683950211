"""The checks of DIRECT-16, DIRECT-19 and DIRECT-20 seen red: endpoints, backups and kinds of endpoints."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Configured
from tests.e2e.sabotage import Sabotage, assert_seen, filtered, with_marks

ONCE = "limit rate over 1/day burst 1 packets drop"
JOINS = "tcp dport 7000 tcp flags & (syn | ack) == syn tcp option mptcp subtype mp-join"
#: MP_PRIO (kind 30, 3 octets) comes after timestamps and a DSS with a DATA_ACK of 8 or 4 octets. The match of
#: nft itself sees the first MPTCP option only.
PRIORITY = "@th,352,16 0x1e03 drop; add rule inet sabotage c @th,320,16 0x1e03 drop"
#: Deletes A's second endpoint whenever it comes back with id 9, as a daemon that fights the lab would.
MEDDLER = (
    'systemd-run -q --unit=meddler sh -c \'while sleep 0.02; do ip mptcp endpoint show | grep -q "id 9 "'
    " && ip mptcp endpoint delete id 9; done'"
)


SABOTAGES = {
    "only the first join gets to B": filtered(
        "DIRECT-16[subflow]", "server1", "input", f"{JOINS} {ONCE}", "id 2 added: not within"
    ),
    "only the first announcement leaves B": filtered(
        "DIRECT-16[signal]",
        "server1",
        "output",
        f"tcp option mptcp subtype add-addr {ONCE}",
        "id 2 added: not within",
    ),
    "only the first two joins get to B after a flush": filtered(
        "DIRECT-16[flush]",
        "server1",
        "input",
        f"{JOINS} limit rate over 1/day burst 2 packets drop",
        "id 2 added at the client: not within",
    ),
    "another program deletes an endpoint": Sabotage(
        "DIRECT-16[subflow]", "client", MEDDLER, "systemctl stop meddler", "unasked"
    ),
    "B's word about the first path is lost": filtered(
        "DIRECT-19[first-by-server]",
        "server1",
        "output",
        PRIORITY,
        "MP_PRIO number 1 at the client (MPPrioRx)",
    ),
    "A's change is lost": filtered(
        "DIRECT-19[set-by-client]",
        "client",
        "output",
        PRIORITY,
        "MP_PRIO number 1 at the server (MPPrioRx)",
    ),
    "A's data on the backup is lost": filtered(
        "DIRECT-19[declared-by-server]",
        "server1",
        "input",
        "ip saddr 198.18.2.10 meta length > 300 drop",
        "50000 more octets at the server",
    ),
    "joins from A-2 are lost": filtered(
        "DIRECT-20[laminar]",
        "server1",
        "input",
        f"ip saddr 198.18.2.10 {JOINS} drop",
        "1 joined subflows",
    ),
    "B's announcements are lost": filtered(
        "DIRECT-20[implicit]",
        "server1",
        "output",
        "tcp option mptcp subtype add-addr drop",
        "1 joined subflows",
    ),
}
#: The others run with `-m long` only: each waits ten seconds or more for what does not come.
ALWAYS = ("only the first join gets to B", "A's change is lost", "B's announcements are lost")


@pytest.mark.parametrize("sabotage", with_marks(SABOTAGES, ALWAYS))
def test_broken_lab_is_seen(configured: Configured, sabotage: Sabotage) -> None:
    assert_seen(configured, sabotage)
