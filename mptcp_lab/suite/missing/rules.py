"""The rules that find why a subflow is missing, in sockets, counters, routes and captures. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mptcp_lab.doctor.counters import diagnose, join_errors, read_mptcp
from mptcp_lab.suite.missing.readings import ROUTED, EndReading, PairReading, Readings
from mptcp_lab.suite.sockets import ESTABLISHED, SYN_RECEIVED, SYN_SENT

LEFT_OUT = "no room for it"
#: A rule's function returns the evidence for its cause, or an empty string where the rule does not apply.
Finds = Callable[[Readings, PairReading], str]


@dataclass(frozen=True)
class Rule:
    """A cause, the function that finds evidence for it, and advice."""

    cause: str
    finds: Finds
    advice: str


def _not_mptcp(r: Readings, _: PairReading) -> str:
    if r.is_mptcp:
        return ""
    found = diagnose(r.client.counters, r.server.counters)
    return f"{found.cause}; {found.advice}"


def _client_address_gone(r: Readings, pair: PairReading) -> str:
    if pair.local in r.client.addresses:
        return ""
    failed = read_mptcp(r.client.counters, "MPJoinSynTxBindErr")
    return f"no device of {r.client.name} that is up has it" + (
        f", MPJoinSynTxBindErr {failed}" if failed else ""
    )


def _client_endpoint_gone(r: Readings, pair: PairReading) -> str:
    return "" if r.client.endpoint(pair.local) else f"{r.client.name} has no endpoint for it"


def _client_endpoint_flags(r: Readings, pair: PairReading) -> str:
    endpoint = r.client.endpoint(pair.local)
    if endpoint is None or {"subflow", "fullmesh"} <= endpoint.flags:
        return ""
    return f"{r.client.name} has it as {' '.join(sorted(endpoint.flags)) or 'no flag'}"


def _server_address_gone(r: Readings, pair: PairReading) -> str:
    if pair.remote in r.server.addresses or pair.remote not in r.server_addresses:
        return ""
    return f"no device of {r.server.name} that is up has it"


def _not_announced(r: Readings, pair: PairReading) -> str:
    endpoint = r.server.endpoint(pair.remote)
    if pair.remote == r.first[1] or (endpoint and "signal" in endpoint.flags):
        return ""
    return f"{r.server.name} has " + ("no endpoint for it" if endpoint is None else "it without signal")


def _client_limit(r: Readings, pair: PairReading) -> str:
    limits = r.client.limits
    if limits is None or pair.is_tried:
        return ""
    if limits.subflows < r.room.subflows and r.established - 1 >= limits.subflows:
        return f"subflows {limits.subflows} on {r.client.name}, the inventory asks for {r.room.subflows}"
    if limits.add_addr_accepted < r.room.announced and pair.remote != r.first[1]:
        accepted = f"add_addr_accepted {limits.add_addr_accepted} on {r.client.name}"
        return f"{accepted}, the inventory asks for {r.room.announced}"
    return ""


def _server_limit(r: Readings, pair: PairReading) -> str:
    rejected = read_mptcp(r.server.counters, "MPJoinRejected")
    limits = r.server.limits
    low = limits is not None and limits.subflows < r.room.subflows
    # A server that has reached its limit announces no further address, so the client does not try it.
    if not (pair.is_tried or (low and pair.announced is False)) or not (low or rejected):
        return ""
    if not rejected and limits is not None and r.established - 1 < limits.subflows:
        return ""
    found = [f"MPJoinRejected {rejected}"] if rejected else []
    if limits is not None:
        found.append(f"subflows {limits.subflows} on {r.server.name}")
    return ", ".join(found)


def _c_flag(r: Readings, pair: PairReading) -> str:
    name = "net.mptcp.allow_join_initial_addr_port"
    if pair.remote == r.first[1] and r.server.sysctls.get(name) == "0":
        return f"{name}=0 on {r.server.name}"
    return ""


def _wrong_nic(_: Readings, pair: PairReading) -> str:
    others = pair.handshake.devices - {pair.device} if pair.handshake else frozenset()
    if others:
        return f"its SYN leaves by {' and '.join(sorted(others))}"
    return ""


def _bind_error(r: Readings, pair: PairReading) -> str:
    failed = read_mptcp(r.client.counters, "MPJoinSynTxBindErr")
    return f"MPJoinSynTxBindErr {failed} on {r.client.name}" if failed and not pair.is_tried else ""


def _no_route(r: Readings, pair: PairReading) -> str:
    failed = read_mptcp(r.client.counters, "MPJoinSynTxConnectErr")
    counted_too = f", MPJoinSynTxConnectErr {failed}" if failed else ""
    if pair.route.error:
        return f"ip route get on {r.client.name}: {pair.route.error}{counted_too}"
    if pair.way.startswith(ROUTED) and pair.route.device and not pair.route.via:
        neighbour = f"{r.client.name} takes {pair.remote} for a neighbour on {pair.route.device}"
        return f"{neighbour}, it should be {pair.way}{counted_too}"
    return f"MPJoinSynTxConnectErr {failed} on {r.client.name}" if failed and not pair.is_tried else ""


def _no_socket(r: Readings, pair: PairReading) -> str:
    failed = read_mptcp(r.client.counters, "MPJoinSynTxCreatSkErr")
    return f"MPJoinSynTxCreatSkErr {failed} on {r.client.name}" if failed and not pair.is_tried else ""


def _find_translation(r: Readings, pair: PairReading) -> str:
    if pair.client_state != "ESTAB" or pair.server_state or not r.strange_peers:
        return ""
    return f"{r.server.name} has subflows from {', '.join(sorted(r.strange_peers))} instead of {pair.local}"


def _announcement_lost(r: Readings, pair: PairReading) -> str:
    low = r.server.limits is not None and r.server.limits.subflows < r.room.subflows
    if pair.announced is not False or pair.is_tried or pair.remote == r.first[1] or low:
        return ""
    return f"no ADD_ADDR for it came to {r.client.name}"


def _find_refusal(r: Readings, pair: PairReading) -> str:
    if pair.handshake is None or not pair.handshake.refused_by:
        return ""
    errors = join_errors(r.client.counters, r.server.counters)
    return pair.handshake.refused_by + (f", {errors}" if errors else "")


def _syn_does_not_leave(r: Readings, pair: PairReading) -> str:
    if pair.packet("syn_sent") is not False or not pair.client_state:
        return ""
    filters = _describe_filters(r.client)
    return f"{r.client.name} has it in {pair.client_state} and no SYN on {pair.device}{filters}"


def _syn_lost(r: Readings, pair: PairReading) -> str:
    if pair.packet("syn_sent") and pair.packet("syn_arrived") is False:
        return f"SYN left {r.client.name}, none came to {r.server.name}; the way: {pair.way or 'unknown'}"
    if pair.handshake is None and pair.client_state == SYN_SENT and not pair.server_state:
        return f"{r.client.name} has it in SYN-SENT, {r.server.name} has no socket for it"
    return ""


def _syn_dropped(r: Readings, pair: PairReading) -> str:
    if not pair.packet("syn_arrived") or pair.packet("answered") is not False:
        return ""
    return f"the SYN came to {r.server.name}, no answer left{_describe_filters(r.server)}"


def _answer_lost(r: Readings, pair: PairReading) -> str:
    if pair.packet("answered") and not pair.packet("answer_arrived"):
        left = f"SYN/ACK left {r.server.name}, none came to {r.client.name}"
        return f"{left}; the way: {pair.way or 'unknown'}"
    if pair.handshake is None and (pair.client_state, pair.server_state) == (SYN_SENT, SYN_RECEIVED):
        return f"{r.server.name} has it in SYN-RECV, {r.client.name} in SYN-SENT"
    return ""


def _answer_dropped(r: Readings, pair: PairReading) -> str:
    if not pair.packet("answer_arrived") or pair.packet("third_sent"):
        return ""
    return f"the SYN/ACK came to {r.client.name}, no third packet left{_describe_filters(r.client)}"


def _came_up_again(r: Readings, pair: PairReading) -> str:
    if not pair.packet("taken") or pair.client_state or pair.server_state:
        return ""
    return f"{r.client.name} has no socket for it on the first connection"


def _third_lost(r: Readings, pair: PairReading) -> str:
    if pair.packet("third_sent") and pair.packet("third_arrived") is False:
        seen = f"it left {r.client.name} and did not come to {r.server.name}"
    elif pair.handshake is None and (pair.client_state, pair.server_state) == (ESTABLISHED, SYN_RECEIVED):
        seen = f"{r.client.name} has it established, {r.server.name} in SYN-RECV"
    else:
        return ""
    return f"{seen}, {_join_counts(r)}; the way: {pair.way or 'unknown'}"


def _third_dropped(r: Readings, pair: PairReading) -> str:
    if not pair.packet("third_arrived") or pair.server_state == ESTABLISHED:
        return ""
    return f"it came to {r.server.name}, {_join_counts(r)}{_describe_filters(r.server)}"


def _full(r: Readings, pair: PairReading) -> str:
    attempts = max(r.established - 1, read_mptcp(r.client.counters, "MPJoinSynTx"))
    if pair.is_tried or join_errors(r.client.counters, r.server.counters) or attempts < r.room.subflows:
        return ""
    return f"{attempts} joins were tried, {r.room.subflows} can be held at a time"


def _find_unanswered_syn(r: Readings, pair: PairReading) -> str:
    if not pair.packet("syn_sent") or pair.packet("answer_arrived"):
        return ""
    return f"SYN left {r.client.name}, no answer came; the way: {pair.way or 'unknown'}"


def _not_taken(r: Readings, pair: PairReading) -> str:
    if not pair.packet("third_sent") or pair.packet("third_arrived") is not None:
        return ""
    return f"the third packet left {r.client.name}, {r.server.name} has no subflow, {_join_counts(r)}"


def _join_counts(r: Readings) -> str:
    names = ("MPJoinSynRx", "MPJoinAckRx")
    return ", ".join(f"{name} {read_mptcp(r.server.counters, name)}" for name in names)


def _describe_filters(end: EndReading) -> str:
    """Return, as text to append, what may have dropped a packet: nftables tables, rp_filter, a tracker."""
    found = []
    if end.filters:
        found.append(f"its packet filter drops in {' and '.join(end.filters)}")
    if dropped := end.counters.groups.get("TcpExt", {}).get("IPReversePathFilter", 0):
        found.append(f"rp_filter dropped {dropped}")
    if invalid := end.counters.groups.get("Conntrack", {}).get("invalid", 0):
        found.append(f"its connection tracker called {invalid} packets INVALID")
    return "".join(f", {each}" for each in found)


ENDPOINTS = "ansible-playbook lab.yml sets endpoints again (systemctl restart mptcp-lab-mptcp on the host)"
ADDRESSES = "ansible-playbook lab.yml sets addresses again (systemctl restart mptcp-lab-network on the host)"
LIMITS = "ip mptcp limits set subflows 8 add_addr_accepted 8"
#: Ordered: the first rule that finds evidence names the cause.
RULES: tuple[Rule, ...] = (
    Rule(
        "the connection is not MPTCP", _not_mptcp, "the causes of a fallback are in docs/troubleshooting.md"
    ),
    Rule("the client's address is gone", _client_address_gone, ADDRESSES),
    Rule("the server's address is gone", _server_address_gone, ADDRESSES),
    Rule("the client's endpoint is gone", _client_endpoint_gone, ENDPOINTS),
    Rule("the client's endpoint is not subflow and fullmesh", _client_endpoint_flags, ENDPOINTS),
    Rule("the server does not announce the address", _not_announced, ENDPOINTS),
    Rule("limit at the client", _client_limit, LIMITS),
    Rule("limit at the server", _server_limit, LIMITS),
    Rule("C flag: the server forbids joins to its first address", _c_flag, "set it to 1, or announce more"),
    Rule("it leaves by another NIC", _wrong_nic, "give the endpoint its dev, and each source address a rule"),
    Rule("no route", _no_route, "look at ip rule and ip route of the source address"),
    Rule(
        "bind error", _bind_error, "an endpoint's address is not on its device: ip address, ip mptcp endpoint"
    ),
    Rule("no socket could be made", _no_socket, "look at the kernel's log and memory of the client"),
    Rule("the address is translated on the way", _find_translation, "look for NAT on the hosts in between"),
    Rule("the announcement was lost", _announcement_lost, "look for a middlebox that takes ADD_ADDR out"),
    Rule("refused", _find_refusal, "look for a firewall that rejects, and for the service's listener there"),
    Rule("the SYN does not leave", _syn_does_not_leave, "look at the client's packet filter and neighbours"),
    Rule(
        "the SYN is lost on the way", _syn_lost, "look at routes and firewalls in between, and at rp_filter"
    ),
    Rule("the SYN is dropped at the server", _syn_dropped, "look at its packet filter and rp_filter"),
    Rule("the SYN/ACK is lost on the way back", _answer_lost, "look at the server's routes and at firewalls"),
    Rule("the SYN/ACK is dropped at the client", _answer_dropped, "look at its packet filter and rp_filter"),
    Rule(
        "it came up on a second connection only",
        _came_up_again,
        "before 6.18, a kernel repeats a lost ADD_ADDR after net.mptcp.add_addr_timeout, 120 s by default:"
        " set it lower at the server",
    ),
    Rule("third packet lost on the way", _third_lost, "look for a stateful firewall that sees one direction"),
    Rule(
        "third packet dropped at the server", _third_dropped, "look at its packet filter (ct state invalid)"
    ),
    Rule("the SYN is not answered", _find_unanswered_syn, "look at routes and firewalls in between"),
    Rule("third packet lost", _not_taken, "look for a stateful firewall that sees one direction"),
    Rule(LEFT_OUT, _full, "nothing is wrong: other subflows were first"),
)
#: Rules about endpoints, which make the subflows only where `Readings.made_by_endpoints` is true.
BY_ENDPOINTS = (_client_endpoint_gone, _client_endpoint_flags, _not_announced)
