"""Give a service MPTCP in other usual ways than a proxy's own option or the wrapper (PROXY-15)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.paths import ROOT
from mptcp_lab.probe import Listener, Readable, eventually
from mptcp_lab.suite.direct.families import check_passes
from mptcp_lab.suite.directions import BOTH, Movement
from mptcp_lab.suite.expectations import expected_pairs, origin_of, wait_for_joins
from mptcp_lab.suite.state.units import listeners
from mptcp_lab.suite.traffic import FarEnd, Flow, flow, is_mptcp

#: Ports that no service of the lab uses.
MPTCP_PORT, TCP_PORT, GO_PORT = 7500, 7501, 7502
GO_VERSION, GO_WITH_MPTCP = re.compile(r"go(\d+)\.(\d+)"), (1, 24)
#: The program ends by itself after its only connection. To build it takes a while without Go's cache.
GO_PROGRAM, GO_SECONDS = ROOT / "examples" / "programming" / "relay.go", 120.0
GO_RUN = """folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT && printf %s "$0" > "$folder/relay.go" &&
GOCACHE="$folder/cache" HOME="$folder" GOFLAGS=-modcacherw go run "$folder/relay.go" "$@"
"""
#: Less than a receive window takes before anything is read.
SOME_BYTES = 30_000


@contextmanager
def socket_unit(proxy: Machine, origin: Machine, protocol: str) -> Iterator[int]:
    """Let systemd listen on a proxy's path addresses, and pass connections on to an origin; yield the port.

    `protocol` is the unit's SocketProtocol=, or "" for none.

    Raises:
        Unsupported: the proxy's systemd does not know the protocol.
    """
    port = MPTCP_PORT if protocol else TCP_PORT
    listen = [f"{nic.address()}:{port}" for nic in proxy.paths]
    backend = f"{origin.host.nics[0].address()}:{origin_of(origin).port}"
    with proxy.probe.fault("socket_unit", listen=listen, to=backend, protocol=protocol):
        yield port


@contextmanager
def go_listener(proxy: Machine, origin: Machine) -> Iterator[int]:
    """Build and run a Go program on a proxy that passes one connection on to an origin; yield its port.

    Raises:
        Unsupported: the proxy has no Go whose listeners speak MPTCP by default.
    """
    done = proxy.probe.run(["sh", "-c", "go version"])
    found = GO_VERSION.search(done.stdout)
    if found is None or (int(found[1]), int(found[2])) < GO_WITH_MPTCP:
        raise Unsupported("Go 1.24 or newer", (done.stdout or done.stderr).strip(), proxy.name)
    listen = [f"{nic.address()}:{GO_PORT}" for nic in proxy.paths]
    backend = f"{origin.host.nics[0].address()}:{origin_of(origin).port}"
    argv = ["sh", "-c", GO_RUN, GO_PROGRAM.read_text(), backend, *listen]
    proxy.probe.start("run", argv=argv, timeout=GO_SECONDS)
    eventually(
        lambda: listener_kind(proxy, GO_PORT),
        until=lambda kind: kind != "nothing",
        within=GO_SECONDS,
        what=f"the listener of {GO_PROGRAM.name}",
    )
    yield GO_PORT


def listener_kind(machine: Machine, port: int) -> str:
    """Return what listens on a port of a machine's first path address: MPTCP, TCP or nothing."""
    mptcp, tcp = listeners(machine.probe)
    each = (machine.address(0), port)
    return "MPTCP" if each in mptcp else "TCP" if each in tcp else "nothing"


def check_serves(client: Machine, proxy: Machine, origin: Machine, port: int, evidence: EvidenceBox) -> None:
    """Check that a listener of a proxy serves a client over MPTCP, with all subflows, in both directions."""
    service = origin_of(origin)
    with flow(client, proxy.address(0), port, origin, service, far_end=FarEnd(proxy, port)) as data:
        movement = Movement(data, BOTH)
        wait_for_joins(data, expected_pairs(client, proxy)).keep(evidence)
        assert is_mptcp(data.stream), "the connection fell back to TCP"
        moved = movement.end()
    moved.check_intact()


def check_program_gives_mptcp(client: Machine, proxy: Machine) -> None:
    """Check that an eBPF program makes a listener MPTCP whose program asked for TCP, and serves a client.

    Before and afterwards such a listener is plain TCP.

    Raises:
        Unsupported: the proxy's kernel has no such programs.
    """

    def open_listener() -> Listener:
        return proxy.probe.listen(proxy.address(0), 0, protocol="tcp")

    with (
        proxy.probe.socket_program(),
        open_listener() as listener,
        client.probe.connect(proxy.address(0), listener.port) as out,
        listener.accept() as into,
    ):
        kind = listener_kind(proxy, listener.port)
        check_passes(out, into, "upwards")
        check_passes(into, out, "downwards")
        found = [is_mptcp(each) for each in (out, into)]
    with open_listener() as listener:
        afterwards = listener_kind(proxy, listener.port)
    assert (kind, afterwards) == ("MPTCP", "TCP"), f"with the program {kind}, afterwards {afterwards}"
    assert all(found), f"MPTCP at client and proxy: {found}"


def check_readable(data: Flow, reads_mptcp: bool, evidence: EvidenceBox) -> None:
    """Check that FIONREAD and TCP_INQ agree with what can be read: after all has arrived, and after a part.

    The origin keeps its direction open meanwhile, because both count the end of the stream as an octet. A
    kernel may give no TCP_INQ on a connection that fell back before the option was set (Corrections).

    Raises:
        Unsupported: the client's kernel has neither of them on this socket.
    """
    assert is_mptcp(data.stream) == reads_mptcp, "the connection is not of the kind that this check reads"
    data.stream.send(0, header=data.greeting("duplex", bytes=SOME_BYTES, seed=data.tag)).wait(10)
    left = SOME_BYTES
    for part in (0, 1000, SOME_BYTES // 2):
        left -= data.stream.receive(part).wait(10).nbytes if part else 0
        found = _wait_for_readable(data, left)
        evidence.document(f"with {left} octets unread", found)
        if found.fionread is None or (reads_mptcp and found.tcp_inq is None):
            what = "the kernel lacks one of them on this socket"
            raise Unsupported("FIONREAD and TCP_INQ", what, data.opening.client.name)
        assert found.tcp_inq in (left, None), f"{left} octets can be read, TCP_INQ reports {found.tcp_inq}"
    data.stream.shutdown()
    rest = data.stream.receive().wait(10)
    assert rest.nbytes == left, f"{rest.nbytes} octets could be read, {left} were left"


def _wait_for_readable(data: Flow, octets: int) -> Readable:
    return eventually(
        data.stream.readable,
        until=lambda now: now.fionread in (None, octets),
        within=10,
        what=f"{octets} octets that can be read, by FIONREAD",
    )
