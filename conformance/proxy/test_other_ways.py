"""PROXY-15: other ways to give a service MPTCP, and what a program learns about data that waits."""

import pytest

from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.expectations import direct_flow
from mptcp_lab.suite.proxy.other_ways import (
    check_program_gives_mptcp,
    check_readable,
    check_serves,
    go_listener,
    listener_kind,
    socket_unit,
)
from mptcp_lab.suite.proxy.targets import proxy_target
from mptcp_lab.suite.requirements import FULL_MESH, IPV6, MESH_TO_A_PROXY, ORIGIN, TCP_LISTENER


@claim("PROXY-15", case="systemd", requires=MESH_TO_A_PROXY)
def test_socket_unit(client: Machine, proxy: Machine, tcp_server: Machine, evidence: EvidenceBox) -> None:
    """A systemd socket unit with SocketProtocol=mptcp listens with MPTCP, and serves with all subflows."""
    with socket_unit(proxy, tcp_server, "mptcp") as port:
        assert listener_kind(proxy, port) == "MPTCP", "the socket unit's listener is not MPTCP"
        check_serves(client, proxy, tcp_server, port, evidence)


@claim("PROXY-15", case="systemd-without")
def test_socket_unit_without(proxy: Machine, tcp_server: Machine) -> None:
    """Without SocketProtocol= the listener is plain TCP, and reported as such."""
    with socket_unit(proxy, tcp_server, "") as port:
        assert listener_kind(proxy, port) == "TCP", "the listener of a plain socket unit is not TCP"


@claim("PROXY-15", case="go", requires=MESH_TO_A_PROXY)
def test_go(client: Machine, proxy: Machine, tcp_server: Machine, evidence: EvidenceBox) -> None:
    """A Go program with its default listener serves with MPTCP and all subflows."""
    with go_listener(proxy, tcp_server) as port:
        assert listener_kind(proxy, port) == "MPTCP", "the listener of a Go program is not MPTCP"
        check_serves(client, proxy, tcp_server, port, evidence)


@claim("PROXY-15", case="ebpf")
def test_ebpf(client: Machine, proxy: Machine) -> None:
    """An eBPF program gives MPTCP to a listener of a program that asks for TCP, and to no other."""
    check_program_gives_mptcp(client, proxy)


@claim("PROXY-15", case="readable", requires=(ORIGIN, FULL_MESH))
def test_readable(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """FIONREAD and TCP_INQ agree with what can be read from an MPTCP connection with several subflows."""
    with direct_flow(client, server) as data:
        check_readable(data, True, evidence)


@claim("PROXY-15", case="readable-ipv6", requires=(ORIGIN, FULL_MESH, IPV6))
def test_readable_over_ipv6(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """They do so on a connection over IPv6."""
    with direct_flow(client, server, 6) as data:
        check_readable(data, True, evidence)


@claim("PROXY-15", case="readable-after-fallback", requires=TCP_LISTENER)
@pytest.mark.parametrize("engine", [*PROXIES][:1])
def test_readable_after_fallback(
    client: Machine, machines: Session, evidence: EvidenceBox, engine: str
) -> None:
    """FIONREAD and TCP_INQ agree with what can be read from a connection that fell back to TCP."""
    with proxy_target(machines, f"{engine}-off").flow(client) as data:
        check_readable(data, False, evidence)
