"""DIRECT-5 and DIRECT-6: which paths the default scheduler uses."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct.shares import (
    LINK_MBIT,
    by_nic,
    check_shares,
    limited_nics,
    near_nics,
    plain_goodput,
    sent_again,
)
from mptcp_lab.suite.direct.unequal import multipath_goodput
from mptcp_lab.suite.directions import DOWNLOAD
from mptcp_lab.suite.expectations import direct_flow, expected_pairs, wait_for_joins
from mptcp_lab.suite.requirements import FULL_MESH, ORIGIN, TWO_PATHS

#: A message is sent when all earlier ones are acknowledged, however busy the machine is: the scheduler may
#: put one on another path while the one before is in flight.
MESSAGES, MESSAGE_BYTES, EVERY_SECONDS = 30, 100, 0.02
BULK_BYTES = 8_000_000


@claim("DIRECT-5", requires=(ORIGIN, FULL_MESH))
def test_small_messages(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """An application that sends less than the first path can carry stays on that path."""
    with direct_flow(client, server) as data:
        transfer = data.start(chunk=MESSAGE_BYTES, interval=EVERY_SECONDS, acknowledged=True)
        wait_for_joins(data, expected_pairs(client, server))
        started = data.sent_by_subflow()
        data.wait_for_bytes(MESSAGES * MESSAGE_BYTES)
        sent = {pair: nbytes - started[pair] for pair, nbytes in data.sent_by_subflow().items()}
        ended = data.end(transfer)
    evidence.subflows([{"local": pair[0], "remote": pair[1], "bytes": sent[pair]} for pair in sorted(sent)])
    elsewhere = {pair: nbytes for pair, nbytes in sent.items() if nbytes and pair[0] != client.address(0)}
    assert ended.intact, ended.difference
    assert not elsewhere, f"other paths carried some: {elsewhere}"


@claim("DIRECT-6", requires=ORIGIN)
def test_bulk(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A bulk transfer over paths of limited rate uses every one, and comes near the sum of the rates."""
    with limited_nics(client, client.paths):
        plain = plain_goodput(client, server, BULK_BYTES // len(client.paths))
        before, counted = client.probe.nics(), client.probe.counters()
        with direct_flow(client, server) as data:
            ended = data.upload(BULK_BYTES)
        shares = by_nic(client, client.paths, before)
    evidence.document("congestion control of A", client.probe.sysctls()["net.ipv4.tcp_congestion_control"])
    of_sum = ended.goodput / (len(client.paths) * LINK_MBIT)
    evidence.figure("goodput, of the sum of the links", of_sum)
    evidence.figure("goodput, of plain TCP on every link", ended.goodput / plain)
    evidence.figure("segments sent again, of all", sent_again(client, counted))
    assert ended.intact, ended.difference
    check_shares(shares, of_sum, evidence)


@claim("DIRECT-6", case="download", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_bulk_download(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A bulk transfer to the client does the same over the server's links."""
    nics = near_nics(client, server)
    with limited_nics(server, nics):
        before = server.probe.nics()
        goodput = multipath_goodput(client, server, DOWNLOAD, warm_up=0)
        shares = by_nic(server, nics, before)
    of_sum = goodput / (len(nics) * LINK_MBIT)
    evidence.figure("goodput, of the sum of the links", of_sum)
    check_shares(shares, of_sum, evidence)
