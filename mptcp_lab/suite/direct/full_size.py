"""Check that each path carries full-sized packets in both directions (DIRECT-27)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NeverHappened, Transfer, TransferFailed, TransferResult
from mptcp_lab.suite.expectations import origin_of
from mptcp_lab.suite.traffic import Flow, flow

#: Enough bytes for many full-sized packets before the last, smaller one.
BULK_BYTES = 200_000
#: Even if the kernel joins these chunks, they make one small packet at most.
SMALL_CHUNKS, SMALL_BYTES = 5, 100
#: Black-hole detection takes a few retransmission timeouts before it sends smaller packets.
ECHO_TIMEOUT_S = 20.0
MTU_PROBING = "net.ipv4.tcp_mtu_probing"


@dataclass(frozen=True)
class Path:
    """One path between two hosts: a NIC and address of the client, and the nearest address of the server."""

    device: str
    source: str
    destination: str

    def __str__(self) -> str:
        return f"{self.device}, {self.source} to {self.destination}"

    def connect(self, client: Machine, server: Machine) -> AbstractContextManager[Flow]:
        """Connect over this path by plain TCP, which cannot move to another path."""
        origin = origin_of(server)
        to = (self.destination, origin.port, server, origin)
        return flow(client, *to, protocol="tcp", source=self.source)


def paths_between(client: Machine, server: Machine) -> Iterator[Path]:
    """Yield a path for each NIC and family of the client for which the server has an address."""
    for nic in client.paths:
        for family in (4, 6):
            near = server.host.nic_on(nic.segment)
            there = near.address(family) if near and near.up else server.paths[0].address(family)
            if (mine := nic.address(family)) and there:
                yield Path(nic.device, str(mine), str(there))


@dataclass(frozen=True)
class Echoing:
    """Bytes on their way to the server and back."""

    path: Path
    flow: Flow
    sent: Transfer
    received: Transfer

    @classmethod
    def begin(cls, path: Path, data: Flow, nbytes: int, *, chunk: int, interval: float = 0.0) -> Echoing:
        """Start to send, and to receive the bytes that come back."""
        received = data.stream.receive(nbytes)
        header = data.greeting("echo")
        sent = data.stream.send(nbytes, seed=data.tag, chunk=chunk, interval=interval, header=header)
        return cls(path, data, sent, received)

    def wait(self) -> tuple[TransferResult, TransferResult]:
        """Return what was sent and what came back; raise `TransferFailed` if either fails or times out."""
        return self.sent.wait(ECHO_TIMEOUT_S), self.received.wait(ECHO_TIMEOUT_S)

    def segment_bytes(self) -> int:
        """Return the size of the segments that the client sends, in bytes without headers."""
        return (self.flow.stream.facts().tcp or {}).get("snd_mss", 0)


def check_full_size(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Check that bulk data passes on every path in both directions; keep the segment sizes as evidence.

    It passes where full-sized packets pass, or where black-hole detection makes the packets smaller.
    """
    sizes, stopped = [], list[str]()
    with ExitStack() as opened:
        echoing = [
            Echoing.begin(path, opened.enter_context(path.connect(client, server)), BULK_BYTES, chunk=65536)
            for path in paths_between(client, server)
        ]
        for each in echoing:
            try:
                sent, received = each.wait()
                assert received.sha256 == sent.sha256, f"{each.path}: not what was sent came back"
            except TransferFailed:
                stopped.append(why_stopped(client, server, each))
            sizes.append({"path": str(each.path), "segment": each.segment_bytes()})
    probing = {machine.name: machine.probe.sysctls().get(MTU_PROBING) for machine in (client, server)}
    evidence.document("size of the segments on each path, octets", sizes)
    evidence.document(MTU_PROBING, probing)
    evidence.figure("paths", len(sizes))
    evidence.figure("smallest segments", min(int(str(size["segment"])) for size in sizes), "bytes")
    assert not stopped, "; ".join(stopped)


def why_stopped(client: Machine, server: Machine, echoing: Echoing) -> str:
    """Return what stopped on a path: large packets in one direction, or everything."""
    size = echoing.segment_bytes()
    arrived = _count_received(echoing.flow)
    names = (client.name, server.name) if arrived < BULK_BYTES else (server.name, client.name)
    direction = f"{echoing.path}: the stream from {names[0]} to {names[1]} stops"
    if not _small_passes(client, server, echoing.path):
        return f"{direction}, small packets do not pass either: the path carries nothing"
    return (
        f"{direction} with segments of {size} octets, small packets pass: path MTU. Look for a link with a"
        f" smaller MTU or a filter of ICMP 'packet too big', or set {MTU_PROBING}=1 on both hosts"
    )


def _count_received(data: Flow) -> int:
    try:
        return data.record(within=1.0).bytes_received
    except NeverHappened:
        return 0


def _small_passes(client: Machine, server: Machine, path: Path) -> bool:
    """Return whether a few small packets pass on a path in both directions."""
    nbytes = SMALL_CHUNKS * SMALL_BYTES
    with path.connect(client, server) as data:
        try:
            Echoing.begin(path, data, nbytes, chunk=SMALL_BYTES, interval=0.01).wait()
        except TransferFailed:
            return False
    return True
