"""Check how a connection through proxies ends, whichever end ends it first (PROXY-3, RELAY-7)."""

from __future__ import annotations

import errno
from collections.abc import Collection
from contextlib import AbstractContextManager

from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.proxy.proxies import ends, recorded_end, wait_for_bytes
from mptcp_lab.suite.timing import check_time
from mptcp_lab.suite.traffic import Flow

SOME_BYTES = 100_000
Opened = AbstractContextManager[Flow]


def check_half_close_by_client(opened: Opened, keeps_half_open: bool) -> None:
    """Check that B gets all data when A ends its direction, and A the answer if half-open streams stay."""
    with opened as data:
        answer = data.stream.receive()
        data.stream.send(SOME_BYTES, seed=data.tag, header=data.greeting("sink")).wait(10)
        data.stream.shutdown()
        end = recorded_end(data)
        answered = answer.wait(20)
        got = data.record().bytes_received
    assert got == SOME_BYTES, f"B got {got} of {SOME_BYTES} octets"
    if keeps_half_open:
        assert end == "eof", f"B's connection ended with {end}, not with the end of A's stream"
        assert answered.nbytes > 0, "B's answer to the end of the stream was lost"


def check_half_close_by_origin(opened: Opened, keeps_half_open: bool) -> None:
    """Check that A gets all data when B ends its direction, and may send if half-open streams are kept."""
    with opened as data:
        data.stream.send(0, header=data.greeting("source", bytes=SOME_BYTES, seed=data.tag)).wait(20)
        got = data.stream.receive().wait(20)
        if keeps_half_open:
            data.stream.send(SOME_BYTES).wait(20)
            data.stream.shutdown()
        recorded_end(data)
        record = data.record()
    assert (got.nbytes, got.sha256) == (SOME_BYTES, record.sha256_sent), "what A got is not what B sent"
    after_end = SOME_BYTES if keeps_half_open else 0
    assert record.bytes_received == after_end, "octets that A sent after B had ended its direction"


def check_reset_by_client(opened: Opened, documented: Collection[str]) -> None:
    """Check that B has all data from before A's reset, and that its connection ends as documented."""
    with opened as data:
        data.stream.send(SOME_BYTES, header=data.greeting("sink")).wait(20)
        wait_for_bytes(data, SOME_BYTES)
        data.stream.close(reset=True)
        end = recorded_end(data)
    assert end in documented, f"B's connection ended with {end} after A's reset, documented are {documented}"


def check_reset_by_origin(opened: Opened, client: Machine, idle_s: float) -> None:
    """Check that A's connection ends at once after B's reset, and not only after the idle timeout."""
    with opened as data:
        answer = data.stream.receive()
        data.stream.send(SOME_BYTES, header=data.greeting("sink")).wait(20)
        wait_for_bytes(data, SOME_BYTES)
        since = client.probe.clock().monotonic
        assert data.origin.reset(data.tag) == 1, "B had not just one connection to reset"
        seen, seconds = ends(answer, since, within=10)
    assert (seen.end, seen.errno) in (("eof", None), ("error", errno.ECONNRESET)), "how A's side ended"
    check_time(
        seconds < idle_s,
        f"A saw it after {seconds:.1f} s only, when the idle time of {idle_s:.1f} s was over",
    )
