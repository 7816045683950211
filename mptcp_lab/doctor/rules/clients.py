"""Programs of the client reach the service without MPTCP, though the doctor's own connection has it."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._wrapper import LIBRARY, write_drop_in
from mptcp_lab.doctor.unreadable import read_or


def find_plain_programs(reading: PairReading) -> Iterable[Finding]:
    """Find connections of other programs to the port that are TCP, where MPTCP works."""
    for leg in reading.legs:
        if leg.connection is None or leg.connection.is_mptcp is not True:
            continue
        held = [each for each in read_or(leg.client.connections, ()) if each.remote_port == leg.port]
        plain = [each for each in held if each.protocol == "tcp"]
        if not plain:
            continue
        yield Finding(
            rule="program-connects-with-tcp",
            severity=Severity.WARNING,
            host=leg.client.name,
            what=f"A program on {leg.client.name} connects to port {leg.port} with plain TCP.",
            why="A program has MPTCP only where it asks for it; MPTCP itself works between these hosts.",
            fix="mptcpize run PROGRAM",
            persistent=write_drop_in("PROGRAM.service", f"LD_PRELOAD={LIBRARY}"),
            confidence=Confidence.LIKELY,
            evidence=tuple(
                f"{x.local}:{x.local_port} > {x.remote}:{x.remote_port} is TCP" for x in plain[:3]
            ),
        )


RULES = (
    Rule(
        "program-connects-with-tcp",
        "`MPCapableSYNTX` does not move while a program connects: it opens TCP sockets",
        find_plain_programs,
        "`curl --mptcp`, `GODEBUG=multipathtcp=1`, `mptcpize run PROGRAM`",
    ),
)
