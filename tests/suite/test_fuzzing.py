"""Malformed packets are the same in every run, and malformed."""

from __future__ import annotations

from ipaddress import IPv4Address

from mptcp_lab.suite.security.fuzzing import make_malformed, make_random, well_formed, with_header_length
from mptcp_lab.wire import MalformedOption, decode_mptcp
from mptcp_lab.wire.codec import encode_options
from mptcp_lab.wire.endpoint import Leg
from mptcp_lab.wire.packet import ACK, RAW, parse_segment


def test_every_run_makes_the_same_options() -> None:
    first, second = (list(make_malformed(make_random(), well_formed(), 300)) for _ in range(2))
    assert first == second


def test_options_fit_a_header_and_most_are_refused() -> None:
    refused = 0
    for option in make_malformed(make_random(), well_formed(), 300):
        assert encode_options([option]).startswith(option.encode())
        try:
            decode_mptcp(option.encode())
        except MalformedOption:
            refused += 1
    assert refused > 200


def test_header_length_is_the_only_fault_of_a_packet() -> None:
    leg = Leg(IPv4Address("192.0.2.1"), 1, IPv4Address("192.0.2.2"), 2)
    segment = leg.segment(ACK)
    whole = with_header_length(segment, 5)
    assert parse_segment(RAW, whole) == segment
    assert parse_segment(RAW, with_header_length(segment, 4)) is None
    assert parse_segment(RAW, with_header_length(segment, 15)) is None
