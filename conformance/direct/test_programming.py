"""DIRECT-14: the examples of docs/programming.md report the truth about their connections."""

import errno
import os

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, Unsupported, claim
from mptcp_lab.suite.deviations import keep_self_joins
from mptcp_lab.suite.direct import programs
from mptcp_lab.suite.expectations import expected_pairs, origin_of
from mptcp_lab.suite.requirements import FULL_MESH, IPV6, ORIGIN

#: The errors of MPTCP_INFO on a connection that fell back, and of socket() with net.mptcp.enabled=0.
NOT_MPTCP, SWITCHED_OFF = os.strerror(errno.EOPNOTSUPP), os.strerror(errno.ENOPROTOOPT)
MESSAGE = "MPTCPLAB/1 echo programming\nhello"


@claim("DIRECT-14", requires=(ORIGIN, FULL_MESH))
@pytest.mark.parametrize("language", ["python", "c"])
def test_client(
    client: Machine, server: Machine, tcp_server: Machine, evidence: EvidenceBox, language: str
) -> None:
    """The example client recognizes MPTCP and its subflows, a fallback, and a kernel with MPTCP off."""
    to_b = (server.address(0), str(origin_of(server).port), MESSAGE)
    to_plain = (str(tcp_server.host.nics[0].address()), str(origin_of(tcp_server).port), MESSAGE)
    mptcp = programs.client(client, language, *to_b)
    fallen = programs.client(client, language, *to_plain)
    disabled = programs.client(tcp_server, language, *to_plain)
    evidence.document("output of the example", [mptcp, fallen, disabled])
    pairs = {(local, remote) for local, remote in mptcp["subflows"]}
    pairs -= keep_self_joins(client, pairs, evidence)
    assert (mptcp["refused"], mptcp["is_mptcp"]) == ("", True), f"to B: {mptcp}"
    assert isinstance(mptcp["token"], int), f"no token: {mptcp['token']}"
    assert (client.address(0), server.address(0)) in pairs <= expected_pairs(client, server).tried_pairs
    plain = {"refused": "", "is_mptcp": False, "token": NOT_MPTCP, "subflows": []}
    assert fallen == plain, f"the example reports about a fallback: {fallen}"
    assert (disabled["refused"], disabled["is_mptcp"]) == (SWITCHED_OFF, False), f"MPTCP is off: {disabled}"


@claim("DIRECT-14", case="python-ipv6", requires=(ORIGIN, FULL_MESH, IPV6))
def test_client_over_ipv6(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """The example client recognizes MPTCP and its subflows over IPv6."""
    said = programs.client(client, "python", server.address(0, 6), str(origin_of(server).port), MESSAGE)
    evidence.document("output of the example", said)
    pairs = {(local, remote) for local, remote in said["subflows"]}
    assert (said["refused"], said["is_mptcp"]) == ("", True), f"to B: {said}"
    assert (client.address(0, 6), server.address(0, 6)) in pairs, f"subflows: {sorted(pairs)}"


@claim("DIRECT-14", case="settings")
def test_settings(client: Machine) -> None:
    """After the example script, the kernel has the sysctl, limits and endpoint that the script sets."""
    said = programs.script(client, "settings.sh", "192.0.2.1", "lo")
    assert "net.mptcp.enabled = 1" in said, f"the example printed: {said}"
    assert "subflows 8" in said and "add_addr_accepted 8" in said, f"the limits: {said}"
    assert "192.0.2.1 id 1 subflow fullmesh dev lo" in said, f"the endpoint: {said}"


@claim("DIRECT-14", case="legacy")
def test_legacy(client: Machine) -> None:
    """On a kernel of multipath-tcp.org the per-socket options choose MPTCP, scheduler and path manager."""
    if not (found := client.probe.capabilities()["legacy"]).ok:
        raise Unsupported("legacy", found.reason, client.name)
    program = (programs.EXAMPLES / "legacy.py").read_text()
    assert programs.output(client, ["python3", "-"], (), program).strip() == "fullmesh"
