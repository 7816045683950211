"""A stream that stops names the subflows that get no answer, at both ends, and the size of the segments."""

from types import SimpleNamespace
from typing import Any

import pytest

from mptcp_lab.probe import NeverHappened, ProbeError, SocketFacts
from mptcp_lab.probe.shapes import read_as
from mptcp_lab.suite.stuck import describe_stuck
from mptcp_lab.suite.traffic import Flow

DOCUMENT = {
    "protocol": 262,
    "is_mptcp": True,
    "info": {},
    "info_errno": None,
    "full_info_errno": None,
    "tcp": None,
    "inode": 1,
    "local": ["198.18.1.10", 40000],
    "peer": ["198.18.1.31", 7000],
    "at": 1.0,
    "subflows": [],
}


def subflow(local: str, **tcp: int) -> dict[str, object]:
    ends = {"local": local, "lport": 40000, "remote": "198.18.1.31", "rport": 7000}
    return {**ends, "id": 0, "tcp": {"state": 1, "snd_mss": 1428, **tcp}}


def facts(**changed: object) -> SocketFacts:
    return read_as(SocketFacts, {**DOCUMENT, **changed})


def test_only_the_subflow_that_repeats_itself_is_named() -> None:
    said = describe_stuck(
        {"client": facts(subflows=[subflow("198.18.1.10", backoff=0), subflow("198.18.2.10", backoff=5)])}
    )
    assert "client: 198.18.2.10 > 198.18.1.31 got no answer to a segment of up to 1428 octets" in said
    assert "path MTU" in said
    assert "198.18.1.10" not in said


def test_plain_tcp_is_named_too() -> None:
    said = describe_stuck(
        {"client": facts(protocol=6, info=None, tcp={"state": 1, "snd_mss": 1448, "backoff": 4})}
    )
    assert "198.18.1.10 > 198.18.1.31 got no answer to a segment of up to 1448 octets" in said


def test_a_stream_that_moves_is_not_stuck() -> None:
    assert describe_stuck({"client": facts(subflows=[subflow("198.18.1.10", backoff=1)])}) == ""


def test_subflows_that_the_kernel_does_not_report_hide_no_failure() -> None:
    said = describe_stuck({"client": facts(subflows=None, tcp={"state": 1, "snd_mss": 1448, "backoff": 4})})
    assert "198.18.1.10 > 198.18.1.31 got no answer" in said
    assert describe_stuck({"client": facts(subflows=None)}) == ""


def flow(client: SocketFacts | ProbeError, server: SocketFacts | ProbeError) -> Flow:
    """Return a flow whose ends answer with these facts, or fail with these errors."""

    def answer(found: SocketFacts | ProbeError) -> SocketFacts:
        if isinstance(found, ProbeError):
            raise found
        return found

    origin = SimpleNamespace(
        connections=lambda tag: (SimpleNamespace(number=7, bytes_received=0),),
        facts=lambda number: answer(server),
    )
    machine: Any = SimpleNamespace(name="server", probe=SimpleNamespace(origin=lambda name: origin))
    opening: Any = SimpleNamespace(client=SimpleNamespace(name="client"))
    stream: Any = SimpleNamespace(facts=lambda: answer(client))
    service: Any = SimpleNamespace(name="mptcp")
    return Flow(stream, machine, service, opening)


STUCK_AT_CLIENT = facts(subflows=[subflow("198.18.2.10", backoff=5)])
STUCK_AT_SERVER = facts(subflows=[subflow("198.18.2.31", backoff=4), subflow("198.18.1.31", backoff=0)])


def test_a_wait_that_fails_names_stuck_subflows_of_both_ends() -> None:
    with pytest.raises(NeverHappened) as caught:
        flow(STUCK_AT_CLIENT, STUCK_AT_SERVER).wait_for_bytes(1, within=0)
    assert "; client: 198.18.2.10 > 198.18.1.31 got no answer" in str(caught.value)
    assert "; server: 198.18.2.31 > 198.18.1.31 got no answer" in str(caught.value)
    assert "server: 198.18.1.31" not in str(caught.value)


def test_an_end_whose_socket_cannot_be_read_hides_neither_the_failure_nor_the_other_end() -> None:
    closed = ProbeError(
        "client", "facts", {"kind": "unknown-id", "message": "stream-1 is closed", "errno": None}
    )
    with pytest.raises(NeverHappened) as caught:
        flow(closed, STUCK_AT_SERVER).wait_for_bytes(1, within=0)
    assert "; server: 198.18.2.31 > 198.18.1.31 got no answer" in str(caught.value)
    with pytest.raises(NeverHappened, match=r"client: 198\.18\.2\.10"):
        flow(STUCK_AT_CLIENT, closed).wait_for_bytes(1, within=0)
