"""Let a client's kernel suspect a black hole, and find out when it asks for MPTCP again (GATEWAY-6)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mptcp_lab.catalogue import Correction
from mptcp_lab.doctor.counters import Diagnosis, diagnose
from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.patience import patient
from mptcp_lab.probe import eventually
from mptcp_lab.suite.deviations import BLACKHOLE_GROWTH, find_correction, keep
from mptcp_lab.suite.gateway.lost_syns import BLACKHOLE_TIMEOUT, RETRANSMISSIONS, blackhole_timeout
from mptcp_lab.suite.packets import capable, first_syns, joins, tcp_capture
from mptcp_lab.suite.timing import check_time
from mptcp_lab.suite.traffic import Target, is_mptcp
from mptcp_lab.wire import Segment
from mptcp_lab.wire.packet import ACK, SYN

#: For so long MPTCP is off after a suspected black hole, in the check: the shortest time that can be set.
#: It is multiplied by the factor of all waits.
OFF_SECONDS = 1.0
#: A SYN may be captured so much later than the kernel has decided about its option.
LATE_SECONDS = 0.25
#: A time in jiffies, at 100 per second, is at most so much shorter than the same time in nanoseconds.
JIFFY_SECONDS = 0.01
RETURNS_WITHIN_SECONDS = 15.0


@dataclass(frozen=True)
class Episode:
    """The events after a client's kernel suspected a black hole.

    ``plain`` and ``capable`` are the first SYNs of connections without and with MP_CAPABLE, in seconds after
    the suspicion. SYNs with MP_JOIN belong to a connection that speaks MPTCP already, and are in neither.
    ``diagnosis`` is the doctor's, of the first connection after it.
    """

    plain: tuple[float, ...]
    capable: tuple[float, ...]
    diagnosis: Diagnosis

    def check_off_for(self, seconds: float, evidence: EvidenceBox, name: str) -> None:
        """Check that connections were TCP from the start for so long, and asked for MPTCP afterwards."""
        evidence.figure(f"MPTCP was back after, {name}", self.capable[0], "s")
        assert self.plain, "no connection was begun as TCP at once after the suspicion"
        off = f"s after the suspicion, but MPTCP is off for {seconds} s"
        assert self.capable[0] >= seconds - JIFFY_SECONDS, (
            f"a SYN with MP_CAPABLE {self.capable[0]:.3f} {off}"
        )
        check_time(
            self.plain[-1] <= seconds + LATE_SECONDS, f"a SYN without MP_CAPABLE {self.plain[-1]:.3f} {off}"
        )
        assert self.diagnosis.cause == "MPTCP is off after a blackhole", (
            f"the doctor names {self.diagnosis.cause}"
        )


@contextmanager
def quick_suspicion(client: Machine, off_seconds: int) -> Iterator[None]:
    """Let one lost SYN be enough for a client to suspect a black hole, which is as long as `off_seconds`.

    Raises:
        Unsupported: the client's kernel has no detection of black holes (before Linux 6.12).
    """
    settings = client.probe.sysctls()
    if BLACKHOLE_TIMEOUT not in settings:
        raise Unsupported("black hole detection", f"Linux {client.probe.kernel} has none", client.name)
    with blackhole_timeout(client, off_seconds):
        if RETRANSMISSIONS in settings:
            with client.probe.fault("sysctl", name=RETRANSMISSIONS, value=0):
                yield
        else:
            yield


def suspect(client: Machine, router: Machine, server: Machine, target: Target) -> Episode:
    """Drop a client's SYNs with MP_CAPABLE once, and connect again until it speaks MPTCP.

    The second connection begins while the router still drops these SYNs.
    """
    with tcp_capture(client, target.port, [client.paths[0].device]) as capture:
        with router.probe.fault("drop_option", dport=target.port):
            assert not _speaks(client, target), "the connection is MPTCP although its first SYN was dropped"
            before = client.probe.counters(), server.probe.counters()
            assert not _speaks(client, target), "MPTCP was used at once after the suspicion"
            after = client.probe.counters(), server.probe.counters()
        eventually(
            lambda: _speaks(client, target),
            until=bool,
            within=RETURNS_WITHIN_SECONDS,
            what="an MPTCP connection after the suspicion",
        )
        packets = capture.stop()
    plain, asked = after_suspicion(packets)
    return Episode(plain, asked, diagnose(*(b.delta(a) for a, b in zip(before, after, strict=True))))


def off_seconds() -> int:
    """Return for how long MPTCP is off after a suspicion, in whole seconds; longer on a slow machine."""
    return math.ceil(patient(OFF_SECONDS))


def check_growth_is_reset(again: Episode, off: int, client: Machine, evidence: EvidenceBox) -> None:
    """Check that MPTCP is off for no longer than before when a success lay between two suspicions.

    On kernels of a known correction it may be twice as long; the evidence then has the correction.
    """
    if correction := find_growth(again.plain, off, client.probe.kernel):
        keep(correction, evidence)
        off *= 2
    again.check_off_for(off, evidence, "after a success")


def find_growth(plain: Sequence[float], off: int, kernel: str) -> Correction | None:
    """Return the correction that explains a connection without MPTCP after so many seconds, or None.

    Stable releases of the kernels that it names have the repair, so that what was seen decides.
    """
    if plain and plain[-1] > off + LATE_SECONDS:
        return find_correction(BLACKHOLE_GROWTH, kernel)
    return None


def after_suspicion(packets: list[Segment]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return when SYNs without and with MP_CAPABLE were sent, in seconds after the suspicion.

    A kernel notes it when the SYN/ACK arrives for a connection whose SYN with MP_CAPABLE was lost.
    """
    first = first_syns(packets)[0]
    noted = next(s.time_ns for s in packets if s.flags & (SYN | ACK) == SYN | ACK and s.dport == first.sport)
    joining = joins(packets)
    begun = [s for s in first_syns(packets) if s.time_ns > noted and s not in joining]
    plain, asked = (
        [(s.time_ns - noted) / 1e9 for s in begun if capable(s) == wanted] for wanted in (False, True)
    )
    assert asked, "no SYN with MP_CAPABLE was captured after the suspicion"
    return tuple(plain), tuple(asked)


def _speaks(client: Machine, target: Target) -> bool:
    """Connect a client to a target and return whether the connection is MPTCP."""
    with client.probe.connect(target.address, target.port, within=10.0) as stream:
        return is_mptcp(stream)
