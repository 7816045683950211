"""Keep one connection busy in both directions, while something happens to its subflows or its settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mptcp_lab.errors import Unsupported
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import Listener, Stream, Transfer, TransferResult, eventually
from mptcp_lab.probe.facts import Subflow
from mptcp_lab.suite.direct.both_ends import Served, served_client, server_listeners
from mptcp_lab.suite.traffic import ENDLESS

#: So many octets arrive in each direction before something happens, and again afterwards.
ENOUGH_BYTES = 50_000
RESUME_TIMEOUT_S = 20.0
#: Little enough for one path, and more than one segment.
EXCHANGE_BYTES = 20_000
#: A chunk of this size every two milliseconds: slow enough for every path, fast enough to show a pause.
CHUNK_BYTES, CHUNK_INTERVAL_S = 1400, 0.002


@dataclass(frozen=True)
class Way:
    """One direction of a connection: its name, its sender's end, and the transfer at either end."""

    name: str
    source: Stream
    sending: Transfer
    receiving: Transfer

    def count_received(self) -> int:
        """Return how many octets have arrived."""
        return self.receiving.progress().nbytes

    def end(self) -> tuple[TransferResult, TransferResult]:
        """End the sender's stream; return what it sent and what arrived."""
        sent = self.sending.finish(RESUME_TIMEOUT_S)
        self.source.shutdown()
        return sent, self.receiving.wait(RESUME_TIMEOUT_S)


@dataclass(frozen=True)
class Live:
    """A connection on which both ends send until `end`: the server accepted it from one of ``listeners``."""

    connection: Served
    ways: tuple[Way, Way]
    listeners: list[Listener]

    @property
    def streams(self) -> tuple[Stream, Stream]:
        """Return the client's and the server's end of the connection."""
        return self.connection.stream, self.connection.accepted

    def carry(self, nbytes: int = ENOUGH_BYTES, within: float = RESUME_TIMEOUT_S) -> None:
        """Wait until so many more octets have arrived in each direction."""
        before = [way.count_received() for way in self.ways]
        eventually(
            lambda: [way.count_received() - then for way, then in zip(self.ways, before, strict=True)],
            until=lambda more: min(more) >= nbytes,
            within=within,
            what=f"{nbytes} more octets upwards and downwards",
        )

    def check_intact(self) -> None:
        """End both directions, and check that one connection carried each of them whole and in order."""
        for way in self.ways:
            sent, got = way.end()
            assert (sent.nbytes, sent.sha256) == (got.nbytes, got.sha256), (
                f"{way.name}: {sent.nbytes} octets were sent, {got.nbytes} arrived, or not the same"
            )
        accepted = sum(listener.accepted_count for listener in self.listeners)
        assert accepted == 1, f"the server accepted {accepted} connections"


@contextmanager
def live_connection(client: Machine, server: Machine, family: int = 4) -> Iterator[Live]:
    """Connect a client to a listener of the server's probe, and start to send from both ends."""
    with (
        server_listeners(server, family) as listeners,
        served_client(client, server, listeners) as connection,
    ):
        mine, theirs = connection.stream, connection.accepted
        ends = (("upload", mine, theirs), ("download", theirs, mine))
        ways = [
            Way(
                name,
                source,
                source.send(ENDLESS, seed=name, chunk=CHUNK_BYTES, interval=CHUNK_INTERVAL_S),
                sink.receive(),
            )
            for name, source, sink in ends
        ]
        yield Live(connection, (ways[0], ways[1]), listeners)


def ports(subflow: Subflow) -> tuple[int, int]:
    """Return the two ports of a subflow, the lower one first: both ends name a subflow alike by them."""
    low, high = sorted((subflow.lport, subflow.rport))
    return low, high


def established_subflows(stream: Stream) -> dict[tuple[int, int], Subflow]:
    """Return the established subflows at one end of a connection, by their ports."""
    return {ports(each): each for each in stream.facts().subflows if each.is_established}


def check_exchange(connection: Served, when: str) -> None:
    """Check that `EXCHANGE_BYTES` arrive whole in each direction of a connection; `when` is for messages."""
    mine, theirs = connection.stream, connection.accepted
    for name, source, sink in (("upload", mine, theirs), ("download", theirs, mine)):
        receiving = sink.receive(EXCHANGE_BYTES)
        sent = source.send(EXCHANGE_BYTES, seed=f"{name} {when}").wait(RESUME_TIMEOUT_S)
        got = receiving.wait(RESUME_TIMEOUT_S)
        assert sent.sha256 == got.sha256, f"{name} {when}: what arrived is not what was sent"


def require_sysctl(machine: Machine, name: str) -> str:
    """Return the value of a sysctl; raise `Unsupported` if the machine's kernel does not have it."""
    sysctls = machine.probe.sysctls()
    if name not in sysctls:
        raise Unsupported(f"sysctl {name}", f"Linux {machine.probe.kernel} does not have it", machine.name)
    return sysctls[name]
