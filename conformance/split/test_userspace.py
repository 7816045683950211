"""SPLIT-6: a user-space MPTCP endpoint with its own packets has a subflow through each of two proxies."""

from hashlib import sha256
from secrets import token_bytes

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import eventually
from mptcp_lab.suite.expectations import announcing_nothing
from mptcp_lab.suite.requirements import FORWARDERS
from mptcp_lab.suite.rfc8684.peer import peer
from mptcp_lab.suite.split.forwarders import split_of

CHUNK_BYTES, CHUNKS = 1000, 20
#: More than fits into the first window of one subflow, so B uses both.
DOWNLOAD_BYTES = 60_000


@claim("SPLIT-6", requires=FORWARDERS)
def test_own_packets(client: Machine, server: Machine, machines: Session, evidence: EvidenceBox) -> None:
    """An endpoint in user space on A sends one stream over two proxies; B's kernel puts it in order."""
    split = split_of(machines, client, server)
    port, data = split.service.port, token_bytes(CHUNK_BYTES * CHUNKS)
    origin = server.probe.origin(split.origin.name)
    with announcing_nothing(server), peer(client, evidence) as wire_client:
        opened = [wire_client.connects(split.ways[0].remote, port, split.ways[0].local)]
        opened.append(wire_client.joins(split.ways[1].remote, port, split.ways[1].local))
        for number in range(0, len(data), CHUNK_BYTES):
            subflow = opened[number // CHUNK_BYTES % 2]
            subflow.sends(data[number : number + CHUNK_BYTES])
            subflow.hears_data_ack()
        record = eventually(
            lambda: origin.connections(tag=wire_client.tag)[0],
            until=lambda found: found.bytes_received == len(data),
            within=20.0,
        )
        facts = origin.facts(record.number)
    evidence.document("B's socket", facts)
    assert {each.remote for each in facts.subflows} == split.insides, "not one subflow per proxy"
    assert record.sha256_received == sha256(data).hexdigest(), "what B got is not what A sent"


@claim("SPLIT-6", case="download", requires=FORWARDERS)
def test_own_packets_from_b(
    client: Machine, server: Machine, machines: Session, evidence: EvidenceBox
) -> None:
    """B's kernel sends one stream over two proxies; the endpoint in user space on A puts it in order."""
    split = split_of(machines, client, server)
    port, origin = split.service.port, server.probe.origin(split.origin.name)
    with announcing_nothing(server), peer(client, evidence) as wire_client:
        # B begins when its line of greeting ends, which is after the join.
        asked = f"MPTCPLAB/1 source {wire_client.tag} bytes={DOWNLOAD_BYTES} chunk={CHUNK_BYTES}"
        opened = [wire_client.connects(split.ways[0].remote, port, split.ways[0].local, asked.encode())]
        opened.append(wire_client.joins(split.ways[1].remote, port, split.ways[1].local))
        opened[1].sends(b"\n")
        got = wire_client.reads(DOWNLOAD_BYTES, within=20.0)
        record = origin.connections(tag=wire_client.tag)[0]
        carried = [sum(s.payload_length for s in each.wire.log if s.sport == port) for each in opened]
    evidence.figure("through the first proxy", carried[0], "bytes")
    evidence.figure("through the second proxy", carried[1], "bytes")
    assert min(carried) > 0, f"octets through each proxy: {carried}"
    assert record.sha256_sent == sha256(got).hexdigest(), "what A got is not what B sent"
