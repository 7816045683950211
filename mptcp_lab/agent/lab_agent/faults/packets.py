"""Faults that packet filter rules cause: drop, reject, strip an option, spread over servers."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from ..basics import AgentError, Json
from ..kernel.capabilities import require
from ..tools import run_tool
from .plan import Plan, refuse_management

HOOKS = {
    "in": [("input", False)],
    "out": [("output", False)],
    "both": [("input", False), ("output", True)],
    "forward": [("forward", False)],
}
PACKETS = {
    "syn": "tcp flags & (syn | ack) == syn ",
    "synack": "tcp flags & (syn | ack) == (syn | ack) ",
    "all": "",
}


def nft_match(
    hook: str,
    swapped: bool,
    source: str | None = None,
    destination: str | None = None,
    sport: int | None = None,
    dport: int | None = None,
    device: str | None = None,
    out_device: str | None = None,
) -> str:
    """Return the nft match of a rule; `swapped` exchanges source and destination, for the answers.

    Raises AgentError "refused" unless an address, port or device is given.
    """
    if not any((source, destination, sport, dport, device, out_device)):
        raise AgentError("refused", "a packet fault names at least one address, port or device")
    if swapped:
        source, destination, sport, dport = destination, source, dport, sport
    words = []
    for side, address in (("saddr", source), ("daddr", destination)):
        if address is not None:
            network = ipaddress.ip_network(address, strict=False)
            words.append(f"{'ip' if network.version == 4 else 'ip6'} {side} {network}")
    for name, key in ((device, "oifname" if hook == "output" else "iifname"), (out_device, "oifname")):
        if name is not None:
            socket.if_nametoindex(name)
            words.append(f'{key} "{name}"')
    words.append("meta l4proto tcp")
    words += [
        f"tcp {side} {int(port)}" for side, port in (("sport", sport), ("dport", dport)) if port is not None
    ]
    return " ".join(words) + " "


def packet_fault(fault: str, rule: str, direction: str, match: Json, capability: str = "nft") -> Plan:
    """Plan a table for this fault alone, with `rule` for the packets that match.

    Raises AgentError "unsupported" if the host lacks `capability`.
    """
    require(capability)
    if match.get("device") and not match.keys() - {"device"}:
        refuse_management(match["device"])
    table = f"mptcp_lab_{fault}"
    lines = [f"add table inet {table}"]
    for hook, swapped in HOOKS[direction]:
        kind = f"{{ type filter hook {hook} priority -150; policy accept; }}"
        lines.append(f"add chain inet {table} {hook} {kind}")
        lines.append(f"add rule inet {table} {hook} {nft_match(hook, swapped, **match)}{rule}")
    return Plan(
        table, [("nft_table", {"name": table})], lambda: run_tool(["nft", "-f", "-"], "\n".join(lines))
    )


def plan_drop(fault: str, direction: str = "in", **match: Any) -> Plan:
    """Plan to drop TCP packets; "both" drops those that match at input, and their answers at output."""
    return packet_fault(fault, "drop", direction, match)


def plan_reject(fault: str, direction: str = "in", **match: Any) -> Plan:
    """Plan to answer TCP packets with RST."""
    return packet_fault(fault, "reject with tcp reset", direction, match)


def plan_strip_option(fault: str, direction: str = "forward", packets: str = "all", **match: Any) -> Plan:
    """Plan to remove the MPTCP option from SYNs, from SYN/ACKs or from all packets."""
    return packet_fault(
        fault, PACKETS[packets] + "reset tcp option mptcp", direction, match, "nft_tcp_option_reset"
    )


def plan_drop_option(fault: str, direction: str = "forward", **match: Any) -> Plan:
    """Plan to drop SYNs that carry the MPTCP option."""
    return packet_fault(
        fault, PACKETS["syn"] + "tcp option mptcp exists drop", direction, match, "nft_tcp_option"
    )


def plan_count(
    fault: str,
    source: str,
    dport: int,
    mark: int | None = None,
    tos: int | None = None,
    hops: int | None = None,
) -> Plan:
    """Plan to count the TCP packets that leave from an address to a port, and change nothing.

    The comments of the rules are "SOURCE all", "SOURCE mark" (with this mark), "SOURCE tos" (with this TOS
    octet or traffic class) and "SOURCE hops" (with this TTL or hop limit).
    """
    require("nft")
    address = ipaddress.ip_address(source)
    family, octet, limit = (
        ("ip", "@nh,8,8", "ip ttl") if address.version == 4 else ("ip6", "@nh,4,8", "ip6 hoplimit")
    )
    fields = {"all": "", "mark": mark if mark is None else f"meta mark {int(mark)}"}
    fields["tos"] = tos if tos is None else f"{octet} {int(tos)}"
    fields["hops"] = hops if hops is None else f"{limit} {int(hops)}"
    table = f"mptcp_lab_{fault}"
    lines = [f"add table inet {table}"]
    lines.append(f"add chain inet {table} output {{ type filter hook output priority 150; policy accept; }}")
    lines += [
        f"add rule inet {table} output {family} saddr {address} tcp dport {int(dport)} {match} "
        f'counter comment "{address} {name}"'
        for name, match in fields.items()
        if match is not None
    ]
    return Plan(
        table, [("nft_table", {"name": table})], lambda: run_tool(["nft", "-f", "-"], "\n".join(lines))
    )


def plan_balance(fault: str, address: str, port: int, servers: list[str]) -> Plan:
    """Plan to spread the connections to an IPv4 address and port over servers, by a hash of their source.

    The port stays the same. The servers see this host's address, so that their answers come back here.
    """
    require("nft_balance")
    shared, targets = ipaddress.IPv4Address(address), [ipaddress.IPv4Address(each) for each in servers]
    table = f"mptcp_lab_{fault}"
    spread = ", ".join(f"{number} : {each}" for number, each in enumerate(targets))
    hashed = f"jhash ip saddr . tcp sport mod {len(targets)} map {{ {spread} }}"
    behind = f"ip daddr {{ {', '.join(map(str, targets))} }} tcp dport {int(port)} ct status dnat"
    lines = [
        f"add table inet {table}",
        f"add chain inet {table} to {{ type nat hook prerouting priority -110; }}",
        f"add rule inet {table} to ip daddr {shared} tcp dport {int(port)} dnat ip to {hashed}",
        f"add chain inet {table} from {{ type nat hook postrouting priority 90; }}",
        f"add rule inet {table} from {behind} masquerade",
    ]
    return Plan(
        table, [("nft_table", {"name": table})], lambda: run_tool(["nft", "-f", "-"], "\n".join(lines))
    )


def plan_tproxy(fault: str, address: str, dport: int, listener: str, port: int, mark: int) -> Plan:
    """Plan to lead the TCP packets to an address and port of another host to a transparent socket here.

    The socket listens on `listener` and `port`. A policy rule for the mark has to route the packets to this
    host ("add local ADDRESS dev lo").
    """
    require("nft_tproxy")
    to, here = ipaddress.ip_address(address), ipaddress.ip_address(listener)
    family, end = ("ip", f"{here}") if to.version == 4 else ("ip6", f"[{here}]")
    table = f"mptcp_lab_{fault}"
    rule = f"{family} daddr {to} tcp dport {int(dport)} tproxy {family} to {end}:{int(port)}"
    lines = [
        f"add table inet {table}",
        f"add chain inet {table} prerouting {{ type filter hook prerouting priority -150; policy accept; }}",
        f"add rule inet {table} prerouting {rule} meta mark set {int(mark)}",
    ]
    return Plan(
        table, [("nft_table", {"name": table})], lambda: run_tool(["nft", "-f", "-"], "\n".join(lines))
    )


def plan_tracker(
    fault: str, verdict: str = "drop", direction: str = "in", blind: bool = False, **match: Any
) -> Plan:
    """Plan to drop TCP packets that the host's connection tracker calls INVALID, or to reject them with RST.

    With `blind`, the tracker does not see SYNs that come in, as where another way led past it: the answers to
    them are INVALID. A tracker has no entry for connections that began before it did: their packets are
    INVALID if net.netfilter.nf_conntrack_tcp_loose is 0.
    """
    words = {"drop": "drop", "reject": "reject with tcp reset"}[verdict]
    plan = packet_fault(fault, f"ct state invalid {words}", direction, match, "nft_ct")
    if not blind:
        return plan
    table = plan.touches
    unseen = nft_match("prerouting", direction != "in", **match)
    lines = [
        f"add chain inet {table} unseen {{ type filter hook prerouting priority -300; policy accept; }}",
        f"add rule inet {table} unseen {unseen}{PACKETS['syn']}notrack",
    ]

    def apply() -> None:
        plan.apply()
        run_tool(["nft", "-f", "-"], "\n".join(lines))

    return Plan(table, plan.undo, apply)
