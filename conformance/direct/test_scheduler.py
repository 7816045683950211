"""DIRECT-5 and DIRECT-6: which paths the default scheduler uses."""

from contextlib import ExitStack

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct.shares import by_nic, plain_goodput, sent_again
from mptcp_lab.suite.expectations import direct_flow, expected_pairs, wait_for_joins
from mptcp_lab.suite.requirements import FULL_MESH, ORIGIN
from mptcp_lab.suite.timing import check_time

#: A message is sent when all earlier ones are acknowledged, however busy the machine is: the scheduler may
#: put one on another path while the one before is in flight.
MESSAGES, MESSAGE_BYTES, EVERY_SECONDS = 30, 100, 0.02
LINK_MBIT = 20
#: A queue that loses nothing, because the check is about the scheduler and not about retransmissions.
QUEUE_MS, BURST_KB = 200, 64
BULK_BYTES = 8_000_000
#: Each of two equal paths should carry half; a scheduler that uses all paths gives each at least this share.
LEAST_SHARE = 0.2
#: The goodput as a share of the sum of the links: 0.88 or more in thirty runs, most of them beside others.
LEAST_GOODPUT = 0.75


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
    with ExitStack() as limited:
        for nic in client.paths:
            limit = client.probe.fault(
                "rate", device=nic.device, mbit=LINK_MBIT, latency_ms=QUEUE_MS, burst_kb=BURST_KB
            )
            limited.enter_context(limit)
        plain = plain_goodput(client, server, BULK_BYTES // len(client.paths))
        before, counted = client.probe.nics(), client.probe.counters()
        with direct_flow(client, server) as data:
            ended = data.upload(BULK_BYTES)
        shares = by_nic(client, before)
    evidence.document("congestion control of A", client.probe.sysctls()["net.ipv4.tcp_congestion_control"])
    of_sum = ended.goodput / (len(client.paths) * LINK_MBIT)
    evidence.figure("goodput, of the sum of the links", of_sum)
    evidence.figure("goodput, of plain TCP on every link", ended.goodput / plain)
    evidence.figure("segments sent again, of all", sent_again(client, counted))
    for device, share in shares.items():
        evidence.figure(f"bytes on {device}, of all", share)
    assert ended.intact, ended.difference
    check_time(min(shares.values()) > LEAST_SHARE, f"a path was not used: {shares}")
    check_time(of_sum >= LEAST_GOODPUT, f"the goodput is {of_sum:.2f} of the sum of the links")
