"""Set socket options at the client, and check that they hold on every subflow (DIRECT-18)."""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NewEndpoint, ProbeError, Stream, eventually
from mptcp_lab.suite.deviations import ONE_DEVICE, find_correction, keep
from mptcp_lab.suite.direct.endpoints import SIGNAL, SUBFLOW, SUBFLOWS_TIMEOUT_S
from mptcp_lab.suite.expectations import direct_flow, origin_of
from mptcp_lab.suite.packets import first_syns, joins, rows, tcp_capture
from mptcp_lab.suite.sockets import AddressPair
from mptcp_lab.suite.traffic import Flow

JOINED_ID = 2
#: What the packets of a connection have by options of its socket, as fault "count" names it.
IN_PACKETS = {"mark": "the mark", "tos": "the traffic class", "hops": "the TTL"}
#: How many bytes flow while packets are counted.
COUNTED_BYTES = 20_000
SOL_SOCKET, SOL_IP, SOL_TCP, SOL_IPV6 = 1, 0, 6, 41
MARK, TOS, TTL = 0x4D50, 0x28, 33  # "MP"; DSCP AF11
#: Keepalive timers that no host has by default: probes after so many seconds, apart, and how many.
IDLE_S, INTERVAL_S, PROBES = 61, 7, 4


@dataclass(frozen=True)
class Option:
    """A socket option: its name in C, level and number, and the value to set."""

    name: str
    level: int
    number: int
    value: bytes


def _int_option(name: str, level: int, number: int, value: int) -> Option:
    return Option(name, level, number, struct.pack("=i", value))


SO_MARK = _int_option("SO_MARK", SOL_SOCKET, 36, MARK)
IP_TOS = _int_option("IP_TOS", SOL_IP, 1, TOS)
IPV6_TCLASS = _int_option("IPV6_TCLASS", SOL_IPV6, 67, TOS)
IP_TTL = _int_option("IP_TTL", SOL_IP, 2, TTL)
IPV6_UNICAST_HOPS = _int_option("IPV6_UNICAST_HOPS", SOL_IPV6, 16, TTL)
KEEPALIVE = (
    _int_option("SO_KEEPALIVE", SOL_SOCKET, 9, 1),
    _int_option("TCP_KEEPIDLE", SOL_TCP, 4, IDLE_S),
    _int_option("TCP_KEEPINTVL", SOL_TCP, 5, INTERVAL_S),
    _int_option("TCP_KEEPCNT", SOL_TCP, 6, PROBES),
)
TCP_CONGESTION = 13
#: The options of the table: those that applications are known to set, and kernels to refuse.
TABLE = (
    SO_MARK,
    IP_TOS,
    IPV6_TCLASS,
    *KEEPALIVE,
    _int_option("TCP_NODELAY", SOL_TCP, 1, 1),
    _int_option("TCP_CORK", SOL_TCP, 3, 1),
    _int_option("TCP_QUICKACK", SOL_TCP, 12, 0),
    Option("TCP_CONGESTION", SOL_TCP, TCP_CONGESTION, b"reno".ljust(16, b"\0")),
    _int_option("TCP_NOTSENT_LOWAT", SOL_TCP, 25, 16384),
    _int_option("TCP_MAXSEG", SOL_TCP, 2, 1000),
    _int_option("TCP_USER_TIMEOUT", SOL_TCP, 18, 30000),
    _int_option("TCP_SYNCNT", SOL_TCP, 7, 3),
    _int_option("TCP_LINGER2", SOL_TCP, 8, 10),
    _int_option("TCP_DEFER_ACCEPT", SOL_TCP, 9, 5),
    _int_option("TCP_WINDOW_CLAMP", SOL_TCP, 10, 65536),
    _int_option("TCP_FASTOPEN", SOL_TCP, 23, 5),
    _int_option("TCP_FASTOPEN_CONNECT", SOL_TCP, 30, 1),
    _int_option("TCP_THIN_LINEAR_TIMEOUTS", SOL_TCP, 16, 1),
    _int_option("TCP_INQ", SOL_TCP, 36, 1),
    _int_option("TCP_TX_DELAY", SOL_TCP, 37, 0),
    _int_option("TCP_SAVE_SYN", SOL_TCP, 27, 1),
    Option("TCP_MD5SIG", SOL_TCP, 14, bytes(216)),
    Option("TCP_ULP", SOL_TCP, 31, b"tls\0"),
    IP_TTL,
    _int_option("IP_MTU_DISCOVER", SOL_IP, 10, 2),
    _int_option("IP_RECVERR", SOL_IP, 11, 1),
    _int_option("IP_FREEBIND", SOL_IP, 15, 1),
    _int_option("IP_TRANSPARENT", SOL_IP, 19, 1),
    _int_option("IP_MINTTL", SOL_IP, 21, 1),
    _int_option("IP_BIND_ADDRESS_NO_PORT", SOL_IP, 24, 1),
    _int_option("IP_LOCAL_PORT_RANGE", SOL_IP, 51, 0),
    _int_option("IPV6_V6ONLY", SOL_IPV6, 26, 1),
    IPV6_UNICAST_HOPS,
    _int_option("SO_REUSEADDR", SOL_SOCKET, 2, 1),
    _int_option("SO_REUSEPORT", SOL_SOCKET, 15, 1),
    _int_option("SO_SNDBUF", SOL_SOCKET, 7, 65536),
    _int_option("SO_RCVBUF", SOL_SOCKET, 8, 65536),
    _int_option("SO_RCVLOWAT", SOL_SOCKET, 18, 100),
    _int_option("SO_PRIORITY", SOL_SOCKET, 12, 5),
    _int_option("SO_INCOMING_CPU", SOL_SOCKET, 49, 0),
    _int_option("SO_BUSY_POLL", SOL_SOCKET, 46, 0),
    _int_option("SO_ZEROCOPY", SOL_SOCKET, 60, 1),
    _int_option("SO_TIMESTAMP", SOL_SOCKET, 29, 1),
    _int_option("SO_OOBINLINE", SOL_SOCKET, 10, 1),
    _int_option("SO_DONTROUTE", SOL_SOCKET, 5, 0),
    Option("SO_LINGER", SOL_SOCKET, 13, struct.pack("=ii", 1, 5)),
    Option("SO_BINDTODEVICE", SOL_SOCKET, 25, b"\0"),
)


def set_options(stream: Stream, wanted: Collection[Option]) -> list[Option]:
    """Set options of a connection; return those that the kernel accepted."""
    tried = stream.try_options([(each.level, each.number, each.value) for each in wanted])
    return [option for option, result in zip(wanted, tried, strict=True) if result.set_errno is None]


def _other_congestion_control(client: Machine) -> str:
    """Return a congestion control that the client's kernel has and does not use by default."""
    read = client.probe.run(["sysctl", "-n", "net.ipv4.tcp_available_congestion_control"]).stdout.split()
    default = client.probe.run(["sysctl", "-n", "net.ipv4.tcp_congestion_control"]).stdout.strip()
    for name in read:
        if name not in (default, "bbr"):  # bbr needs pacing, which changes more than the algorithm
            return name
    raise Unsupported("a second congestion control", f"the kernel has {' '.join(read)}", client.name)


def check_options_hold(client: Machine, server: Machine, family: int, evidence: EvidenceBox) -> None:
    """Check that accepted options hold on the first subflow and on one that joins after they were set.

    Marks, traffic classes and TTLs are counted by the packet filter of the client. Keepalive timers and
    congestion control are those that socket diagnostics show of each subflow.
    """
    port = origin_of(server).port
    addresses = [client.address(path, family) for path in (0, 1)]
    traffic_class, hops = (IP_TOS, IP_TTL) if family == 4 else (IPV6_TCLASS, IPV6_UNICAST_HOPS)
    in_packets = {"mark": SO_MARK, "tos": traffic_class, "hops": hops}
    values = {"mark": MARK, "tos": TOS, "hops": TTL}
    wanted = [*in_packets.values(), *KEEPALIVE]
    algorithm = _other_congestion_control(client)
    with ExitStack() as opened:
        control = opened.enter_context(client.probe.replace_endpoints())
        opened.enter_context(server.probe.replace_endpoints())
        data = opened.enter_context(direct_flow(client, server, family))
        transfer = data.start()
        data.wait_for_bytes(1)
        accepted = set_options(data.stream, wanted)
        _set_congestion_control(data.stream, algorithm)
        for address in addresses:
            opened.enter_context(client.probe.fault("count", source=address, dport=port, **values))
        control.add(NewEndpoint(addresses[1], SUBFLOW, JOINED_ID, client.paths[1].device))
        _wait_for_pairs(
            data, {(addresses[0], server.address(0, family)), (addresses[1], server.address(0, family))}
        )
        data.wait_for_bytes(COUNTED_BYTES)
        transfer.finish()  # an idle subflow has the timer for keepalives, a busy one that for retransmissions
        shown = {address: _diagnose(client, address, port) for address in addresses}
        counted = {address: _read_counts(client, address) for address in addresses}
        ended = data.end(transfer)
    refused = [option.name for option in wanted if option not in accepted]
    evidence.document("packets by address", counted)
    evidence.document("socket diagnostics by address", shown)
    evidence.document("options that the kernel refuses", refused)
    for address in addresses:
        every = counted[address]["all"]
        assert every, f"no packet left {client.name} from {address}"
        for field, option in in_packets.items():
            lacking = every - counted[address][field] if option in accepted else 0
            assert not lacking, f"{lacking} of {every} packets from {address} lack {IN_PACKETS[field]}"
        assert algorithm in shown[address].split(), f"{address} does not use {algorithm}: {shown[address]}"
        if set(KEEPALIVE) <= set(accepted):
            assert "timer:(keepalive," in shown[address], (
                f"no keepalive timer from {address}: {shown[address]}"
            )
            assert _keepalive_seconds(shown[address]) <= IDLE_S, f"the default timer: {shown[address]}"
    assert ended.intact, ended.difference


def _set_congestion_control(stream: Stream, algorithm: str) -> None:
    try:
        stream.setsockopt(SOL_TCP, TCP_CONGESTION, algorithm.encode())
    except ProbeError as error:
        raise Unsupported("TCP_CONGESTION on MPTCP sockets", str(error)) from None


def _wait_for_pairs(data: Flow, pairs: set[AddressPair]) -> None:
    eventually(
        data.pairs, until=lambda found: found == pairs, within=SUBFLOWS_TIMEOUT_S, what="a later subflow"
    )


def _diagnose(client: Machine, address: str, port: int) -> str:
    """Return what `ss` prints of the subflow from an address, once its timer is the one for keepalives."""
    source = f"[{address}]" if ":" in address else address
    command = ["ss", "-HtniO", "-o", "state", "established", "src", source, "dport", "=", f":{port}"]

    def read() -> str:
        return client.probe.run(command).stdout.strip()

    return eventually(
        read,
        until=lambda line: "timer:(keepalive," in line,
        within=5.0,
        what=f"a keepalive timer from {address}",
    )


def _keepalive_seconds(line: str) -> float:
    """Return the seconds that a keepalive timer still has, from `timer:(keepalive,1min,0)`."""
    text = line.partition("timer:(keepalive,")[2].partition(",")[0]
    seconds = 0.0
    for unit, factor in (("min", 60.0), ("ms", 0.001), ("sec", 1.0)):
        head, found, rest = text.partition(unit)
        if found:
            seconds, text = seconds + float(head) * factor, rest
    return seconds


def _read_counts(client: Machine, address: str) -> dict[str, int]:
    """Return the counters of fault "count" for a source address, by name."""
    found = {}
    for entry in client.probe.read("nft"):
        rule = entry.get("rule", {})
        owner, _, name = str(rule.get("comment", "")).partition(" ")
        if owner == address and name:
            found[name] = next(each["counter"]["packets"] for each in rule["expr"] if "counter" in each)
    return found


def check_bound_to_device(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Check that a connection that is bound to the first NIC sends its joins by that NIC too."""
    first, other = client.paths[:2]
    port = origin_of(server).port
    announced = NewEndpoint(server.address(1), SIGNAL, JOINED_ID, server.paths[1].device)
    with ExitStack() as opened:
        opened.enter_context(client.probe.replace_endpoints())
        opened.enter_context(server.probe.replace_endpoints(announced))
        captures = {
            nic.device: opened.enter_context(tcp_capture(client, port, [nic.device]))
            for nic in (first, other)
        }
        stream = opened.enter_context(client.probe.connect(server.address(0), port, device=first.device))
        eventually(
            lambda: (
                client.probe.run(["ss", "-Htn", "dst", server.address(1), "dport", "=", f":{port}"]).stdout
            ),
            until=bool,
            within=SUBFLOWS_TIMEOUT_S,
            what=f"a join to {server.address(1)}",
        )
        stream.close()
        captured = {device: capture.stop(may_be_empty=True) for device, capture in captures.items()}
    for device, packets in captured.items():
        evidence.packets(rows(packets, client.name, device), name=f"packets on {device}")
    opening = {str(s.src) for s in first_syns(captured[other.device])} - {
        str(s.src) for s in joins(captured[other.device])
    }
    assert first_syns(captured[first.device]) and not opening, f"the first subflow left by {other.device}"
    elsewhere = joins(captured[other.device])
    evidence.figure("joins that left by another NIC", len(elsewhere))
    deviation = find_correction(ONE_DEVICE, client.probe.kernel)
    if elsewhere and deviation:
        keep(deviation, evidence)
        return
    assert not elsewhere, f"a join left by {other.device} although the socket is bound to {first.device}"


def option_table(client: Machine, server: Machine) -> list[Mapping[str, object]]:
    """Return what the client's kernel does with each option of `TABLE`, on MPTCP and on TCP.

    Each option is tried on a new socket and on a connected one: some can be set before connect() only. The
    options of IPv6 are tried on IPv6 sockets, and left out where the server has no IPv6 address.
    """
    rows_of_table: list[Mapping[str, object]] = []
    for family in (4, 6):
        options = [each for each in TABLE if (each.level == SOL_IPV6) == (family == 6)]
        address = server.paths[0].address(family)
        if address is not None:
            rows_of_table += _try_all(client, str(address), origin_of(server).port, options)
    return rows_of_table


def _try_all(
    client: Machine, address: str, port: int, options: Sequence[Option]
) -> list[Mapping[str, object]]:
    values = [(each.level, each.number, each.value) for each in options]
    results = {}
    for protocol in ("mptcp", "tcp"):
        results[f"{protocol}, new"] = client.probe.try_options(protocol, address, values)
        with client.probe.connect(address, port, protocol=protocol) as stream:
            results[f"{protocol}, connected"] = stream.try_options(values)
    return [
        {
            "option": option.name,
            **{
                name: _outcome(option, result[number].set_errno, result[number].after)
                for name, result in results.items()
            },
        }
        for number, option in enumerate(options)
    ]


def _outcome(option: Option, refused: int | None, after: str | None) -> str:
    """Return in words what a kernel did with an option."""
    if refused is not None:
        name = "EOPNOTSUPP" if refused == errno.EOPNOTSUPP else errno.errorcode.get(refused, str(refused))
        return f"refused, {name}"
    if after is None:
        return "accepted, not readable"
    doubled = option.name in ("SO_SNDBUF", "SO_RCVBUF")  # the kernel doubles them (socket(7))
    same = bytes.fromhex(after).rstrip(b"\0") == option.value.rstrip(b"\0") or doubled
    return "accepted" if same else f"accepted, reads back {after}"


def count_refused_by_mptcp(table: list[Mapping[str, object]]) -> int:
    """Return how many options MPTCP sockets always refuse, and TCP sockets accept new or connected."""

    def is_refused(row: Mapping[str, object], protocol: str) -> bool:
        return all(str(row[f"{protocol}, {when}"]).startswith("refused") for when in ("new", "connected"))

    return sum(is_refused(row, "mptcp") and not is_refused(row, "tcp") for row in table)
