"""Two paths carry less than one: buffers, queues and checksums. These never mean that MPTCP does not work."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._common import ends, keep_sysctl, missing_pairs, set_sysctl
from mptcp_lab.doctor.unreadable import read_or

#: A buffer that is smaller than this holds less than 100 Mbit/s times 80 ms, for all paths together.
ENOUGH_BUFFER = 1 << 20
BUFFERS = {"net.ipv4.tcp_rmem": "4096 131072 6291456", "net.ipv4.tcp_wmem": "4096 16384 4194304"}
#: A queue that holds so much makes data wait: 64 KiB are 26 ms at 20 Mbit/s.
STANDING_QUEUE = 64 << 10
CHECKSUMS = "net.mptcp.checksum_enabled"
PRUNED = {"MPTcpExt": ("RcvPruned", "OFOPruned", "BacklogDrop"), "TcpExt": ("PruneCalled", "RcvPruned")}


def find_small_buffers(reading: PairReading) -> Iterable[Finding]:
    """Find hosts whose socket buffers are too small for several paths."""
    for host in reading.hosts:
        for name, default in BUFFERS.items():
            values = host.sysctl(name).split()
            if len(values) == 3 and values[2].isdecimal() and int(values[2]) < ENOUGH_BUFFER:
                yield Finding(
                    rule="small-buffers",
                    severity=Severity.NOTE,
                    host=host.name,
                    what=f"{name} of {host.name} lets a connection buffer at most {values[2]} octets.",
                    why="One buffer serves all paths: the slow one fills it, and the fast one stands still.",
                    fix=f"sysctl -w {name}='{default}'",
                    persistent=keep_sysctl(name, f"'{default}'"),
                    confidence=Confidence.LIKELY,
                    evidence=(f"{name} = {host.sysctl(name)}",),
                )


def find_standing_queue(reading: PairReading) -> Iterable[Finding]:
    """Find devices whose queue is full: two congested paths may be slower than TCP on one."""
    for leg, host, is_client in ends(reading):
        pairs = leg.connection.pairs if leg.connection is not None else ()
        devices = {host.device_of(each.client if is_client else each.server) for each in pairs}
        for each in read_or(host.qdiscs, ()):
            if each.device in devices and each.backlog >= STANDING_QUEUE:
                yield Finding(
                    rule="standing-queue",
                    severity=Severity.WARNING if missing_pairs(leg) else Severity.NOTE,
                    host=host.name,
                    what=f"{each.backlog} octets wait in the queue of {each.device} on {host.name}.",
                    why="A full queue delays one path by more than the other; then MPTCP carries "
                    "less than TCP does.",
                    fix=f"tc qdisc replace dev {each.device} root fq_codel",
                    persistent=keep_sysctl("net.core.default_qdisc", "fq_codel"),
                    confidence=Confidence.POSSIBLE,
                    evidence=(f"tc -s qdisc: {each.kind} {each.handle} backlog {each.backlog}",),
                )


def find_pruning(reading: PairReading) -> Iterable[Finding]:
    """Find hosts that dropped received data because a buffer was full, while the doctor's connection ran."""
    for leg, host, is_client in ends(reading):
        if leg.connection is None:
            continue
        moved = leg.connection.client_counters if is_client else leg.connection.server_counters
        found = [
            f"{g} {n} moved by {moved[g][n]}"
            for g, names in PRUNED.items()
            for n in names
            if moved.get(g, {}).get(n)
        ]
        if found:
            yield Finding(
                rule="received-data-dropped",
                severity=Severity.NOTE,
                host=host.name,
                what=f"{host.name} drops data that it has received, for lack of buffer.",
                why="The data is sent again, so the connection is slower than TCP on one path would be.",
                fix="sysctl -w net.ipv4.tcp_rmem='4096 131072 16777216'",
                persistent=keep_sysctl("net.ipv4.tcp_rmem", "'4096 131072 16777216'"),
                confidence=Confidence.POSSIBLE,
                evidence=tuple(found),
                follows_from=("small-buffers", "accept-queue-full"),
            )


def find_checksums(reading: PairReading) -> Iterable[Finding]:
    """Find hosts that ask for DSS checksums."""
    for _, host, _ in ends(reading):
        if host.sysctl(CHECKSUMS) == "1":
            yield Finding(
                rule="checksums-on",
                severity=Severity.NOTE,
                host=host.name,
                what=f"{host.name} asks for a checksum over all data of MPTCP connections.",
                why="Both ends then sum up every octet; it helps only against middleboxes that "
                "change payload.",
                fix=set_sysctl(CHECKSUMS, 0),
                persistent=keep_sysctl(CHECKSUMS, 0),
                evidence=(f"{CHECKSUMS} = 1",),
            )


RULES = (
    Rule(
        "small-buffers",
        "the maximum of `net.ipv4.tcp_rmem` or `tcp_wmem` is below 1 MiB",
        find_small_buffers,
        "raise it: one buffer serves all paths",
    ),
    Rule(
        "standing-queue",
        "`tc -s qdisc` shows a full queue on a path's device (two paths slower than TCP on one)",
        find_standing_queue,
        "`fq_codel` on the device, or on the router with the narrow link",
    ),
    Rule(
        "received-data-dropped",
        "`RcvPruned`, `PruneCalled` or `OFOPruned` move",
        find_pruning,
        "raise `net.ipv4.tcp_rmem`",
    ),
    Rule(
        "checksums-on",
        f"`{CHECKSUMS}` is 1 on a host",
        find_checksums,
        f"`{set_sysctl(CHECKSUMS, 0)}` at both ends",
    ),
)
