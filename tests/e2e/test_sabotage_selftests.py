"""Cases about endpoints, daemons and backups that the kernel's selftests have too, seen red."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Configured
from tests.e2e.sabotage import Sabotage, assert_seen, filtered, with_marks
from tests.e2e.test_sabotage_coverage import ANNOUNCEMENT, JOIN
from tests.e2e.test_sabotage_endpoints import PRIORITY

FROM_A3 = f"ip saddr 198.18.3.10 {JOIN} drop"
#: Sets other limits than the suite's, again and again, as a daemon that fights the lab would.
RAISER = (
    "systemd-run -q --unit=raiser sh -c"
    " 'while sleep 0.02; do ip mptcp limits set subflows 8 add_addr_accepted 8; done'"
)
RAISER_GONE = "systemctl stop raiser"

SABOTAGES = {
    "B answers a refused join over IPv6 with nothing": filtered(
        "DIRECT-17[one-address-ipv6]",
        "server1",
        "output",
        "meta nfproto ipv6 tcp flags & rst == rst drop",
        "did not answer the join with RST",
    ),
    "the join of a mapped endpoint is lost": filtered(
        "DIRECT-17[mapped-endpoints-mapped]",
        "server1",
        "input",
        f"ip saddr 198.18.2.10 {JOIN} drop",
        "the subflows of mapped endpoints",
    ),
    "a daemon's announcement is lost": filtered(
        "DIRECT-24[both-ends]", "client", "output", ANNOUNCEMENT, "the event announced"
    ),
    "the IPv4 subflow of a connection over IPv6 is lost": filtered(
        "DIRECT-24[both-ends-ipv6]",
        "server1",
        "input",
        f"meta nfproto ipv4 {JOIN} drop",
        "a subflow that the client opens",
    ),
    "the subflow after a refused one is lost": filtered(
        "DIRECT-24[refused-subflow]", "server1", "input", f"{JOIN} drop", "the next subflow"
    ),
    "the second of two endpoints gets no subflow": filtered(
        "DIRECT-16[several]", "server1", "input", FROM_A3, "two endpoints of the client are added"
    ),
    "only the first of two announcements leaves B": filtered(
        "DIRECT-16[several-ipv6]",
        "server1",
        "output",
        "tcp option mptcp subtype add-addr limit rate over 1/day burst 1 packets drop",
        "two endpoints of the server are added",
    ),
    "one subflow of a later full mesh is lost": filtered(
        "DIRECT-20[fullmesh-later]",
        "server1",
        "input",
        f"ip saddr 198.18.3.10 ip daddr 198.18.2.31 {JOIN} drop",
        "two full-mesh endpoints are added",
    ),
    "another program raises the limit of a later full mesh": Sabotage(
        "DIRECT-20[fullmesh-later-limited]", "client", RAISER, RAISER_GONE, "further subflows"
    ),
    "another program lets A accept announcements": Sabotage(
        "DIRECT-20[unused-ipv6]", "client", RAISER, RAISER_GONE, "that the client does not accept"
    ),
    "B announces nothing over IPv6": filtered(
        "DIRECT-13[families-apart]", "server1", "output", ANNOUNCEMENT, "an echo of the announcement"
    ),
    "the second laminar endpoint gets no subflow": filtered(
        "DIRECT-20[laminar-endpoints-2]", "server1", "input", FROM_A3, "each of 2 laminar endpoints"
    ),
    "the endpoint after one without an address gets no subflow": filtered(
        "DIRECT-20[next-joins-address-missing]",
        "server1",
        "input",
        f"ip saddr 198.18.2.10 {JOIN} drop",
        "one address is missing",
    ),
    "joins to two announced ports are lost": filtered(
        "DIRECT-16[several-ports]",
        "server1",
        "input",
        f"tcp dport != 7000 {JOIN} drop",
        "two addresses with one port",
    ),
    "A's change of a backup is lost beside B's": filtered(
        "DIRECT-19[set-by-both]", "client", "output", PRIORITY, "MP_PRIO number 1 at the server"
    ),
    "the other regular path passes nothing large": filtered(
        "DIRECT-11[beside-a-lost-path]",
        "server1",
        "input",
        "ip saddr 198.18.2.10 ip daddr 198.18.1.31 meta length > 300 drop",
        "more octets at the server",
    ),
}
#: The others run with `-m long` only: each waits ten seconds for what does not come.
ALWAYS = ("B answers a refused join over IPv6 with nothing",)


@pytest.mark.parametrize("sabotage", with_marks(SABOTAGES, ALWAYS))
def test_broken_lab_is_seen(configured: Configured, sabotage: Sabotage) -> None:
    assert_seen(configured, sabotage)
