"""Harm a stream from one of its paths: what an attacker there does, each awaited until it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import Transfer, eventually
from mptcp_lab.suite.expectations import direct_flow, expected_pairs, wait_for_joins
from mptcp_lab.suite.packets import tcp_capture
from mptcp_lab.suite.security.forging import Forger, forging_packets
from mptcp_lab.suite.security.harm import PAUSE_SECONDS, Undisturbed, observe_stream
from mptcp_lab.suite.security.middle import checksums, in_the_middle, payload_changed
from mptcp_lab.suite.security.options import forge, forge_end_of_stream
from mptcp_lab.wire import Segment

#: How soon an attack has to show.
SHOWS_WITHIN_SECONDS = 5.0
#: The chunks of the stream, each in one segment.
CHUNK_OCTETS = 1400
#: How much of the stream the attacker overhears before the attack.
OVERHEARD_OCTETS = 10_000


@dataclass(frozen=True)
class Attack:
    """A running stream whose first path goes through an attacker, who has overheard packets of it there."""

    forger: Forger
    stream: Undisturbed
    transfer: Transfer
    overheard: list[Segment]

    @property
    def port(self) -> int:
        """Return the server's port."""
        return self.stream.flow.opening.far_end.port


@contextmanager
def attacked_stream(
    client: Machine, server: Machine, attacker: Machine, evidence: EvidenceBox, *, asked: bool = False
) -> Iterator[Attack]:
    """Run a stream on all paths, with checksums if `asked`, and put the attacker on the first one then.

    The attacker comes too late for the first handshake, so it does not have the keys.
    """
    with (
        checksums(client, asked=asked),
        direct_flow(client, server) as data,
        forging_packets(attacker, 0, evidence) as forger,
    ):
        transfer = data.start(chunk=CHUNK_OCTETS, interval=PAUSE_SECONDS)
        wait_for_joins(data, expected_pairs(client, server))
        stream, port = observe_stream(data, client, server), data.opening.far_end.port
        with in_the_middle(attacker, client, server), tcp_capture(attacker, port) as capture:
            data.wait_for_bytes(OVERHEARD_OCTETS)
            yield Attack(forger, stream, transfer, capture.stop())


@contextmanager
def _drops(attack: Attack) -> Iterator[None]:
    source = attack.stream.ends[0].address(0)
    probe = attack.forger.wire.machine.probe
    with probe.fault("drop", direction="forward", source=source, dport=attack.port):
        _wait_for_counter(attack, 0, "MPTCPRetrans")
        yield


@contextmanager
def _resets(attack: Attack) -> Iterator[None]:
    forge(attack.forger, "RST", attack.overheard, attack.port)
    eventually(attack.stream.lost_pairs, until=bool, within=SHOWS_WITHIN_SECONDS, what="subflows lost")
    yield


@contextmanager
def _changes_payload(attack: Attack) -> Iterator[None]:
    with payload_changed(attack.forger.wire.machine, attack.stream.ends[0], attack.port):
        _wait_for_counter(attack, 1, "DataCsumErr")
        yield


@contextmanager
def _forges_options(attack: Attack) -> Iterator[None]:
    for name in ("MP_PRIO", "MP_FAIL", "ADD_ADDR", "MP_FASTCLOSE"):
        forge(attack.forger, name, attack.overheard, attack.port)
    _wait_for_counter(attack, 0, "MPPrioRx")
    yield


def _wait_for_counter(attack: Attack, end: int, counter: str) -> None:
    """Wait until a counter of the client (0) or the server (1) has grown since before the attack."""
    machine, before = attack.stream.ends[end], attack.stream.counters[end]
    eventually(
        lambda: machine.probe.counters().delta(before).mptcp(counter),
        until=bool,
        within=SHOWS_WITHIN_SECONDS,
        what=f"{counter} on {machine.name}",
    )


#: The attacks of an attacker on one path, who does not have the keys.
HARMS: dict[str, Callable[[Attack], AbstractContextManager[None]]] = {
    "drop": _drops,
    "reset": _resets,
    "payload": _changes_payload,
    "options": _forges_options,
}


def _removes_addresses(attack: Attack) -> None:
    """Forge a REMOVE_ADDR of all ids, and wait until every subflow is gone."""
    forge(attack.forger, "REMOVE_ADDR", attack.overheard, attack.port)
    every = attack.stream.pairs
    what = "subflows that a forged REMOVE_ADDR closes"
    eventually(
        attack.stream.lost_pairs, until=lambda lost: lost == every, within=SHOWS_WITHIN_SECONDS, what=what
    )


def _ends_stream(attack: Attack) -> None:
    """Forge a DATA_FIN ahead of the client's data, and wait until the server takes the stream for ended."""
    forge_end_of_stream(attack.forger, attack.overheard, attack.port, CHUNK_OCTETS)
    flow, what = attack.stream.flow, "an open stream at the server after a forged DATA_FIN"
    eventually(
        lambda: flow.record().open, until=lambda is_open: not is_open, within=SHOWS_WITHIN_SECONDS, what=what
    )


#: Options without a proof of the sender, which reach beyond the path that they are forged on.
BEYOND: dict[str, Callable[[Attack], None]] = {"REMOVE_ADDR": _removes_addresses, "DATA_FIN": _ends_stream}
