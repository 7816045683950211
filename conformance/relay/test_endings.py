"""RELAY-7: connections that end, are refused, reset or idle across two proxies."""

import errno
from contextlib import AbstractContextManager

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.proxy.proxies import backend, ends, recorded_end, wait_for_bytes
from mptcp_lab.suite.relay.endings import check_gives_up, check_idle, documented_together
from mptcp_lab.suite.relay.relays import Relay

SOME_BYTES = 100_000


@claim("RELAY-7", case="half-close-by-A")
def test_half_close_by_client(client: Machine, impatient_relay: Relay) -> None:
    """A ends its direction: B gets all data, and A the answer if both proxies keep half-open streams."""
    with impatient_relay.flow(client) as data:
        answer = data.stream.receive()
        data.stream.send(SOME_BYTES, seed=data.tag, header=data.greeting("sink")).wait(10)
        data.stream.shutdown()
        end = recorded_end(data)
        answered = answer.wait(20)
        got = data.record().bytes_received
    assert got == SOME_BYTES, f"B got {got} of {SOME_BYTES} octets"
    if documented_together(impatient_relay).keeps_half_open:
        assert end == "eof", f"B's connection ended with {end}, not with the end of A's stream"
        assert answered.nbytes > 0, "B's answer to the end of the stream was lost"


@claim("RELAY-7", case="half-close-by-B")
def test_half_close_by_origin(client: Machine, impatient_relay: Relay) -> None:
    """B ends its direction: A gets all data, and may still send if both proxies keep half-open streams."""
    keeps = documented_together(impatient_relay).keeps_half_open
    with impatient_relay.flow(client) as data:
        data.stream.send(0, header=data.greeting("source", bytes=SOME_BYTES, seed=data.tag)).wait(20)
        got = data.stream.receive().wait(20)
        if keeps:
            data.stream.send(SOME_BYTES).wait(20)
            data.stream.shutdown()
        recorded_end(data)
        record = data.record()
    assert (got.nbytes, got.sha256) == (SOME_BYTES, record.sha256_sent), "what A got is not what B sent"
    after_end = SOME_BYTES if keeps else 0
    assert record.bytes_received == after_end, "octets that A sent after B had ended its direction"


@claim("RELAY-7", case="reset-by-A")
def test_reset_by_client(client: Machine, impatient_relay: Relay) -> None:
    """A resets: B has all data that was sent before, and its connection ends as the proxies document."""
    with impatient_relay.flow(client) as data:
        data.stream.send(SOME_BYTES, header=data.greeting("sink")).wait(20)
        wait_for_bytes(data, SOME_BYTES)
        data.stream.close(reset=True)
        end = recorded_end(data)
    assert end in documented_together(impatient_relay).end_after_reset, "how B's connection ended"


@claim("RELAY-7", case="reset-by-B", timing=True)
def test_reset_by_origin(client: Machine, impatient_relay: Relay) -> None:
    """B resets: A's connection ends at once, and not only after the idle timeout."""
    with impatient_relay.flow(client) as data:
        answer = data.stream.receive()
        data.stream.send(SOME_BYTES, header=data.greeting("sink")).wait(20)
        wait_for_bytes(data, SOME_BYTES)
        since = client.probe.clock().monotonic
        assert backend(impatient_relay.target).reset(data.tag) == 1, "B had not just one connection to reset"
        seen, seconds = ends(answer, since, within=10)
    assert (seen.end, seen.errno) in (("eof", None), ("error", errno.ECONNRESET)), "how A's side ended"
    idle = documented_together(impatient_relay).idle
    assert seconds < idle, f"A saw it after {seconds:.1f} s only, when the idle time of {idle:.1f} s was over"


@claim("RELAY-7", case="refused", timing=True)
def test_refused(client: Machine, impatient_relays: list[Relay], evidence: EvidenceBox) -> None:
    """B refuses: A's connection is opened, then ends without data after the proxies' attempts."""

    def refuse(relay: Relay) -> AbstractContextManager[object]:
        return relay.server.probe.fault("reject", dport=relay.origin.port)

    check_gives_up(client, impatient_relays, refuse, evidence, at_once=True)


@claim("RELAY-7", case="unreachable", timing=True)
def test_unreachable(client: Machine, impatient_relays: list[Relay], evidence: EvidenceBox) -> None:
    """B does not answer: A's connection ends after the second proxy's attempts or the first's timeout."""

    def silence(relay: Relay) -> AbstractContextManager[object]:
        return relay.server.probe.fault("drop", dport=relay.origin.port)

    check_gives_up(client, impatient_relays, silence, evidence, at_once=False)


@claim("RELAY-7", case="idle", timing=True)
def test_idle(client: Machine, impatient_relays: list[Relay], evidence: EvidenceBox) -> None:
    """Pauses below the idle timeout do no harm; after a longer one the proxies end both sides."""
    check_idle(client, impatient_relays, evidence)
