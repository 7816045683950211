"""A reading with planted secrets and addresses, and captures as the agent writes them."""

from __future__ import annotations

import base64
import struct
from ipaddress import IPv4Address, IPv6Address

from mptcp_lab.doctor.connection_reading import Attempt, ConnectionReading, Pair
from mptcp_lab.doctor.finding import Finding, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.network_reading import HostAddress, Route
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.service_reading import Configuration, Process, Unit
from mptcp_lab.probe.facts import Endpoint, Limits
from mptcp_lab.wire import AddAddr, MpCapable, MpFastclose, Segment, build_packet
from mptcp_lab.wire.packet import ACK, RAW, SYN

#: Texts that no file of a bundle may hold, whatever a reading has them in.
SECRETS = (
    "hunter2",
    "s3cr3t-of-unit",
    "s3cr3t-argument",
    "s3cr3t-after-option",
    "ghp_Abcdefghijklmnopqrstuvwxyz0123456789",
    "c2VjcmV0LWJhc2ljLWF1dGg=",
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ",
    "00112233-44556677-8899aabb-ccddeeff",
    "0123456789abcdef0123456789abcdef",
    "credential-of-systemd",
)
#: Addresses and names that no file of a concealed bundle may hold.
ADDRESSES = (
    "203.0.113.10",
    "203.0.113.77",
    "198.51.100.31",
    "192.168.7.10",
    "2001:db8:1::10",
    "2001:db8:1::77",
    "52:54:00:ab:cd:01",
    "alpha",
    "beta.example.org",
    "fe80::5054:ff:feab:cd01",
)
SENDER_KEY, RECEIVER_KEY = 0x1122334455667788, 0x99AABBCCDDEEFF00
PAYLOAD = b"Authorization: Basic hunter2"
PEM = f"-----BEGIN PRIVATE KEY-----\n{SECRETS[6]}\n-----END PRIVATE KEY-----"
UNIT = f"""[Service]
Environment=LD_PRELOAD=/usr/lib/libmptcpwrap.so DB_NAME=hunter2 "NOTE={SECRETS[1]}"
SetCredential=tls:{SECRETS[9]}
ExecStart=/usr/bin/app --api-key={SECRETS[2]} --listen 203.0.113.10:443
"""
V4 = (IPv4Address("203.0.113.10"), IPv4Address("198.51.100.31"))
V6 = (IPv6Address("2001:db8:1::10"), IPv6Address("2001:db8:1::77"))


def a_frame(*options: object, payload: bytes = b"", v6: bool = False, flags: int = ACK) -> bytes:
    """Return an IP packet from the client to the server."""
    src, dst = V6 if v6 else V4
    return build_packet(
        Segment(src, 40000, dst, 443, 1, 1, flags, 500, options=tuple(options), payload=payload)  # type: ignore[arg-type]
    )


def frames() -> list[bytes]:
    """Return packets with everything that must not leave: keys, payload, announced addresses."""
    capable = MpCapable(sender_key=SENDER_KEY, receiver_key=RECEIVER_KEY, data_length=len(PAYLOAD))
    return [
        a_frame(MpCapable(), flags=SYN),
        a_frame(MpCapable(sender_key=SENDER_KEY)),
        a_frame(capable, payload=PAYLOAD),
        a_frame(AddAddr(address_id=2, address=IPv4Address("203.0.113.77"), hmac=bytes(8)), v6=True),
        a_frame(AddAddr(address_id=3, address=V6[1], hmac=bytes(8))),
        a_frame(MpFastclose(receiver_key=RECEIVER_KEY), v6=True),
    ]


def pcapng(packets: list[bytes], link_type: int = RAW) -> bytes:
    """Return a capture as the agent writes it, one interface named eth1."""
    out = _block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _option(4, b"probe on alpha"))
    out += _block(1, struct.pack("<HHI", link_type, 0, 160) + _option(2, b"eth1") + _option(9, b"\x09"))
    for number, packet in enumerate(packets):
        head = struct.pack("<5I", 0, 0, number, len(packet), len(packet))
        out += _block(6, head + packet + bytes(-len(packet) % 4) + _option(2, struct.pack("<I", 2)))
    return out


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _option(code: int, data: bytes) -> bytes:
    return struct.pack("<HH", code, len(data)) + data + bytes(-len(data) % 4) + bytes(4)


def a_reading() -> PairReading:
    """Return a pair's reading with every planted secret and address."""
    client = HostReading(
        name="alpha",
        hostname="alpha",
        kernel="6.18.44",
        os="Debian 13",
        config={"CONFIG_MPTCP": "y", "CONFIG_TCP_CONG_CUBIC": "y", "CONFIG_USB": "m"},
        sysctls={"net.mptcp.enabled": "1", "net.ipv4.tcp_fastopen_key": SECRETS[7]},
        limits=Limits(2, 2),
        endpoints=(Endpoint(1, "203.0.113.10", 0, "eth1", frozenset({"subflow"})),),
        addresses=(
            HostAddress("eth1", "203.0.113.10", 24),
            HostAddress("eth1", "fe80::5054:ff:feab:cd01", 64, "link"),
            HostAddress("eth2", "192.168.7.10", 24),
            HostAddress("eth2", "2001:db8:1::10", 64),
            HostAddress("eth2", "2001:db8:1::77", 64),
        ),
        routes=(Route(4, "main", "203.0.113.0/24", "eth1"), Route(6, "main", "2001:db8:1::/64", "eth1")),
        nft='table inet f { chain c { ip saddr 203.0.113.77 drop comment "password: hunter2"; } }',
        processes=(
            Process(
                7,
                "app",
                arguments=("app", f"--secret={SECRETS[2]}", "--password", SECRETS[3]),
                environment={"LD_PRELOAD": "/usr/lib/libmptcpwrap.so", "GITHUB_PAT": SECRETS[4]},
            ),
        ),
        units=(Unit("app.service", files={"/etc/app": UNIT}, environment=f"A={SECRETS[1]} GODEBUG=x=1"),),
        configurations=(
            Configuration("haproxy", "/etc/h.cfg", (f"bind :443 # {PEM}", "listen 203.0.113.10:443")),
        ),
        sockets="ESTAB 0 0 203.0.113.10:443 198.51.100.31:40000 token:0a1b2c3d\n",
        counters={"MPTcpExt": {"MPJoinNoTokenFound": 3, "MPCapableSYNTX": 5}},
        log=(
            "eth1: 52:54:00:ab:cd:01 from 203.0.113.77: MPTCP",
            f"curl https://user:hunter2@beta.example.org/ Authorization: Basic {SECRETS[5]}",
            f"build {SECRETS[8]} of alpha",
        ),
    )
    server = HostReading(name="beta.example.org", hostname="beta.example.org", kernel="6.12.1")
    connection = ConnectionReading(
        port=443,
        client_address="203.0.113.10",
        server_address="198.51.100.31",
        attempts=(Attempt("203.0.113.10", "198.51.100.31", "mptcp", 0.01, is_mptcp=True),),
        subflows=1,
        expected=2,
        pairs=(Pair("203.0.113.10", "198.51.100.31", "established", is_first=True),),
        client_counters={"MPTcpExt": {"MPCapableSYNTX": 1}},
        client_events=({"event": "created", "token": 170601533, "saddr4": "203.0.113.10"},),
        client_pcapng=base64.b64encode(pcapng(frames())).decode(),
        server_pcapng=base64.b64encode(pcapng(frames()[:3])).decode(),
    )
    return PairReading(client, server, 443, connection)


def findings() -> tuple[Finding, ...]:
    """Return a finding that names an address and has a secret in its evidence."""
    found = Finding(
        "no-endpoint",
        Severity.ERROR,
        "alpha",
        "alpha has no endpoint for 192.168.7.10.",
        "No subflow uses eth2.",
        "ip mptcp endpoint add 192.168.7.10 dev eth2 subflow",
        evidence=("token=hunter2 in the environment",),
    )
    return (found,)
