"""PROXY-3: connections that end, are refused, reset, slow or idle: A sees what the proxy documents."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.proxy.endings import (
    check_half_close_by_client,
    check_half_close_by_origin,
    check_reset_by_client,
    check_reset_by_origin,
)
from mptcp_lab.suite.proxy.proxies import (
    LATE_SECONDS,
    documented_behaviour,
    ends,
    in_seconds,
    longest_attempt,
    not_accepting,
    recorded_end,
    wait_for_bytes,
)
from mptcp_lab.suite.timing import check_time
from mptcp_lab.suite.traffic import Target

SOME_BYTES = 100_000


@claim("PROXY-3", case="half-close-by-A")
def test_half_close_by_client(client: Machine, impatient: Target) -> None:
    """A ends its direction: B gets all data and the end, and A the answer if the proxy keeps half-open."""
    check_half_close_by_client(impatient.flow(client), documented_behaviour(impatient).keeps_half_open)


@claim("PROXY-3", case="half-close-by-B")
def test_half_close_by_origin(client: Machine, impatient: Target) -> None:
    """B ends its direction: A gets all data and the end, and may still send if the proxy keeps half-open."""
    check_half_close_by_origin(impatient.flow(client), documented_behaviour(impatient).keeps_half_open)


@claim("PROXY-3", case="reset-by-A")
def test_reset_by_client(client: Machine, impatient: Target) -> None:
    """A resets: B has all data that was sent before, and its connection ends as the proxy documents."""
    check_reset_by_client(impatient.flow(client), documented_behaviour(impatient).end_after_reset)


@claim("PROXY-3", case="reset-by-B", timing=True)
def test_reset_by_origin(client: Machine, impatient: Target) -> None:
    """B resets: A's connection ends at once, and not only after the idle timeout."""
    check_reset_by_origin(impatient.flow(client), client, in_seconds(impatient.service.idle_timeout))


@claim("PROXY-3", case="refused", timing=True)
def test_refused(client: Machine, impatient: Target, evidence: EvidenceBox) -> None:
    """B refuses: A's connection is opened, then ends without data after the proxy's attempts."""
    with (
        impatient.origin.probe.fault("reject", dport=impatient.origin_service.port),
        impatient.flow(client) as data,
    ):
        seen, seconds = ends(data.stream.receive(), data.stream.at, within=15)
    evidence.figure("A's connection ends after", 1000 * seconds, "ms")
    assert (seen.nbytes, seen.end) == (0, "eof"), "A got data, or no end of the stream"
    most = longest_attempt(impatient) + LATE_SECONDS
    check_time(
        seconds < most, f"A's connection ended after {seconds:.1f} s, at most {most:.1f} s were expected"
    )


@claim("PROXY-3", case="unreachable", timing=True)
def test_unreachable(client: Machine, impatient: Target, evidence: EvidenceBox) -> None:
    """B does not answer: A's connection ends after the proxy's attempts, each of one connect timeout."""
    with (
        impatient.origin.probe.fault("drop", dport=impatient.origin_service.port),
        impatient.flow(client) as data,
    ):
        seen, seconds = ends(data.stream.receive(), data.stream.at, within=15)
    evidence.figure("A's connection ends after", 1000 * seconds, "ms")
    assert (seen.nbytes, seen.end) == (0, "eof"), "A got data, or no end of the stream"
    longest = longest_attempt(impatient)
    ended = f"A's connection ended after {seconds:.1f} s, and the proxy tries for {longest:.1f} s"
    assert seconds > 0.9 * longest, ended
    check_time(seconds < longest + LATE_SECONDS, ended)


@claim("PROXY-3", case="slow-to-accept")
def test_slow_to_accept(client: Machine, impatient: Target) -> None:
    """B is slow to accept: the data that A sends waits, and all of it arrives once B accepts."""
    with not_accepting(impatient) as accept, impatient.flow(client) as data:
        sent = data.stream.send(SOME_BYTES, seed=data.tag, header=data.greeting("sink")).wait(20)
        before = len(data.records())
        accept()
        got = wait_for_bytes(data, SOME_BYTES)
    assert before == 0, "B accepted although its origin was paused"
    assert got.sha256_received == sent.sha256, "what B got is not what A sent while B did not accept"


@claim("PROXY-3", case="idle", timing=True)
def test_idle(client: Machine, impatient: Target, evidence: EvidenceBox) -> None:
    """Pauses below the idle timeout do no harm; after a longer one the proxy ends both sides."""
    limit = in_seconds(impatient.service.idle_timeout)
    with impatient.flow(client) as data:
        answer = data.stream.receive()
        paused = data.stream.send(6, chunk=1, interval=limit / 4, header=data.greeting("sink")).wait(10)
        wait_for_bytes(data, 6)
        seen, seconds = ends(answer, paused.last or 0.0, within=15)
        recorded_end(data)
    evidence.figure("idle until the proxy ended it", 1000 * seconds, "ms")
    assert paused.last and paused.first and paused.last - paused.first > limit, (
        "A did not pause for long enough"
    )
    assert seen.end == "eof", "how A's side ended after the idle timeout"
    ended = f"the proxy ended it after {seconds:.1f} s, and the idle timeout is {limit:.1f} s"
    assert seconds > 0.9 * limit, ended
    check_time(seconds < limit + LATE_SECONDS, ended)
