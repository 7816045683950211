"""Multipath by an application (examples/multipath-app): from A to B, a TCP connection through each proxy."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from mptcp_lab.inventory.load import ROOT
from mptcp_lab.probe import Pending, RunResult, eventually
from mptcp_lab.suite.session import Machine
from mptcp_lab.suite.traffic import Front

PROGRAM = ROOT / "examples" / "multipath-app" / "multipath.py"
PATTERN = "import random, sys; sys.stdout.buffer.write(random.Random(8).randbytes({nbytes}))"
SEND = 'python3 -c "$0" | python3 -c "$1" send "$2" "$3"'
RECEIVE = 'python3 -c "$0" receive "$1" "$2" | sha256sum'
#: Slow enough for a proxy to die in the middle, on each of A's NICs.
RATE_MBIT = 30
NBYTES = 12_000_000
WITHIN_SECONDS = 30.0


@dataclass(frozen=True)
class Application:
    """The program at work on both ends."""

    sending: Pending
    receiving: Pending

    def ended(self) -> tuple[RunResult, str]:
        """Wait for both ends; return how the sender ended, and the digest of what the receiver wrote."""
        sent = RunResult(**self.sending.result(WITHIN_SECONDS + 5))
        got = RunResult(**self.receiving.result(WITHIN_SECONDS + 5))
        return sent, got.stdout.partition(" ")[0]


def digest() -> str:
    """Return the SHA-256 of what is sent."""
    return hashlib.sha256(random.Random(8).randbytes(NBYTES)).hexdigest()  # noqa: S311 - a pattern, not a secret


def carried(a: Machine) -> list[int]:
    """Return the bytes that each of A's path NICs has sent."""
    nics = a.probe.nics()
    return [nics[nic.device].tx_bytes for nic in a.paths]


@contextmanager
def application(a: Machine, fronts: Sequence[Front]) -> Iterator[Application]:
    """Run the receiver in the place of B's origin, and the sender on A, over paths of a limited rate."""
    first, second = fronts
    b, port = first.origin, first.origin_service.port
    program = PROGRAM.read_text()
    listen = [str(b.host.nics[0].address()), str(port)]
    paths = [f"{first.machine.address(0)}:{first.port}", f"{second.machine.address(1)}:{second.port}"]
    with ExitStack() as stack:
        stack.enter_context(b.probe.fault("unit_stop", unit=f"mptcp-lab-origin@{first.origin_service.name}"))
        for nic in a.paths:
            stack.enter_context(a.probe.fault("rate", device=nic.device, mbit=RATE_MBIT))
        receiving = _run(b, ["sh", "-c", RECEIVE, program, *listen])
        eventually(
            lambda: b.probe.run(["ss", "-Hltn", f"sport = :{port}"]).stdout,
            until=len,
            within=20,
            what="the receiver listens",
        )
        yield Application(
            _run(a, ["sh", "-c", SEND, PATTERN.format(nbytes=NBYTES), program, *paths]), receiving
        )


def _run(machine: Machine, argv: list[str]) -> Pending:
    return machine.probe.start("run", argv=argv, timeout=WITHIN_SECONDS)
