"""Turn the captures of a probe into facts that checks assert on, and into rows that reports show."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import Capture
from mptcp_lab.probe.facts import Counters
from mptcp_lab.wire.capture import CaptureError, CaptureFile
from mptcp_lab.wire.options.addresses import AddAddr
from mptcp_lab.wire.options.base import MptcpOption
from mptcp_lab.wire.options.ending import TcpRst
from mptcp_lab.wire.options.handshake import MpCapable
from mptcp_lab.wire.options.joins import MpJoinSyn
from mptcp_lab.wire.packet import ACK, FIN, PSH, RST, SYN, Segment
from mptcp_lab.wire.words import option_words

LETTERS = ((SYN, "S"), (FIN, "F"), (RST, "R"), (PSH, "P"), (ACK, "."))


def segments(pcapng: bytes) -> list[Segment]:
    """Return the TCP segments of a capture, in order of time; none for a capture without TCP."""
    with tempfile.NamedTemporaryFile(suffix=".pcapng") as file:
        Path(file.name).write_bytes(pcapng)
        capture = CaptureFile(file.name)
        try:
            found = [each for each in capture if not each.options_cut]
        except CaptureError:
            if capture.segments:
                raise
            return []
    return sorted(found, key=lambda segment: segment.time_ns)


def segments_of_port(found: Iterable[Segment], port: int) -> list[Segment]:
    """Return the segments to or from a port."""
    return [segment for segment in found if port in (segment.sport, segment.dport)]


class TcpCapture:
    """A running capture on a machine, from which only the segments of one TCP port are returned."""

    def __init__(self, capture: Capture, port: int, where: str) -> None:
        self._capture, self._port, self._where = capture, port, where

    def stop(self, *, may_be_empty: bool = False) -> list[Segment]:
        """End the capture; return the port's segments in order of time.

        The check fails here if there are none, unless it passes ``may_be_empty`` because its claim is that
        nothing is sent.
        """
        found = segments_of_port(segments(self._capture.stop()), self._port)
        assert found or may_be_empty, f"no packet of port {self._port} was captured at {self._where}"
        return found


@contextmanager
def tcp_capture(machine: Machine, port: int, devices: Sequence[str] | None = None) -> Iterator[TcpCapture]:
    """Capture the segments of a TCP port on a machine's NICs, by default on every one that is up."""
    chosen = machine.devices if devices is None else list(devices)
    with machine.probe.capture(chosen) as capture:
        yield TcpCapture(capture, port, f"{machine.name} ({', '.join(chosen)})")


def first_syns(found: Iterable[Segment]) -> list[Segment]:
    """Return the SYNs that open connections or subflows (not the SYN/ACKs)."""
    return [segment for segment in found if segment.flags & (SYN | ACK) == SYN]


def first_syn(found: Sequence[Segment]) -> Segment:
    """Return the first SYN, which opens the connection; the check fails here if none was captured."""
    syns = first_syns(found)
    assert syns, f"no SYN was captured, only {format_segments(found) or 'nothing'}"
    return syns[0]


def opened_here(found: Sequence[Segment]) -> list[Segment]:
    """Return the segments of the connections and subflows that were opened while the capture ran.

    An earlier connection of the same port may still send again what was lost on a subflow, and be reset.
    """
    opened = {_ends(segment) for segment in found if segment.flags & SYN}
    return [segment for segment in found if _ends(segment) in opened]


def _ends(segment: Segment) -> frozenset[tuple[object, int]]:
    return frozenset({(segment.src, segment.sport), (segment.dst, segment.dport)})


def mptcp_options(segment: Segment) -> list[MptcpOption]:
    """Return the MPTCP options of a segment."""
    return [option for option in segment.options if isinstance(option, MptcpOption)]


def joins(found: Iterable[Segment]) -> list[Segment]:
    """Return the SYNs that ask for another subflow (MP_JOIN)."""
    return [s for s in first_syns(found) if any(isinstance(o, MpJoinSyn) for o in s.options)]


def joins_sent(moved: Counters, captured: Sequence[Segment]) -> int:
    """Return how many joins a client has sent: from MPJoinSynTx (Linux 6.12), else from its capture."""
    return moved.mptcp("MPJoinSynTx") if moved.has("MPJoinSynTx") else len(joins(captured))


def capable(segment: Segment) -> bool:
    """Return whether a segment carries MP_CAPABLE."""
    return any(isinstance(option, MpCapable) for option in segment.options)


def announcements(found: Iterable[Segment]) -> list[Segment]:
    """Return the segments that announce an address (ADD_ADDR)."""
    return [s for s in found if any(isinstance(o, AddAddr) for o in s.options)]


def answers(found: Iterable[Segment]) -> list[MpCapable]:
    """Return the MP_CAPABLE options of the SYN/ACKs."""
    syn_acks = [s for s in found if s.flags & (SYN | ACK) == SYN | ACK]
    return [option for s in syn_acks for option in s.options if isinstance(option, MpCapable)]


def reset_reasons(found: Iterable[Segment]) -> list[str]:
    """Return the reasons that RSTs give (MP_TCPRST), by their registered names."""
    return [o.reason_name for s in found if s.flags & RST for o in s.options if isinstance(o, TcpRst)]


def unforwarded_syns(found: Iterable[Segment]) -> list[Segment]:
    """Return the SYNs that a router did not forward unchanged: its capture does not have them twice."""
    syns = [s for s in found if s.flags & SYN]
    seen = Counter((s.src, s.sport, s.dst, s.dport, s.seq, s.options) for s in syns)
    return [s for s in syns if seen[s.src, s.sport, s.dst, s.dport, s.seq, s.options] < 2]


def flag_letters(segment: Segment) -> str:
    """Return a segment's flags as the letters that tcpdump prints."""
    return "".join(letter for bit, letter in LETTERS if segment.flags & bit)


def format_segments(found: Iterable[Segment], most: int = 5) -> str:
    """Return segments as one readable line, for the message of a failed check."""
    lines = [f"{s.src}:{s.sport} > {s.dst}:{s.dport} [{flag_letters(s)}] {_names(s)}" for s in found]
    return "; ".join(lines[:most]) + (f"; and {len(lines) - most} more" if len(lines) > most else "")


def _names(segment: Segment) -> str:
    return " ".join(type(option).__name__ for option in mptcp_options(segment))


def rows(found: Iterable[Segment], host: str, nic: str = "", most: int = 40) -> list[dict[str, object]]:
    """Return rows for `EvidenceBox.packets`: at most the first `most` of the packets worth showing.

    These are the packets with SYN, FIN or RST, or with an MPTCP option other than DSS.
    """
    telling = [
        s for s in found if s.flags & (SYN | FIN | RST) or any(not _is_dss(o) for o in mptcp_options(s))
    ]
    return [
        {
            "time_ns": s.time_ns,
            "host": host,
            "nic": nic,
            "from": f"{s.src}:{s.sport}",
            "to": f"{s.dst}:{s.dport}",
            "flags": flag_letters(s),
            "options": ", ".join(option_words(option) for option in mptcp_options(s)),
        }
        for s in telling[:most]
    ]


def _is_dss(option: MptcpOption) -> bool:
    return type(option).__name__ == "Dss"


def bytes_by_sender(
    found: Iterable[Segment], port: int, start_ns: int, names: Mapping[str, str]
) -> dict[str, list[tuple[float, float]]]:
    """Return, for each sender, points of (seconds since start, payload bytes so far) of the data to `port`.

    `names` maps the senders' addresses to the keys of the result, and `start_ns` is in nanoseconds.
    """
    return _running_totals(((str(s.src), s) for s in found if s.dport == port), start_ns, names)


def bytes_by_receiver(
    found: Iterable[Segment], port: int, start_ns: int, names: Mapping[str, str]
) -> dict[str, list[tuple[float, float]]]:
    """Return, for each receiver, points of (seconds since start, payload bytes so far) of data from `port`.

    `names` maps the receivers' addresses to the keys of the result, and `start_ns` is in nanoseconds.
    """
    return _running_totals(((str(s.dst), s) for s in found if s.sport == port), start_ns, names)


def _running_totals(
    found: Iterable[tuple[str, Segment]], start_ns: int, names: Mapping[str, str]
) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for address, segment in found:
        if segment.payload_length:
            points = series[names.get(address, address)]
            so_far = points[-1][1] if points else 0.0
            points.append(((segment.time_ns - start_ns) / 1e9, so_far + segment.payload_length))
    return dict(series)
