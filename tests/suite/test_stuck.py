"""A stream that stops says which subflows get no answer, and to segments of which size."""

from mptcp_lab.probe import SocketFacts
from mptcp_lab.probe.facts import Address, Subflow
from mptcp_lab.suite.traffic import stuck

HERE, THERE = Address("198.18.1.10", 40000), Address("198.18.1.31", 7000)


def subflow(local: str, **tcp: int) -> Subflow:
    return Subflow(local, 40000, "198.18.1.31", 7000, 0, {"state": 1, "snd_mss": 1428, **tcp})


def facts(*subflows: Subflow, tcp: dict[str, int] | None = None) -> SocketFacts:
    protocol, info = (6, None) if tcp else (262, {})
    return SocketFacts(protocol, not tcp, info, None, None, subflows, tcp, 1, HERE, THERE, 1.0)


def test_only_the_subflow_that_repeats_itself_is_named() -> None:
    said = stuck(facts(subflow("198.18.1.10", backoff=0), subflow("198.18.2.10", backoff=5)))
    assert "198.18.2.10 > 198.18.1.31 got no answer to a segment of up to 1428 octets" in said
    assert "path MTU" in said
    assert "198.18.1.10" not in said


def test_plain_tcp_is_named_too() -> None:
    said = stuck(facts(tcp={"state": 1, "snd_mss": 1448, "backoff": 4}))
    assert "198.18.1.10 > 198.18.1.31 got no answer to a segment of up to 1448 octets" in said


def test_a_stream_that_moves_is_not_stuck() -> None:
    assert stuck(facts(subflow("198.18.1.10", backoff=1))) == ""
