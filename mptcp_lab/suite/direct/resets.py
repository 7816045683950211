"""End one subflow of a live connection from outside, and check how the connection goes on (DIRECT-25)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import Stream, eventually
from mptcp_lab.probe.facts import Subflow
from mptcp_lab.suite.direct.live import Live, established_subflows, live_connection
from mptcp_lab.suite.examination import examine
from mptcp_lab.suite.expectations import expected_pairs, wait_for_joins
from mptcp_lab.suite.missing.causes import causes, describe_causes
from mptcp_lab.suite.sockets import AddressPair
from mptcp_lab.suite.traffic import Flow

#: With 0 a tracker takes no connection that it has not seen begin: its packets are INVALID.
LOOSE = "net.netfilter.nf_conntrack_tcp_loose"
LOSS_TIMEOUT_S = 10.0
#: How long the second connection, which shows where a join is lost, may be watched.
WATCHED_FOR_S = 0.5


@dataclass(frozen=True)
class Ending:
    """A way to end the subflow: at the client (0) or the server (1), and which ends of the connection see it.

    ``apply`` acts on the machine at that end, in a block that `stack` ends, with the two addresses of the
    subflow as that machine sees them.
    """

    at: int
    seen_by: tuple[int, ...]
    apply: Callable[[ExitStack, Machine, Stream, Subflow], None]


def _kill(_: ExitStack, __: Machine, stream: Stream, subflow: Subflow) -> None:
    stream.kill_subflow(subflow)


def _reject(stack: ExitStack, machine: Machine, _: Stream, subflow: Subflow) -> None:
    """Let the machine's packet filter answer what arrives on the subflow with RST."""
    stack.enter_context(
        machine.probe.fault("reject", source=subflow.remote, destination=subflow.local, sport=subflow.rport)
    )


def _track(stack: ExitStack, machine: Machine, _: Stream, subflow: Subflow) -> None:
    """Load a ruleset with a connection tracker, which has not seen the subflow begin and rejects INVALID."""
    tracker = machine.probe.capabilities()["nft_ct"]  # the trial loads the tracker, which has the setting
    if not tracker.ok:
        raise Unsupported("nft_ct", tracker.reason, machine.name)
    stack.enter_context(machine.probe.fault("sysctl", name=LOOSE, value=0))
    stack.enter_context(
        machine.probe.fault(
            "tracker",
            verdict="reject",
            source=subflow.remote,
            destination=subflow.local,
            sport=subflow.rport,
        )
    )


#: By name, the ways in which the subflow ends. A RST by a filter goes to the sender of the packet only.
ENDINGS = {
    "killed-at-A": Ending(0, (0, 1), _kill),
    "killed-at-B": Ending(1, (0, 1), _kill),
    "firewall-at-A": Ending(0, (1,), _reject),
    "firewall-at-B": Ending(1, (0,), _reject),
    "tracker-at-A": Ending(0, (1,), _track),
    "tracker-at-B": Ending(1, (0,), _track),
}


def check_goes_on(client: Machine, server: Machine, ending: str, evidence: EvidenceBox) -> None:
    """Check that a live connection loses its first subflow to `ending` and nothing else.

    Both directions go on over the other subflows, which stay established at both ends, and arrive whole.
    """
    how = ENDINGS[ending]
    with live_connection(client, server) as data:
        wait_for_joins(data.connection, expected_pairs(client, server))
        data.carry()
        machine, stream = (client, server)[how.at], data.streams[how.at]
        first = _first(data)
        before = [established_subflows(each) for each in data.streams]
        with ExitStack() as stack:
            how.apply(stack, machine, stream, before[how.at][first])
            for end in how.seen_by:
                _wait_for_loss(data.streams[end], first)
            data.carry()
            after = [established_subflows(each) for each in data.streams]
        data.check_intact()
    shown = [{"before": sorted(then), "after": sorted(now)} for then, now in zip(before, after, strict=True)]
    evidence.document("established subflows of A and B by their ports", dict(zip("AB", shown, strict=True)))
    for end in (0, 1):
        lost = before[end].keys() - after[end].keys()
        assert lost <= {first}, f"{'AB'[end]} lost more than the first subflow: {sorted(lost)}"


def _first(data: Live) -> tuple[int, int]:
    """Return the ports of the connection's first subflow."""
    stream = data.streams[0]
    assert stream.local is not None and stream.peer is not None, "the connection has no addresses"
    low, high = sorted((stream.local.port, stream.peer.port))
    return low, high


def _wait_for_loss(stream: Stream, lost: tuple[int, int]) -> None:
    eventually(
        lambda: sorted(established_subflows(stream)),
        until=lambda ports: lost not in ports,
        within=LOSS_TIMEOUT_S,
        what="the first subflow ends",
    )


@contextmanager
def blind_tracker(client: Machine, server: Machine) -> Iterator[None]:
    """Let a tracker on the server miss the SYNs from the client's second path, and drop what is INVALID."""
    tracker = server.probe.fault("tracker", direction="out", blind=True, destination=client.address(1))
    with tracker:
        if not server.probe.counters().has("invalid", "Conntrack"):
            raise Unsupported("/proc/net/stat/nf_conntrack", "the kernel has no such file", server.name)
        yield


def diagnose_missing(client: Machine, server: Machine, data: Flow) -> tuple[set[AddressPair], str]:
    """Wait until the tracker on the server has dropped an answer; return the missing pairs and the causes."""
    matrix = expected_pairs(client, server)
    before = data.opening.before[1]
    eventually(
        lambda: server.probe.counters().delta(before)["Conntrack", "invalid"],
        until=bool,
        within=LOSS_TIMEOUT_S,
        what="a packet that the tracker calls INVALID",
    )
    others = {pair for pair in matrix.addresses if pair[0] != client.address(1)}
    eventually(data.pairs, until=lambda pairs: pairs >= others, within=LOSS_TIMEOUT_S, what="other subflows")
    missing = matrix.addresses - data.pairs()
    found = causes(examine(data, matrix, missing, watched_for=WATCHED_FOR_S))
    return missing, describe_causes(found, len(matrix.present))
