"""Test what an attacker learns from captured packets: keys, joins, and where a stream is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mptcp_lab.errors import Inconclusive
from mptcp_lab.paths import ROOT
from mptcp_lab.suite.security.forging import next_segment
from mptcp_lab.suite.security.overhearing import last_mapping, last_segments, overheard_join, overheard_keys
from mptcp_lab.wire import MpCapable, MpJoinSyn, Segment, keys
from mptcp_lab.wire.capture import CaptureFile
from mptcp_lab.wire.packet import RST, SYN


@pytest.fixture(scope="module")
def captured() -> list[Segment]:
    return list(CaptureFile(str(ROOT / "tests/wire/captures/join_server_side.pcap")))


def test_keys_of_the_first_handshake_give_the_token_of_the_join(captured: list[Segment]) -> None:
    found = overheard_keys(captured)
    syn, third = overheard_join(captured)
    asked = next(option for option in syn.options if isinstance(option, MpJoinSyn))
    assert asked.token in (keys.token(found.server), keys.token(found.client))
    assert (third.src, third.sport) == (syn.src, syn.sport)


def test_without_a_handshake_nothing_is_concluded(captured: list[Segment]) -> None:
    later = [s for s in captured if not any(isinstance(o, MpCapable) for o in s.options)]
    with pytest.raises(Inconclusive, match="no third packet"):
        overheard_keys(later)
    with pytest.raises(Inconclusive, match="no join"):
        overheard_join([s for s in captured if not s.flags & SYN])
    with pytest.raises(Inconclusive, match="no data to port 1"):
        last_mapping(captured, 1)


def test_the_last_segments_of_each_direction_are_those_to_and_from_the_port(captured: list[Segment]) -> None:
    port = next(s.dport for s in captured if s.flags & SYN)
    there, back = last_segments(captured, port)
    assert {s.dport for s in there} == {s.sport for s in back} == {port}
    assert not any(s.flags & SYN for s in there + back)


def test_a_forged_segment_follows_the_last_one(captured: list[Segment]) -> None:
    last = replace(captured[-1], seq=(1 << 32) - 10, payload_length=100, payload=b"x" * 100)
    forged = next_segment(last, RST, ahead=5)
    assert (forged.seq, forged.payload, forged.payload_length) == (95, b"", 0)
    assert (forged.src, forged.sport, forged.ack) == (last.src, last.sport, last.ack)
