"""Field by field with tshark, on every capture here; those of a whole run: tests/e2e/test_whole_suite.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mptcp_lab.wire import Dss, MpCapable, MpJoinSyn, analyse
from tests.wire import compare
from tests.wire.compare import Reading
from tests.wire.conftest import analysis_of, named, segments_of
from tests.wire.tshark import P, fields, numbers


def test_nothing_differs(capture: Path) -> None:
    assert compare.disagreements(capture) == []


def test_captures_of_a_run_are_compared_host_by_host(tmp_path: Path) -> None:
    """Both ends hold the same connection: read as one capture, it would be there twice."""
    for host, name in (("client", "join"), ("client-2", "handshake"), ("server1", "join_server_side")):
        (tmp_path / f"capture-at-{host}.pcapng.gz").write_bytes(named(name).read_bytes())
    together = sum(len(segments_of(named(name))) for name in ("join", "handshake", "join_server_side"))
    assert compare.of_run(tmp_path) == (together, [])
    assert {each.name for each in compare.merged(tmp_path.glob("*.gz"), tmp_path)} == {
        "client.pcapng",
        "server1.pcapng",
    }


def other_option(reading: Reading) -> Reading:
    reading.segments[1] = replace(reading.segments[1], options=(MpCapable(version=2),))
    return reading


def other_connection(reading: Reading) -> Reading:
    """As if the joins' tokens were of connections that are not in the capture."""
    segments = dict(reading.segments)
    for number, segment in segments.items():
        changed = [
            replace(each, token=each.token ^ number) if isinstance(each, MpJoinSyn) else each
            for each in segment.options
        ]
        segments[number] = replace(segment, options=tuple(changed))
    return Reading(reading.rows, segments, analyse(segments.values()))


def other_key(reading: Reading) -> Reading:
    row = next(each for each in reading.rows if each[P + "sendkey"])
    row[P + "sendkey"] = ["1"]
    return reading


def other_data_ack(reading: Reading) -> Reading:
    stream = reading.analysis.connections[0].client
    assert stream.acked is not None
    stream.acked -= 1
    return reading


def other_reinjection(reading: Reading) -> Reading:
    reading.analysis.connections[0].client.reinjected += 1
    return reading


DIFFERENCES: dict[str, Callable[[Reading], Reading]] = {
    "options": other_option,
    "connections": other_connection,
    "derived": other_key,
    "data_acks": other_data_ack,
    "reinjected": other_reinjection,
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_difference_is_found(name: str) -> None:
    segments = {each.number: each for each in segments_of(named("join"))}
    rows = [dict(each) for each in fields(named("join"))]
    reading = Reading(rows, segments, analyse(segments.values()))
    comparison = next(each for each in compare.COMPARISONS if each.__name__ == name)
    assert not [*comparison(reading)]
    assert [*comparison(DIFFERENCES[name](reading))]


def test_every_comparison_was_seen_to_find_something() -> None:
    assert [each.__name__ for each in compare.COMPARISONS] == list(DIFFERENCES)


def test_tshark_hides_dss_checksums() -> None:
    """tshark 4.0 wants four octets after the mapping to show a DSS checksum, which has two: it never does.

    The evidence: its field is empty on DSS long enough for a checksum, and the checksums we read
    there are right for the payload (test_keys). On MP_CAPABLE with data both agree.
    """
    path = named("checksum")
    rows = fields(path)
    ours_on_dss = {
        each.number
        for each in segments_of(path)
        for option in each.options
        if isinstance(option, Dss) and option.checksum is not None
    }
    theirs = {numbers(row, "frame.number")[0] for row in rows if row[P + "checksum"]}
    assert len(ours_on_dss) >= 10
    assert not theirs & ours_on_dss


def test_reinjected_octets_of_a_failover() -> None:
    assert analysis_of(named("failover")).connections[0].client.reinjected > 100_000
