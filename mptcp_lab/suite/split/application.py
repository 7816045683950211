"""Run examples/multipath-app: an application that sends from A to B over a TCP connection per proxy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from mptcp_lab.machines.session import Machine
from mptcp_lab.paths import ROOT
from mptcp_lab.probe import Pending, RunResult, eventually
from mptcp_lab.suite.traffic import Target

PROGRAM = ROOT / "examples" / "multipath-app" / "multipath.py"
#: Sends without end until SIGUSR1, then so many bytes more; at last it prints the digest of all that it sent.
SOURCE = """import hashlib, random, signal, sys
left, signals, pattern, digest = {more}, [], random.Random(8), hashlib.sha256()
signal.signal(signal.SIGUSR1, lambda *_: signals.append(1))
while left > 0:
    block = pattern.randbytes(65536)
    digest.update(block)
    sys.stdout.buffer.write(block)
    left -= len(block) if signals else 0
print("sha256", digest.hexdigest(), file=sys.stderr)
"""
SOURCE_PROCESS = "^python3 -c import hashlib"
SEND = 'python3 -c "$0" | python3 -c "$1" send "$2" "$3"'
RECEIVE = 'python3 -c "$0" receive "$1" "$2" | sha256sum'
#: The rate of each of A's NICs, so that sending the rest after a proxy's death takes a while.
RATE_MBIT = 30
MORE_BYTES = 2_000_000
WITHIN_SECONDS = 90.0


@dataclass(frozen=True)
class Application:
    """The program, running at both ends."""

    client: Machine
    sending: Pending
    receiving: Pending

    def end_stream(self) -> None:
        """Let the endless stream end after `MORE_BYTES` more."""
        done = self.client.probe.run(["pkill", "-USR1", "-f", SOURCE_PROCESS])
        assert done.returncode == 0, "the sender has ended already"

    def wait_for_end(self) -> tuple[RunResult, str]:
        """Wait for both ends; return the sender's result, and the digest of what the receiver wrote."""
        sent = self.sending.read(RunResult, WITHIN_SECONDS + 5)
        got = self.receiving.read(RunResult, WITHIN_SECONDS + 5)
        return sent, got.stdout.partition(" ")[0]


def digest(sent: RunResult) -> str:
    """Return the SHA-256 of what was sent, as the source printed it."""
    found = [line.split()[1] for line in sent.stderr.splitlines() if line.startswith("sha256 ")]
    assert len(found) == 1, f"the sender said {sent.stderr!r}"
    return found[0]


def count_sent_bytes(client: Machine) -> list[int]:
    """Return how many bytes each of A's path NICs has sent."""
    nics = client.probe.nics()
    return [nics[nic.device].tx_bytes for nic in client.paths]


@contextmanager
def application(client: Machine, targets: Sequence[Target]) -> Iterator[Application]:
    """Run the receiver in place of B's origin, and the sender on A, over paths of limited rate."""
    first, second = targets
    server, port = first.origin, first.origin_service.port
    program = PROGRAM.read_text()
    listen = [str(server.host.nics[0].address()), str(port)]
    paths = [f"{first.machine.address(0)}:{first.port}", f"{second.machine.address(1)}:{second.port}"]
    with ExitStack() as stack:
        stack.enter_context(
            server.probe.fault("unit_stop", unit=f"mptcp-lab-origin@{first.origin_service.name}")
        )
        for nic in client.paths:
            stack.enter_context(client.probe.fault("rate", device=nic.device, mbit=RATE_MBIT))
        stack.callback(_stop, server, port, f" receive {' '.join(listen)}$")
        receiving = _run(server, ["sh", "-c", RECEIVE, program, *listen])
        eventually(lambda: _listening(server, port), until=len, within=20, what="the receiver listens")
        stack.callback(client.probe.run, ["pkill", "-f", SOURCE_PROCESS])
        sending = _run(client, ["sh", "-c", SEND, SOURCE.format(more=MORE_BYTES), program, *paths])
        yield Application(client, sending, receiving)


def _listening(server: Machine, port: int) -> str:
    return server.probe.run(["ss", "-Hltn", f"sport = :{port}"]).stdout


def _stop(server: Machine, port: int, receiver: str) -> None:
    """Stop a receiver that a failed check left running, so that the origin finds its port free."""
    server.probe.run(["pkill", "-f", "--", receiver])
    eventually(
        lambda: _listening(server, port), until=lambda found: not found, within=20, what="the port is free"
    )


def _run(machine: Machine, argv: list[str]) -> Pending:
    return machine.probe.start("run", argv=argv, timeout=WITHIN_SECONDS)
