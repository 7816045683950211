"""Take paths away from an idle connection, until it has none, and give it a new one (DIRECT-22)."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NeverHappened, ProbeError, Stream, Transfer, eventually
from mptcp_lab.probe.facts import TCP_CLOSE
from mptcp_lab.suite.deviations import PORT_0, find_correction, keep
from mptcp_lab.suite.direct.both_ends import Served, served_client, server_listeners
from mptcp_lab.suite.direct.live import check_exchange, established_subflows, require_sysctl
from mptcp_lab.suite.direct.spare import spare_nic
from mptcp_lab.suite.expectations import expected_pairs, matrix_between, wait_for_joins
from mptcp_lab.suite.packets import joins, tcp_capture
from mptcp_lab.suite.split.forwarders import userspace_paths

#: An idle connection finds out after so many seconds, and so many probes, that a path is dead.
KEEPALIVE = {
    "net.ipv4.tcp_keepalive_time": 1,
    "net.ipv4.tcp_keepalive_intvl": 1,
    "net.ipv4.tcp_keepalive_probes": 1,
}
CLOSE_TIMEOUT = "net.mptcp.close_timeout"
CLOSE_TIMEOUT_S = 2
LOSS_TIMEOUT_S = 15.0
#: So long a kernel that is known to join port 0 may take to do otherwise.
KNOWN_DEVIATION_S = 2.0
#: A connection without a subflow is not to end before the default of net.mptcp.close_timeout, 60 s.
FAULTS_LAST_S = 60.0


@contextmanager
def idle_connection(client: Machine, server: Machine) -> Iterator[Served]:
    """Open a connection that has exchanged data, has every expected subflow, and is idle now."""
    with server_listeners(server) as listeners, served_client(client, server, listeners) as connection:
        check_exchange(connection, "at first")
        wait_for_joins(connection, expected_pairs(client, server))
        wait_until_idle(connection)
        yield connection


def wait_until_idle(connection: Served) -> None:
    """Wait until all data of both ends is acknowledged, by subflows and by the connection.

    A subflow with data in flight is not probed (tcp_keepalive_timer in net/ipv4/tcp_timer.c). If its path is
    dead, it goes on until retransmissions fail, in a quarter of an hour. The last segment's acknowledgement
    can come 200 ms late, and data that the connection lacks is sent again on any subflow.
    """
    eventually(
        lambda: [
            *map(_octets_in_flight, _ends(connection)),
            *(sum(each.values()) for each in segments_in_flight(connection)),
        ],
        until=lambda found: not any(found),
        within=LOSS_TIMEOUT_S,
        what="an idle connection: octets of client and server, and their segments, in flight",
    )


def _octets_in_flight(stream: Stream) -> int:
    info = stream.facts().info
    assert info is not None, "the connection is not MPTCP"
    return info["write_seq"] - info["snd_una"]


def _ends(connection: Served) -> tuple[Stream, Stream]:
    return connection.stream, connection.accepted


@contextmanager
def short_keepalive(machines: tuple[Machine, ...]) -> Iterator[None]:
    """Shorten the keepalive timers of machines, for sockets that have SO_KEEPALIVE set."""
    with ExitStack() as stack:
        for machine in machines:
            for name, value in KEEPALIVE.items():
                stack.enter_context(machine.probe.fault("sysctl", ttl=FAULTS_LAST_S, name=name, value=value))
        yield


def keep_alive(connection: Served) -> None:
    """Let the kernels of both ends probe the idle subflows."""
    for stream in _ends(connection):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


@contextmanager
def dead_path(client: Machine, server: Machine, path: int) -> Iterator[None]:
    """Drop everything between one of the client's addresses and the server, without telling either end."""
    with server.probe.fault("drop", ttl=FAULTS_LAST_S, direction="both", source=client.address(path)):
        yield


def segments_in_flight(connection: Served) -> tuple[dict[str, int], dict[str, int]]:
    """Return the segments that established subflows have in flight, from the client and from the server.

    The keys are the client's addresses, at both ends.
    """
    here, there = Counter[str](), Counter[str]()
    for subflow in established_subflows(connection.stream).values():
        here[subflow.local] += subflow.tcp["unacked"]
    for subflow in established_subflows(connection.accepted).values():
        there[subflow.remote] += subflow.tcp["unacked"]
    return dict(here), dict(there)


def wait_for_addresses(connection: Served, expected: set[str], within: float = LOSS_TIMEOUT_S) -> None:
    """Wait until both ends have established subflows of just these addresses of the client."""
    eventually(
        lambda: segments_in_flight(connection),
        until=lambda found: all(set(each) == expected for each in found),
        within=within,
        what=f"subflows of {sorted(expected) or 'no address'} at both ends, with their segments in flight",
    )


def kill_every_subflow(connection: Served) -> None:
    """Reset every subflow, those that are being opened too, so that the connection has none at either end."""
    eventually(
        lambda: _kill_open_subflows(connection.stream),
        until=lambda left: left == 0,
        within=LOSS_TIMEOUT_S,
        what="a connection without a subflow",
    )
    wait_for_addresses(connection, set())


def _kill_open_subflows(stream: Stream) -> int:
    """Reset the subflows of a connection that are not closed yet; return how many there were."""
    found = [subflow for subflow in stream.facts().subflows if subflow.tcp["state"] != TCP_CLOSE]
    for subflow in found:
        with suppress(ProbeError):  # it has just ended by itself
            stream.kill_subflow(subflow)
    return len(found)


@contextmanager
def new_nic(client: Machine, server: Machine) -> Iterator[str]:
    """Bring up the client's spare NIC with a plain `subflow` endpoint; yield its address.

    Raises:
        Unsupported: the first address of the server cannot be reached from it.
    """
    spare = spare_nic(client)
    nics = tuple(replace(nic, up=True) if nic == spare else nic for nic in client.host.nics)
    address = str(spare.address())
    matrix = matrix_between(replace(client, host=replace(client.host, nics=nics)), server)
    if (address, server.address(0)) not in matrix.possible:
        raise Unsupported("new NIC", f"{server.address(0)} cannot be reached from {address}", client.name)
    with (
        client.probe.fault("link_up", device=spare.device, address=address),
        client.probe.fault("endpoint_add", address=address, device=spare.device, flags=["subflow"]),
    ):
        yield address


def check_continues(connection: Served, address: str) -> None:
    """Check that a connection gets a subflow of a new address, and carries data over it both ways."""
    wait_for_addresses(connection, {address})
    check_exchange(connection, "on the new path")


def check_ordered(client: Machine, server: Machine) -> None:
    """Check that a connection without a subflow takes one that user space orders, and goes on."""
    with (
        userspace_paths(client),
        server_listeners(server) as listeners,
        served_client(client, server, listeners) as found,
    ):
        check_exchange(found, "at first")
        kill_every_subflow(found)
        address, device = client.address(1), client.paths[1].device
        client.probe.steering(found.stream).create_subflow(
            address, 1, server.address(0), listeners[0].port, device=device
        )
        check_continues(found, address)


def check_fullmesh_endpoint(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Check that a `fullmesh` endpoint that comes back gives its subflow to a connection that has none.

    A kernel that is known to join port 0 then may do so.
    """
    address, device = client.address(1), client.paths[1].device
    with idle_connection(client, server) as connection, ExitStack() as stack:
        removed = stack.enter_context(client.probe.fault("endpoint_remove", address=address))
        kill_every_subflow(connection)
        capture = stack.enter_context(tcp_capture(client, 0, [device]))
        removed.lift()
        correction = find_correction(PORT_0, client.probe.kernel)
        try:
            wait_for_addresses(connection, {address}, KNOWN_DEVIATION_S if correction else LOSS_TIMEOUT_S)
        except NeverHappened:
            if correction is None or not joins(capture.stop(may_be_empty=True)):
                raise
            keep(correction, evidence)
            return
        check_exchange(connection, "on the new path")


def check_ends(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Check that both ends see the end of a connection that has had no subflow for `close_timeout`."""
    machines = (client, server)
    for machine in machines:
        require_sysctl(machine, CLOSE_TIMEOUT)
    with ExitStack() as stack:
        for machine in machines:
            stack.enter_context(
                machine.probe.fault("sysctl", ttl=FAULTS_LAST_S, name=CLOSE_TIMEOUT, value=CLOSE_TIMEOUT_S)
            )
        connection = stack.enter_context(idle_connection(client, server))
        reading = [stream.receive() for stream in _ends(connection)]
        began = [machine.probe.clock().monotonic for machine in machines]
        kill_every_subflow(connection)
        lasted = [_seconds_until_end(transfer, since) for transfer, since in zip(reading, began, strict=True)]
    for machine, seconds in zip(machines, lasted, strict=True):
        evidence.figure(f"{machine.name} without a subflow until its end", 1000 * seconds, "ms")
    assert min(lasted) >= CLOSE_TIMEOUT_S, f"ended after {lasted} s, {CLOSE_TIMEOUT} is {CLOSE_TIMEOUT_S}"


def _seconds_until_end(transfer: Transfer, since: float) -> float:
    """Wait until the host's reading ends; return the seconds since `since`, a time of the host's clock."""
    ended = eventually(
        transfer.progress, until=lambda found: found.done, within=LOSS_TIMEOUT_S, what="the connection's end"
    )
    return ended.at - since
