"""A server that is not read, as ``--remote`` tries it from each address of one host."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.connection_reading import CaptureSummary, ConnectionReading, Handshake
from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import PairReading


def _find_tried(reading: PairReading) -> ConnectionReading | None:
    """Return the connection to a server that is not read, or None."""
    return reading.connection if reading.server is None else None


def _handshake(connection: ConnectionReading) -> Handshake | None:
    capture = connection.client_capture
    return capture.handshake if isinstance(capture, CaptureSummary) else None


def _source(host: HostReading, connection: ConnectionReading) -> str:
    source = connection.client_address or (connection.first.source if connection.first else "")
    return f"{source} ({host.device_of(source)})" if host.device_of(source) else source or host.name


def find_unreachable(reading: PairReading) -> Iterable[Finding]:
    """Find an address from which the server does not answer at all."""
    made = _find_tried(reading)
    if made is None or made.first is None or not made.first.error:
        return
    if made.first.error in ("ENOPROTOOPT", "EPROTONOSUPPORT", "EINVAL"):
        return  # this host's kernel refuses the socket
    plain = made.attempts[1] if len(made.attempts) > 1 else None
    if plain is not None and not plain.error:
        return
    yield Finding(
        "remote-unreachable",
        Severity.ERROR,
        reading.client.name,
        f"{made.server_address} port {made.port} does not answer {_source(reading.client, made)}.",
        "No connection can use this path.",
        fix=f"ip route get {made.server_address} from {made.first.source or 'ADDRESS'}",
        evidence=(f"connect: {made.first.error}",),
    )


def find_dropped(reading: PairReading) -> Iterable[Finding]:
    """Find an address from which TCP connects, and MPTCP does not."""
    made = _find_tried(reading)
    if made is None or len(made.attempts) < 2 or not made.attempts[0].error or made.attempts[1].error:
        return
    if made.attempts[0].error != "ETIMEDOUT":
        return
    yield Finding(
        "remote-drops-mptcp",
        Severity.ERROR,
        reading.client.name,
        f"{made.server_address} does not answer SYNs with MP_CAPABLE from {_source(reading.client, made)}.",
        "A box on the way drops them, so that a connection starts only after the kernel falls back to TCP.",
        fix=_capture(made),
        confidence=Confidence.LIKELY,
        evidence=("connect: ETIMEDOUT with MPTCP, connected with TCP",),
    )


def find_mirrored(reading: PairReading) -> Iterable[Finding]:
    """Find an address from which a box on the way echoes the option."""
    made = _find_tried(reading)
    shake = _handshake(made) if made is not None else None
    if made is None or shake is None or not shake.is_mirrored:
        return
    yield Finding(
        "remote-mirrored",
        Severity.ERROR,
        reading.client.name,
        f"A box between {_source(reading.client, made)} and {made.server_address} mirrors TCP options.",
        "The SYN/ACK has the SYN's own MP_CAPABLE, without a key, so the connection is plain TCP.",
        fix=_capture(made),
        evidence=("MP_CAPABLE without a key in the SYN/ACK",),
    )


def _capture(made: ConnectionReading) -> str:
    """Return the command that shows the packets of the handshake."""
    return f"tcpdump -ni any 'tcp port {made.port} and host {made.server_address}'"


def find_plain(reading: PairReading) -> Iterable[Finding]:
    """Find an address to which the server answers without MP_CAPABLE."""
    made = _find_tried(reading)
    if made is None or made.is_mptcp is not False:
        return
    shake = _handshake(made)
    if shake is not None and (shake.syn_option is False or shake.is_mirrored):
        return  # this host sends no option, or another rule names the box
    yield Finding(
        "remote-plain",
        Severity.ERROR,
        reading.client.name,
        f"{made.server_address} port {made.port} answers {_source(reading.client, made)} without MPTCP.",
        "The service has no MPTCP listener, or a box on the way strips the option.",
        fix=f"mptcp-lab doctor {reading.client.name} SERVER --port {made.port}",
        confidence=Confidence.LIKELY,
        evidence=("no MP_CAPABLE in the SYN/ACK",) if shake is not None else ("TCP_IS_MPTCP 0",),
    )


RULES = (
    Rule(
        "remote-unreachable",
        "`--remote`: the server does not answer one of the client's addresses",
        find_unreachable,
        "look at the routes and firewalls of that path",
    ),
    Rule(
        "remote-drops-mptcp",
        "`--remote`: SYNs with MP_CAPABLE are dropped, SYNs without it are answered",
        find_dropped,
        "look for a firewall that drops TCP option 30",
    ),
    Rule(
        "remote-mirrored",
        "`--remote`: the SYN/ACK has the MP_CAPABLE that the client sent",
        find_mirrored,
        "find the proxy or load balancer that answers for the server",
    ),
    Rule(
        "remote-plain",
        "`--remote`: the SYN/ACK has no MP_CAPABLE",
        find_plain,
        "try from another network; on the server, look at the service's listener",
    ),
)
