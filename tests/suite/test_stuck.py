"""A stream that stops says which subflows get no answer, and to segments of which size."""

from mptcp_lab.probe import SocketFacts
from mptcp_lab.probe.shapes import read_as
from mptcp_lab.suite.traffic import describe_stuck

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
        facts(subflows=[subflow("198.18.1.10", backoff=0), subflow("198.18.2.10", backoff=5)])
    )
    assert "198.18.2.10 > 198.18.1.31 got no answer to a segment of up to 1428 octets" in said
    assert "path MTU" in said
    assert "198.18.1.10" not in said


def test_plain_tcp_is_named_too() -> None:
    said = describe_stuck(facts(protocol=6, info=None, tcp={"state": 1, "snd_mss": 1448, "backoff": 4}))
    assert "198.18.1.10 > 198.18.1.31 got no answer to a segment of up to 1448 octets" in said


def test_a_stream_that_moves_is_not_stuck() -> None:
    assert describe_stuck(facts(subflows=[subflow("198.18.1.10", backoff=1)])) == ""


def test_subflows_that_the_kernel_does_not_report_hide_no_failure() -> None:
    said = describe_stuck(facts(subflows=None, tcp={"state": 1, "snd_mss": 1448, "backoff": 4}))
    assert "198.18.1.10 > 198.18.1.31 got no answer" in said
    assert describe_stuck(facts(subflows=None)) == ""
