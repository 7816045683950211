"""Packets of a capture: the segments of one port, an empty capture, and the times of a packet table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.suite import packets
from mptcp_lab.suite.packets import first_syn, opened_here, rows, tcp_capture
from mptcp_lab.wire.packet import ACK, RST, SYN, Segment

CLIENT, SERVER = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
START_NS = 1_700_000_000_123_456_789


def segment(flags: int, *, after_ms: float = 0, port: int = 7000) -> Segment:
    """Return a segment from the client to a port of the server, so long after the first one."""
    time_ns = START_NS + round(after_ms * 1e6)
    return Segment(CLIENT, 40000, SERVER, port, 1, 0, flags, 65535, time_ns=time_ns)


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> list[Segment]:
    """Set the packets of the machine's next capture."""
    found: list[Segment] = []
    monkeypatch.setattr(packets, "segments", lambda _: found)
    return found


def machine() -> Machine:
    @contextmanager
    def capture(devices: list[str]) -> Iterator[Any]:
        assert devices == ["eth1", "eth2"]
        yield SimpleNamespace(stop=lambda: b"")

    probe = SimpleNamespace(capture=capture)
    return cast(Machine, SimpleNamespace(name="client", devices=["eth1", "eth2"], probe=probe))


def kept(folder: Path) -> Any:
    return json.loads((folder / "packets.json").read_text())


def test_a_capture_returns_the_segments_of_its_port(captured: list[Segment]) -> None:
    captured += [segment(SYN), segment(SYN, port=22)]
    with tcp_capture(machine(), 7000) as capture:
        assert capture.stop() == captured[:1]


def test_an_empty_capture_fails_with_what_is_missing(captured: list[Segment]) -> None:
    captured.append(segment(SYN, port=22))
    with tcp_capture(machine(), 7000) as capture:
        with pytest.raises(
            AssertionError, match=r"no packet of port 7000 was captured at client \(eth1, eth2"
        ):
            capture.stop()
        assert capture.stop(may_be_empty=True) == []


def test_a_capture_without_a_syn_fails_with_what_it_holds() -> None:
    with pytest.raises(AssertionError, match=r"no SYN was captured, only 192\.0\.2\.1:40000 > "):
        first_syn([segment(ACK)])
    with pytest.raises(AssertionError, match="only nothing"):
        first_syn([])


def test_what_an_earlier_connection_still_sends_is_told_apart() -> None:
    """A subflow of it sends again and is reset, while the one that the capture saw open goes on."""
    earlier = [replace(segment(ACK), sport=39999), replace(segment(RST), src=SERVER, sport=7000)]
    earlier[1] = replace(earlier[1], dst=CLIENT, dport=39999)
    own = [segment(SYN), replace(segment(RST), src=SERVER, sport=7000, dst=CLIENT, dport=40000)]
    assert opened_here([own[0], *earlier, own[1]]) == own


def test_times_of_a_table_begin_with_its_first_packet(tmp_path: Path) -> None:
    box = EvidenceBox(tmp_path, tmp_path)
    box.packets(rows([segment(SYN), segment(SYN, after_ms=1.5)], "client", "eth1"))
    assert [row["time"] for row in kept(tmp_path)] == [0.0, 0.0015]
    assert list(kept(tmp_path)[0]) == ["time", "host", "nic", "from", "to", "flags", "options"]


def test_tables_may_share_their_time_zero(tmp_path: Path) -> None:
    box = EvidenceBox(tmp_path, tmp_path)
    box.packets(rows([segment(SYN, after_ms=2)], "client"), zero_ns=START_NS)
    assert [row["time"] for row in kept(tmp_path)] == [0.002]


def test_an_empty_table_is_kept(tmp_path: Path) -> None:
    EvidenceBox(tmp_path, tmp_path).packets(rows([], "client"))
    assert kept(tmp_path) == []


@pytest.mark.parametrize("value", [True, False, float("nan"), float("inf")])
def test_a_figure_is_a_measured_number(tmp_path: Path, value: float) -> None:
    box = EvidenceBox(tmp_path, tmp_path)
    with pytest.raises(ValueError, match=f"figure MPTCP: {value} was not measured"):
        box.figure("MPTCP", value)
    assert not box.figures
