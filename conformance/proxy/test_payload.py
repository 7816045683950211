"""PROXY-2: a proxy passes data on unchanged, byte for byte, in both directions."""

from dataclasses import dataclass

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.traffic import Target, is_mptcp

MIB = 1 << 20
DUPLEX_BYTES = 16 * MIB


@dataclass(frozen=True)
class Payload:
    """The data to send: bytes in all, bytes per write, and their pattern."""

    nbytes: int
    chunk: int = 65536
    pattern: str = "random"


PAYLOADS = {
    "0B": Payload(0),
    "1B": Payload(1),
    "64KiB": Payload(65536),
    "64MiB": Payload(64 * MIB),
    "zeros": Payload(MIB, pattern="zero"),
    "byte-by-byte": Payload(2000, chunk=1),
}


@claim("PROXY-2")
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_one_way(client: Machine, target: Target, evidence: EvidenceBox, payload: Payload) -> None:
    """A payload arrives unchanged at B, and one from B arrives unchanged at A."""
    with target.flow(client) as up:
        assert is_mptcp(up.stream), "the connection fell back to TCP"
        sent = up.upload(payload.nbytes, chunk=payload.chunk, pattern=payload.pattern)
    with target.flow(client) as down:
        greeting = down.greeting("source", bytes=payload.nbytes, seed=down.tag, pattern=payload.pattern)
        down.stream.send(0, header=greeting).wait(20)
        got = down.stream.receive().wait(60)
        served = down.record()
    evidence.figure("bytes each way", payload.nbytes)
    assert sent.intact, sent.difference
    assert sent.got.bytes_received == payload.nbytes, "B got more or fewer octets than were sent"
    back = (payload.nbytes, served.sha256_sent)
    assert (got.nbytes, got.sha256) == back, "what A got is not what B sent"


@claim("PROXY-2", case="full-duplex")
def test_both_ways_at_once(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """Both directions carry data at the same time, and what comes back is what was sent."""
    with target.flow(client) as both:
        receiving = both.stream.receive(DUPLEX_BYTES)
        sent = both.stream.send(DUPLEX_BYTES, seed=both.tag, header=both.greeting("echo")).wait(60)
        got = receiving.wait(60)
    evidence.figure("bytes each way", DUPLEX_BYTES)
    assert (got.nbytes, got.sha256) == (DUPLEX_BYTES, sent.sha256), "what came back is not what was sent"
    assert got.first is not None and sent.last is not None, "no time of the first or last octet"
    assert got.first < sent.last, "nothing came back before all was sent"
