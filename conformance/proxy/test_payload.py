"""PROXY-2 and PROXY-16: a proxy passes data on unchanged, byte for byte, in both directions."""

from dataclasses import dataclass

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.directions import BOTH, DOWNLOAD, UPLOAD, move
from mptcp_lab.suite.traffic import Target, is_mptcp

MIB = 1 << 20
DUPLEX_BYTES = 16 * MIB


@dataclass(frozen=True)
class Payload:
    """The data to send: bytes in all, bytes per write, and their pattern."""

    nbytes: int
    chunk: int = 65536
    pattern: str = "random"

    def check(self, client: Machine, target: Target, direction: str) -> int:
        """Check that the payload arrives unchanged in a direction, or in both; return its octets."""
        with target.flow(client) as data:
            assert is_mptcp(data.stream), "the connection fell back to TCP"
            moved = move(data, direction, self.nbytes, chunk=self.chunk, pattern=self.pattern)
        moved.check_intact(self.nbytes)
        return self.nbytes


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
    for direction in (UPLOAD, DOWNLOAD):
        payload.check(client, target, direction)
    evidence.figure("bytes each way", payload.nbytes)


@claim("PROXY-16", case="payload")
def test_both_send(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """Each payload arrives unchanged in both directions when both ends send it at once."""
    for name, payload in PAYLOADS.items():
        evidence.figure(f"bytes each way, {name}", payload.check(client, target, BOTH))


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
