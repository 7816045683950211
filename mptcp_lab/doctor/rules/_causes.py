"""Names of rules by group: a finding names those groups in `follows_from` that may be its cause."""

from __future__ import annotations

#: Rules whose findings are causes of others, which only show a symptom. The groups go from cause to symptom.
REMOTE = ("remote-unreachable", "remote-drops-mptcp", "remote-plain", "remote-mirrored")
SWITCHES = (
    *REMOTE,
    "off-at-client",
    "off-at-server",
    "kernel-too-old",
    "kernel-without-mptcp",
    "out-of-tree-kernel",
)
PROGRAMS = (
    "wrapper-not-loaded",
    "wrapper-without-effect",
    "wrapper-lost",
    "unit-not-reloaded",
    "nginx-multipath-not-in-force",
    "haproxy-mptcp-not-in-force",
    "socket-unit-without-mptcp",
    "selinux-denial",
)
LISTENERS = ("no-listener", "tcp-listener", *PROGRAMS)
PACKET_FILTERS = (
    "filter-drops-mptcp-syns",
    "filter-strips-options",
    "tracker-calls-joins-invalid",
    "tracker-full",
    "filter-drops-joins",
)
MANAGEMENT = (
    "client-subflow-limit",
    "server-subflow-limit",
    "announcements-not-accepted",
    "userspace-path-manager",
    "path-manager-daemon-failed",
    "no-endpoint-at-client",
    "address-without-endpoint",
    "endpoint-without-flags",
    "endpoint-address-missing",
    "endpoint-on-wrong-device",
    "endpoint-device-down",
    "fullmesh-without-subflow",
    "client-only-announces",
    "implicit-endpoint",
    "server-announces-nothing",
    "port-endpoint-not-local",
    "first-address-closed",
    "more-pairs-than-subflows",
)
ROUTES = (
    "rule-to-empty-table",
    "no-route-for-source",
    "source-leaves-elsewhere",
    "taken-for-neighbour",
    "next-hop-silent",
    "asymmetric-return",
    "strict-reverse-path",
    "same-address-on-both-hosts",
    "duplicate-address",
    "address-not-unique",
    "ipv6-disabled",
    "listener-without-ipv6",
)
JOIN_LISTENERS = ("listener-closed-after-accept", "single-address-listener", "accept-queue-full")
PATHS = (
    "join-syn-lost",
    "join-answer-lost",
    "join-third-packet-lost",
    "join-option-stripped",
    "join-refused",
)
MIDDLEBOXES = (
    "syn-option-stripped",
    "answer-option-stripped",
    "options-mirrored",
    "mptcp-syn-dropped",
    "third-packet-option-stripped",
    "fallback-after-handshake",
    "announcement-lost",
    "address-translated",
    "blackhole-pause",
    "server-answers-without-mptcp",
)
REMOTE = ("remote-unreachable", "remote-drops-mptcp", "remote-mirrored", "remote-plain")
#: Every cause of a connection that is not MPTCP, and of one that lacks subflows.
CAUSES_OF_TCP = (*SWITCHES, *LISTENERS, *PACKET_FILTERS, *MIDDLEBOXES, *REMOTE)
CAUSES_OF_MISSING = (
    *CAUSES_OF_TCP,
    *MANAGEMENT,
    *JOIN_LISTENERS,
    *ROUTES,
    "ipv6-broken",
    "standing-queue",
    *PATHS,
)
