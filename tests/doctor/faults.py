"""The edit of the healthy reading that each rule's fault makes, and the host that the finding names."""

from __future__ import annotations

from dataclasses import replace

from mptcp_lab.doctor.connection_reading import Attempt
from mptcp_lab.doctor.network_reading import Neighbour, PolicyRule, Qdisc
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.service_reading import Configuration, Conntrack, Daemon, Listener, OpenConnection
from mptcp_lab.doctor.unreadable import Unreadable, read_or
from mptcp_lab.probe.facts import Endpoint, Limits
from tests.doctor.edits import (
    A1,
    A2,
    A2V6,
    B1,
    B1V6,
    B2,
    PLAIN,
    PORT,
    SERVICE,
    TCP_ATTEMPT,
    Edit,
    captured,
    chain,
    connect,
    endpoints,
    fall_back,
    flags,
    handshake,
    listener,
    lookups,
    lose,
    mark_address,
    moved,
    on,
    process,
    refuse,
    set_link,
    sysctl,
    tried,
    unit,
)

WRAPPED = "[Service]\nEnvironment=LD_PRELOAD=libmptcpwrap.so.0\n"
NO_WRAPPER = "[Service]\nExecStart=/usr/sbin/nginx\n"
TABLE = (
    "table inet filter {\n\tchain input {\n"
    "\t\ttype filter hook input priority filter; policy accept;\n\t\t%s\n\t}\n}\n"
)
SECOND = ((A2, B1), (A2, B2))
TO_SECOND = ((A1, B2), (A2, B2))


def down(device: str) -> Edit:
    """Take a device of the client down."""
    return chain(
        set_link("client", device, is_up=False),
        lookups(
            "client",
            lambda x: replace(x, device="", gateway="", error="Network is down") if x.source == A2 else x,
        ),
        connect,
    )


def without_table(address: str) -> Edit:
    """Empty the routing table that the client has for an address."""

    def edit(reading: PairReading) -> PairReading:
        tables = {each.table for each in read_or(reading.client.rules, ()) if each.source == address}
        return on("client", routes=lambda old: tuple(x for x in old if x.table not in tables))(reading)

    return edit


def over_ipv6(error: str) -> Edit:
    """Try the IPv6 addresses too, with an error."""
    return tried(attempts=lambda old: (old[0], Attempt("2001:db8:1::10", B1V6, "mptcp", 1.0, error)))


def without_address(address: str) -> Edit:
    return chain(
        on("client", addresses=lambda old: tuple(each for each in old if each.address != address)),
        lookups(
            "client",
            lambda x: (
                replace(x, device="", gateway="", error="Invalid argument") if x.source == address else x
            ),
        ),
        connect,
    )


def unread(reading: PairReading) -> PairReading:
    """Fall back to TCP, with a server that could not be read."""
    return replace(fall_back(reading), server=None)


def off(host: str) -> Edit:
    switched = chain(on(host, mptcp_socket="ENOPROTOOPT"), sysctl(host, "net.mptcp.enabled", "0"))
    if host == "server":
        return chain(switched, PLAIN)
    failed = tried(attempts=lambda old: (replace(old[0], error="ENOPROTOOPT", is_mptcp=None), TCP_ATTEMPT))
    return chain(switched, fall_back, failed, tried(client_counters={}, pairs=()))


def broken_kernel(error: str) -> Edit:
    return chain(off("client"), on("client", mptcp_socket=error), sysctl("client", "net.mptcp.enabled", ""))


FAULTS: dict[str, tuple[str, Edit]] = {
    # switched_off, kernels
    "off-at-client": ("client", off("client")),
    "off-at-server": ("server1", off("server")),
    "kernel-too-old": ("client", broken_kernel("EINVAL")),
    "kernel-without-mptcp": ("client", broken_kernel("EPROTONOSUPPORT")),
    "out-of-tree-kernel": (
        "client",
        chain(broken_kernel("EPROTONOSUPPORT"), sysctl("client", "net.mptcp.mptcp_enabled", "1")),
    ),
    "userspace-path-manager": (
        "client",
        chain(
            sysctl("client", "net.mptcp.path_manager", "userspace"),
            lose(*SECOND, (A1, B2), state="missing"),
            captured(lambda _: None),
        ),
    ),
    "stale-detection-off": ("client", sysctl("client", "net.mptcp.stale_loss_cnt", "0")),
    "announcements-not-repeated": ("server1", sysctl("server", "net.mptcp.add_addr_timeout", "0")),
    "first-lost-syn-ends-mptcp": (
        "client",
        sysctl("client", "net.mptcp.syn_retrans_before_tcp_fallback", "0"),
    ),
    "old-backup-flag": (
        "client",
        chain(on("client", kernel="6.1.0-32-amd64"), flags("client", "subflow", "backup", address=A1)),
    ),
    "scheduler-not-loaded": ("client", sysctl("client", "net.mptcp.scheduler", "bpf_burst")),
    "program-connects-with-tcp": (
        "client",
        on("client", connections=(OpenConnection("tcp", A1, 40000, B1, PORT),)),
    ),
    # limits
    "client-subflow-limit": ("client", chain(on("client", limits=Limits(0, 8)), connect)),
    "server-subflow-limit": ("server1", chain(on("server", limits=Limits(1, 8)), connect)),
    "announcements-not-accepted": ("client", chain(on("client", limits=Limits(8, 0)), connect)),
    "more-pairs-than-subflows": (
        "client",
        tried(
            pairs=lambda old: (
                *(replace(old[1], client=f"192.0.2.{n}") for n in range(8)),
                replace(old[1], client="192.0.2.9", is_expected=False, state="missing", why="the limit of 8"),
            )
        ),
    ),
    # endpoints
    "no-endpoint-at-client": (
        "client",
        chain(on("client", endpoints=(), limits=Limits(8, 0)), on("server", endpoints=()), connect),
    ),
    "address-without-endpoint": (
        "client",
        chain(endpoints("client", lambda each: None if each.address == A2 else each), connect),
    ),
    "endpoint-without-flags": ("client", chain(flags("client", address=A2), connect)),
    "fullmesh-without-subflow": ("client", chain(flags("client", "fullmesh", address=A2), connect)),
    "client-only-announces": (
        "client",
        chain(flags("client", "signal"), on("server", endpoints=()), connect),
    ),
    "server-announces-nothing": ("server1", chain(flags("server", "subflow"), connect)),
    "implicit-endpoint": (
        "client",
        on("client", endpoints=lambda old: (*old, Endpoint(9, "192.0.2.7", 0, "", frozenset({"implicit"})))),
    ),
    "endpoint-address-missing": ("client", without_address(A2)),
    "port-endpoint-not-local": (
        "server1",
        on(
            "server",
            endpoints=lambda old: (*old, Endpoint(9, "203.0.113.5", 7000, "", frozenset({"signal"}))),
        ),
    ),
    "endpoint-on-wrong-device": (
        "client",
        chain(
            endpoints("client", lambda e: replace(e, device="eth1") if e.address == A2 else e),
            lookups(
                "client",
                lambda x: (
                    replace(x, asked_device="eth1", device="eth1") if x.source == A2 and x.asked_device else x
                ),
            ),
            connect,
        ),
    ),
    "endpoint-device-down": ("client", down("eth2")),
    # management
    "first-address-closed": (
        "server1",
        chain(sysctl("server", "net.mptcp.allow_join_initial_addr_port", "0"), connect),
    ),
    "only-backup-paths": ("client", chain(flags("client", "subflow", "fullmesh", "backup"), connect)),
    "connection-lacks-path": (
        "client",
        on("client", connections=(OpenConnection("mptcp", A1, 40000, B1, PORT, ((A1, B1), (A1, B2))),)),
    ),
    # routes, next_hops, reverse_path
    "rule-to-empty-table": (
        "client",
        chain(
            without_table(A2),
            lookups("client", lambda x: replace(x, gateway="") if x.source == A2 else x),
            connect,
        ),
    ),
    "no-route-for-source": (
        "client",
        chain(
            on("client", routes=(), rules=()),
            lookups(
                "client",
                lambda x: (
                    replace(x, device="", gateway="", error="Network is unreachable") if x.source == A2 else x
                ),
            ),
            connect,
        ),
    ),
    "source-leaves-elsewhere": (
        "client",
        chain(
            on("client", rules=(PolicyRule(4, 32766, "main"),)),
            endpoints("client", lambda e: replace(e, device="")),
            lookups(
                "client",
                lambda x: (
                    replace(x, device="eth1", gateway="") if (x.source, x.destination) == (A2, B1) else x
                ),
            ),
            connect,
        ),
    ),
    "taken-for-neighbour": (
        "client",
        chain(
            on("client", rules=(PolicyRule(4, 32766, "main"),)),
            lookups(
                "client", lambda x: replace(x, gateway="") if (x.source, x.destination) == (A2, B1) else x
            ),
            connect,
        ),
    ),
    "next-hop-silent": (
        "client",
        chain(
            on("client", neighbours=(Neighbour("198.18.2.1", "eth2", "", "FAILED"),)),
            lose((A2, B1)),
        ),
    ),
    "asymmetric-return": (
        "server1",
        chain(
            lookups(
                "server",
                lambda x: (
                    replace(x, device="eth1", gateway="") if (x.source, x.asked_device) == (B2, "") else x
                ),
            ),
            lose(*TO_SECOND, at="answer"),
        ),
    ),
    "strict-reverse-path": (
        "server1",
        chain(
            sysctl("server", "net.ipv4.conf.eth2.rp_filter", "1"),
            lose((A1, B2)),
            moved("server", "TcpExt", IPReversePathFilter=3),
        ),
    ),
    # firewall, trackers
    "filter-drops-mptcp-syns": (
        "server1",
        chain(
            on("server", nft=TABLE % "tcp flags syn tcp option mptcp exists drop"),
            fall_back,
            tried(client_counters={"MPTcpExt": {"MPCapableSYNTX": 1, "MPCapableSYNTXDrop": 1}}),
            handshake("server", syns=0, syn_option=None, synack_option=None),
        ),
    ),
    "filter-strips-options": (
        "server1",
        chain(
            on("server", nft=TABLE % "tcp dport 7000 reset tcp option mptcp"),
            fall_back,
            handshake("server", syn_option=False),
        ),
    ),
    "filter-drops-joins": (
        "server1",
        chain(
            on("server", nft=TABLE % 'iifname "eth2" tcp dport 7000 counter packets 4 bytes 240 drop'),
            lose(*SECOND, at="server"),
        ),
    ),
    "tracker-calls-joins-invalid": (
        "server1",
        chain(
            on("server", nft=TABLE % "ct state invalid drop"),
            lose(*SECOND, at="third"),
            moved("server", "Conntrack", invalid=6),
        ),
    ),
    "tracker-full": ("server1", on("server", conntrack=Conntrack(65536, 65536))),
    # listeners
    "no-listener": (
        "server1",
        chain(
            listener(),
            tried(
                attempts=lambda old: (replace(old[0], error="ECONNREFUSED", is_mptcp=None),),
                pairs=(),
                client_counters={},
                server_counters={},
                listener_after=None,
            ),
        ),
    ),
    "tcp-listener": ("server1", PLAIN),
    "listener-closed-after-accept": (
        "server1",
        chain(listener(), tried(listener_after=False), refuse(*SECOND, (A1, B2))),
    ),
    "single-address-listener": (
        "server1",
        chain(listener(Listener("mptcp", B1, PORT, SERVICE, 0, 128)), refuse(*TO_SECOND)),
    ),
    "accept-queue-full": (
        "server1",
        listener(Listener("mptcp", "::", PORT, SERVICE, 129, 128)),
    ),
    # programs, configurations
    "wrapper-not-loaded": ("server1", chain(PLAIN, process(), unit(WRAPPED, changed=500.0))),
    "wrapper-without-effect": (
        "server1",
        chain(PLAIN, process(name="caddy", go_version="go1.22.1"), unit(WRAPPED)),
    ),
    "wrapper-lost": (
        "server1",
        chain(
            listener(Listener("mptcp", "0.0.0.0", PORT, SERVICE, 0, 128)),
            process(wrappers=("/usr/lib/x86_64-linux-gnu/libmptcpwrap.so.0.0.1",)),
            unit(NO_WRAPPER, fragment="/usr/lib/systemd/system/nginx.service"),
        ),
    ),
    "wrapper-in-vendor-unit": (
        "server1",
        chain(
            listener(Listener("mptcp", "::", PORT, SERVICE, 0, 128)),
            process(wrappers=("/usr/lib/x86_64-linux-gnu/libmptcpwrap.so.0.0.1",)),
            unit(
                "[Service]\nExecStart=mptcpize run /usr/sbin/nginx\n",
                fragment="/usr/lib/systemd/system/nginx.service",
            ),
        ),
    ),
    "unit-not-reloaded": ("server1", chain(PLAIN, process(), unit(WRAPPED, needs_reload=True))),
    "socket-unit-without-mptcp": (
        "server1",
        chain(PLAIN, process(), unit(NO_WRAPPER, triggered_by="origin.socket")),
    ),
    "go-default-and-options": (
        "server1",
        chain(
            listener(Listener("mptcp", "::", PORT, SERVICE, 0, 128)),
            process(name="caddy", go_version="go1.24.1"),
            on("server", refused_options={"TCP_USER_TIMEOUT": "ENOPROTOOPT"}),
        ),
    ),
    "nginx-multipath-not-in-force": (
        "server1",
        chain(
            PLAIN,
            process(),
            on(
                "server",
                configurations=(
                    Configuration("nginx", "/etc/nginx/nginx.conf", ("listen 7000 multipath;",), 90.0),
                ),
            ),
        ),
    ),
    "haproxy-mptcp-not-in-force": (
        "server1",
        chain(
            PLAIN,
            process(name="haproxy"),
            on(
                "server",
                configurations=(
                    Configuration("haproxy", "/etc/haproxy/haproxy.cfg", ("bind mptcp@:7000",), 90.0),
                ),
            ),
        ),
    ),
    # managers
    "two-endpoint-managers": (
        "client",
        on(
            "client",
            daemons=(
                Daemon("mptcpd", "active", "enabled"),
                Daemon("NetworkManager", "active", "enabled", "1.52"),
            ),
        ),
    ),
    "path-manager-daemon-failed": ("client", on("client", daemons=(Daemon("mptcpd", "failed", "enabled"),))),
    "endpoint-on-virtual-device": (
        "client",
        chain(
            on(
                "client",
                endpoints=lambda old: (*old, Endpoint(9, "172.17.0.1", 0, "docker0", frozenset({"subflow"}))),
            ),
            on(
                "client",
                addresses=lambda old: (
                    *old,
                    replace(old[2], device="docker0", address="172.17.0.1", prefix=16),
                ),
            ),
        ),
    ),
    "selinux-denial": (
        "client",
        chain(
            fall_back,
            handshake("client", syn_option=False),
            tried(client_counters={"MPTcpExt": {}}),
            on("client", log=('avc:  denied  { create } for comm="curl" tclass=mptcp_socket',)),
        ),
    ),
    # middleboxes
    "syn-option-stripped": ("client", chain(fall_back, handshake("server", syn_option=False))),
    "answer-option-stripped": (
        "client",
        chain(fall_back, moved("server", MPCapableSYNRX=1), handshake("server", synack_option=True)),
    ),
    "options-mirrored": (
        "client",
        chain(
            fall_back,
            handshake("server", syn_option=False),
            handshake("client", synack_option=True, is_mirrored=True),
        ),
    ),
    "mptcp-syn-dropped": (
        "client",
        chain(
            fall_back,
            handshake("client", syns=3, plain_syns=1),
            handshake("server", syns=1, plain_syns=1, syn_option=False, synack_option=False),
            tried(
                client_counters={"MPTcpExt": {"MPCapableSYNTX": 1, "MPCapableSYNTXDrop": 1, "Blackhole": 1}}
            ),
        ),
    ),
    "third-packet-option-stripped": (
        "client",
        chain(
            fall_back,
            tried(client_counters={"MPTcpExt": {"MPCapableSYNTX": 1, "MPCapableSYNACKRX": 1}}),
            handshake("client", synack_option=True),
            handshake("server", synack_option=True, ack_option=False),
        ),
    ),
    "fallback-after-handshake": (
        "client",
        chain(
            fall_back,
            tried(
                client_counters={"MPTcpExt": {"MPCapableSYNTX": 1, "MPCapableSYNACKRX": 1, "DssFallback": 1}}
            ),
            handshake("client", synack_option=True),
            handshake("server", synack_option=True),
        ),
    ),
    "blackhole-pause": (
        "client",
        chain(
            fall_back,
            handshake("client", syn_option=False),
            handshake("server", syn_option=False),
            tried(client_counters={"MPTcpExt": {"MPCapableSYNTXDisabled": 1}}),
        ),
    ),
    "server-answers-without-mptcp": (
        "client",
        chain(
            fall_back,
            tried(server_capture=Unreadable("needs root")),
            on("server", listeners=Unreadable("needs root")),
        ),
    ),
    # remote: the server is not read
    "remote-unreachable": (
        "client",
        chain(
            unread,
            tried(
                attempts=lambda old: (
                    replace(old[0], error="ETIMEDOUT", is_mptcp=None),
                    replace(TCP_ATTEMPT, error="ETIMEDOUT"),
                )
            ),
        ),
    ),
    "remote-drops-mptcp": (
        "client",
        chain(
            unread,
            tried(attempts=lambda old: (replace(old[0], error="ETIMEDOUT", is_mptcp=None), TCP_ATTEMPT)),
        ),
    ),
    "remote-mirrored": (
        "client",
        chain(unread, handshake("client", synack_option=True, is_mirrored=True)),
    ),
    "remote-plain": ("client", unread),
    # paths, announcements
    "join-syn-lost": ("client", lose(*SECOND)),
    "join-answer-lost": ("client", lose(*SECOND, at="answer")),
    "join-third-packet-lost": ("client", lose(*SECOND, at="third")),
    "join-option-stripped": (
        "client",
        chain(
            refuse(*SECOND),
            captured(
                lambda j: replace(j, syn_option=False) if (j.client, j.server) in SECOND else j, ["server"]
            ),
        ),
    ),
    "join-refused": ("server1", refuse((A2, B2), reason=3)),
    "announcement-lost": (
        "client",
        chain(
            lose(*TO_SECOND, at="syn", state="missing"),
            captured(lambda j: None if (j.client, j.server) in TO_SECOND else j),
            moved("client", MPJoinSynTx=1, MPJoinSynAckRx=1, AddAddr=0),
            moved("server", MPJoinSynRx=1, MPJoinAckRx=1),
            tried(client_capture=lambda old: replace(old, announcements=())),
        ),
    ),
    "address-translated": (
        "server1",
        chain(
            lose(*SECOND, at="answer"),
            captured(
                lambda j: replace(j, client="203.0.113.9") if (j.client, j.server) in SECOND else j,
                ["server"],
            ),
        ),
    ),
    # addresses
    "same-address-on-both-hosts": (
        "server1",
        on("server", addresses=lambda old: (*old, replace(old[2], address=A2, device="eth2"))),
    ),
    "duplicate-address": (
        "server1",
        chain(
            on("client", neighbours=(Neighbour(B2, "eth2", "02:00:00:00:99:99", "REACHABLE"),)),
            refuse((A2, B2)),
        ),
    ),
    "address-not-unique": (
        "client",
        mark_address("client", A2V6, "dadfailed", "tentative"),
    ),
    "endpoint-for-temporary-address": (
        "client",
        mark_address("client", A2V6, "temporary", "dynamic"),
    ),
    # mtu, ipv6
    "mtu-differs": (
        "server1",
        set_link("server", "eth2", mtu=1400),
    ),
    "path-mtu-smaller": ("client", tried(swallowed={f"{A2} {B2}": 1500})),
    "ipv6-disabled": (
        "client",
        chain(
            sysctl("client", "net.ipv6.conf.eth2.disable_ipv6", "1"),
            on("client", addresses=lambda old: tuple(each for each in old if each.address != A2V6)),
        ),
    ),
    "listener-without-ipv6": (
        "server1",
        chain(
            listener(Listener("mptcp", "0.0.0.0", PORT, SERVICE, 0, 128)),
            over_ipv6("ECONNREFUSED"),
        ),
    ),
    "ipv6-broken": ("client", over_ipv6("ETIMEDOUT")),
    # throughput
    "small-buffers": ("client", sysctl("client", "net.ipv4.tcp_rmem", "4096 65536 131072")),
    "standing-queue": ("client", on("client", qdiscs=(Qdisc("eth2", "tbf", "1:", backlog=200_000),))),
    "received-data-dropped": ("server1", moved("server", "TcpExt", PruneCalled=4)),
    "checksums-on": ("server1", sysctl("server", "net.mptcp.checksum_enabled", "1")),
    "offload-off": ("client", set_link("client", "eth2", offloads={"gso": False})),
    "device-loses-packets": (
        "server1",
        set_link("server", "eth1", rx_packets=10_000, rx_missed=500),
    ),
    # what lives in the kernel only, what another kernel would bring, what others' connections are
    "settings-lost-at-reboot": ("client", on("client", boot_files={})),
    "newer-kernel-installed": (
        "server1",
        on("server", kernel="6.18.9-amd64", installed_kernels=("6.18.9-amd64", "6.18.10-amd64")),
    ),
    "option-refused": (
        "server1",
        on(
            "server",
            configurations=(
                Configuration("haproxy", "/etc/haproxy/haproxy.cfg", (f"bind mptcp@:{PORT} tcp-ut 30s",)),
            ),
            refused_options={"TCP_USER_TIMEOUT": "ENOPROTOOPT"},
        ),
    ),
    "connection-fell-back": (
        "client",
        on(
            "client",
            connections=(OpenConnection("mptcp", A1, 50_000, B1, PORT, ((A1, B1),), has_fallen_back=True),),
        ),
    ),
}
