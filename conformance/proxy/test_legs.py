"""PROXY-1, -5 and -7: MPTCP in front, plain TCP behind, and what happens when a path goes."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.failover.live_stream import survives
from mptcp_lab.suite.proxy.legs import two_legs
from mptcp_lab.suite.traffic import Front, is_mptcp


@claim("PROXY-1")
def test_legs(a: Machine, front: Front, evidence: EvidenceBox) -> None:
    """The front leg is MPTCP with all of A's subflows, the back leg is plain TCP."""
    two_legs(a, front, 4, evidence)


@claim("PROXY-1", case="ipv6")
def test_legs_over_ipv6(a: Machine, front: Front, evidence: EvidenceBox) -> None:
    """The same where A comes over IPv6."""
    two_legs(a, front, 6, evidence)


@claim("PROXY-5")
def test_path_lost(a: Machine, front: Front, evidence: EvidenceBox) -> None:
    """A's first path is lost: the connection through the proxy lives, B notices nothing."""
    ended = survives(
        a,
        front.machine,
        front.service,
        lambda: front.machine.probe.fault("drop", source=a.address(0)),
        evidence,
        origin=(front.origin, front.origin_service),
    )
    evidence.document("back leg", {"proxy": ended.got.peer, "origin": ended.got.local})


@claim("PROXY-7")
def test_plain_client(a: Machine, front: Front) -> None:
    """A plain TCP client is served by the same listener."""
    with front.flow(a, protocol="tcp") as data:
        ended = data.upload(65536)
        assert not is_mptcp(data.stream)
    assert ended.intact
    assert ended.got.bytes_received == 65536
