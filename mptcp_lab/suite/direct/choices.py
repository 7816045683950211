"""Choose the scheduler, the path manager and the congestion control of connections to come (DIRECT-26)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from mptcp_lab.errors import Unsupported
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import ProbeError, Stream
from mptcp_lab.suite.direct.live import established_subflows, require_sysctl
from mptcp_lab.suite.matrix import Matrix, Pair

SCHEDULER, PATH_MANAGER = "net.mptcp.scheduler", "net.mptcp.path_manager"
AVAILABLE = {
    SCHEDULER: "net.mptcp.available_schedulers",
    PATH_MANAGER: "net.mptcp.available_path_managers",
}
CONGESTION_CONTROL = "net.ipv4.tcp_congestion_control"
CONGESTION_CONTROLS = "/proc/sys/net/ipv4/tcp_available_congestion_control"
#: A name that no kernel has; it is shorter than the kernel's limit for names.
NO_SUCH_NAME = "none-such"
REFUSED = (errno.ENOENT, errno.EINVAL)


def available_names(machine: Machine, setting: str) -> list[str]:
    """Return the names that a kernel lists for a setting; raise `Unsupported` if it has no such list."""
    return require_sysctl(machine, AVAILABLE[setting]).split()


@contextmanager
def chosen_name(machine: Machine, setting: str, name: str) -> Iterator[None]:
    """Set a name for the connections that begin in the block, and check that the kernel reports it."""
    with machine.probe.fault("sysctl", name=setting, value=name):
        found = machine.probe.sysctls()[setting]
        assert found == name, f"{setting} on {machine.name} is {found}, {name} was set"
        yield


def check_refused(machine: Machine, setting: str) -> None:
    """Check that the kernel refuses a name that it does not list, and keeps the name that it had."""
    before = require_sysctl(machine, setting)
    with pytest.raises(ProbeError) as refused:
        machine.probe.fault("sysctl", name=setting, value=NO_SUCH_NAME).lift()
    assert refused.value.errno in REFUSED, f"{setting} = {NO_SUCH_NAME}: {refused.value}"
    after = machine.probe.sysctls()[setting]
    assert after == before, f"{setting} is {after} after a refused name, it was {before}"


def another_congestion_control(machine: Machine) -> str:
    """Return a congestion control that a machine has besides its default; `Unsupported` without one."""
    default = machine.probe.sysctls()[CONGESTION_CONTROL]
    others = [name for name in _congestion_controls(machine) if name != default]
    if not others:
        raise Unsupported("a second congestion control", f"the kernel lists only {default}", machine.name)
    return others[0]


def _congestion_controls(machine: Machine) -> list[str]:
    return machine.probe.run(["cat", CONGESTION_CONTROLS]).stdout.split()


def congestion_controls(machine: Machine, stream: Stream) -> set[str]:
    """Return the congestion controls of a connection's subflows, as `ss` prints them."""
    known = set(_congestion_controls(machine))
    found: set[str] = set()
    for subflow in established_subflows(stream).values():
        ends = ["sport", "=", f":{subflow.lport}", "dport", "=", f":{subflow.rport}"]
        found |= known & set(machine.probe.run(["ss", "-Htni", *ends]).stdout.split())
    return found


def set_congestion_control(stream: Stream, name: str) -> None:
    """Set the congestion control of one connection."""
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())


def ordered_pairs(client: Machine, server: Machine) -> Matrix:
    """Return the first subflow of a connection, and the one that `order_subflow` adds to it."""
    to = ip_address(server.address(0))
    return Matrix(
        {
            Pair(nic.device, ip_address(client.address(path)), to): "the first one, or ordered"
            for path, nic in enumerate(client.paths[:2])
        },
        {},
    )


def order_subflow(client: Machine, server: Machine, stream: Stream) -> str:
    """Order a subflow from the client's second path through the user-space path manager.

    Return why the kernel refuses the order; "" if it does not.
    """
    assert stream.peer is not None, f"the connection of {client.name} has no peer"
    try:
        client.probe.steering(stream).create_subflow(
            client.address(1), 1, server.address(0), stream.peer.port, device=client.paths[1].device
        )
    except ProbeError as error:
        return str(error)
    return ""
