"""Run examples/multipath-app: an application's streams between A and B over a TCP connection per proxy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.paths import ROOT
from mptcp_lab.probe import Pending, RunResult, eventually
from mptcp_lab.suite.directions import BOTH, DOWNLOAD, UPLOAD
from mptcp_lab.suite.split.forwarders import cables_out
from mptcp_lab.suite.traffic import Target

#: So many bytes pass each proxy before one dies, and the other one afterwards.
ENOUGH_BYTES = 200_000
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
SEND = 'python3 -c "$0" | python3 -c "$@" | sha256sum'
RECEIVE = 'python3 -c "$@" < /dev/null | sha256sum'
#: The rate of each path, so that sending the rest after a proxy's death takes a while.
RATE_MBIT = 30
MORE_BYTES = 2_000_000
WITHIN_SECONDS = 90.0
#: The text that the program prints when it loses the connection that carries its stream.
LOST = re.compile(r"\b[1-9]\d* frames go elsewhere")
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@dataclass(frozen=True)
class Application:
    """The program, running at both ends; the senders are those of its ends whose stream is not empty."""

    client: Machine
    server: Machine
    direction: str
    at_client: Pending
    at_server: Pending

    @property
    def senders(self) -> tuple[Machine, ...]:
        """Return the ends that send."""
        return {UPLOAD: (self.client,), DOWNLOAD: (self.server,), BOTH: (self.client, self.server)}[
            self.direction
        ]

    def end_streams(self) -> None:
        """Let each endless stream end after `MORE_BYTES` more."""
        for machine in self.senders:
            done = machine.probe.run(["pkill", "-USR1", "-f", SOURCE_PROCESS])
            assert done.returncode == 0, f"the sender on {machine.name} has ended already"

    def wait_for_end(self) -> tuple[RunResult, RunResult]:
        """Wait for both ends; return what the client's and the server's programs printed."""
        mine = self.at_client.read(RunResult, WITHIN_SECONDS + 5)
        return mine, self.at_server.read(RunResult, WITHIN_SECONDS + 5)

    def count_bytes(self) -> list[int]:
        """Return how many bytes each of A's path NICs has carried in the direction, the fewer of both."""
        nics = [self.client.probe.nics()[nic.device] for nic in self.client.paths]
        sent, received = [nic.tx_bytes for nic in nics], [nic.rx_bytes for nic in nics]
        both = [min(pair) for pair in zip(sent, received, strict=True)]
        return {UPLOAD: sent, DOWNLOAD: received, BOTH: both}[self.direction]


@contextmanager
def application(client: Machine, targets: Sequence[Target], direction: str) -> Iterator[Application]:
    """Run the listening end in place of B's origin, and the connecting end on A, over limited paths."""
    first, second = targets
    server, port = first.origin, first.origin_service.port
    program, source = PROGRAM.read_text(), SOURCE.format(more=MORE_BYTES)
    listen = ["listen", str(server.host.nics[0].address()), str(port)]
    paths = [f"{first.machine.address(0)}:{first.port}", f"{second.machine.address(1)}:{second.port}"]
    roles = ((server, listen, direction != UPLOAD), (client, ["connect", *paths], direction != DOWNLOAD))
    with ExitStack() as stack:
        stack.enter_context(
            server.probe.fault("unit_stop", unit=f"mptcp-lab-origin@{first.origin_service.name}")
        )
        for machine, device in _find_limited_nics(client, targets, direction):
            stack.enter_context(machine.probe.fault("rate", device=device, mbit=RATE_MBIT))
        stack.callback(_stop, server, port, f" {' '.join(listen)}$")
        ends = []
        for machine, role, does_send in roles:
            stack.callback(machine.probe.run, ["pkill", "-f", SOURCE_PROCESS])
            words = [SEND, source] if does_send else [RECEIVE, "sh"]
            argv = ["sh", "-c", *words, program, *role]
            ends.append(machine.probe.start("run", argv=argv, timeout=WITHIN_SECONDS))
            eventually(lambda: _listening(server, port), until=len, within=20, what="the server listens")
        yield Application(client, server, direction, ends[1], ends[0])


def _find_limited_nics(
    client: Machine, targets: Sequence[Target], direction: str
) -> list[tuple[Machine, str]]:
    """Return the NICs whose rate to limit: those that send on the paths between A and the proxies."""
    found = [(client, nic.device) for nic in client.paths] if direction != DOWNLOAD else []
    if direction != UPLOAD:
        found += [(each.machine, each.machine.paths[path].device) for path, each in enumerate(targets)]
    return found


def _listening(server: Machine, port: int) -> str:
    return server.probe.run(["ss", "-Hltn", f"sport = :{port}"]).stdout


def _stop(server: Machine, port: int, program: str) -> None:
    """Stop a program that a failed check left running, so that the origin finds its port free."""
    server.probe.run(["pkill", "-f", "--", program])
    eventually(
        lambda: _listening(server, port), until=lambda found: not found, within=20, what="the port is free"
    )


def find_sent_digest(printed: RunResult) -> str:
    """Return the SHA-256 of what an end sent, as its source printed it, or that of nothing."""
    found = [line.split()[1] for line in printed.stderr.splitlines() if line.startswith("sha256 ")]
    return found[0] if found else EMPTY_SHA256


#: Which of the proxies dies, and how.
Death = tuple[int, Callable[[Session, Target], AbstractContextManager[object]]]
DEATHS: dict[str, Death] = {
    "first-killed": (0, lambda _, target: target.machine.probe.fault("kill", unit=target.service.engine)),
    "second-cables-out": (1, lambda machines, target: cables_out(machines, target.machine)),
}


def check_survives(
    machines: Session,
    client: Machine,
    targets: Sequence[Target],
    direction: str,
    death: str,
    evidence: EvidenceBox,
) -> None:
    """Check that the application's streams in a direction stay whole when one of the proxies dies."""
    with application(client, targets, direction) as running:
        begun = running.count_bytes()
        eventually(
            lambda: [now - then for now, then in zip(running.count_bytes(), begun, strict=True)],
            until=lambda carried: min(carried) > ENOUGH_BYTES,
            within=10,
            what="bytes through both proxies",
        )
        dies, fault = DEATHS[death]
        with fault(machines, targets[dies]):
            before = running.count_bytes()
            running.end_streams()
            mine, theirs = running.wait_for_end()
            after = running.count_bytes()
    moved = after[1 - dies] - before[1 - dies]
    evidence.figure("bytes through the other proxy afterwards", moved)
    for machine, printed, other in ((client, mine, theirs), (running.server, theirs, mine)):
        evidence.text(f"what the program on {machine.name} printed", printed.stderr)
        assert printed.returncode == 0, f"{machine.name}: {printed.stderr.strip()}"
        received = other.stdout.partition(" ")[0]
        assert received == find_sent_digest(printed), f"what {machine.name} sent is not what was received"
        if machine.name in [sender.name for sender in running.senders]:
            assert find_sent_digest(printed) != EMPTY_SHA256, f"{machine.name} sent nothing"
            assert LOST.search(printed.stderr), f"no connection with frames of {machine.name} was lost"
    assert moved > ENOUGH_BYTES, f"only {moved} octets went through the other proxy"
