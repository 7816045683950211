"""A packet filter or connection tracker of a host keeps MPTCP's options or joins away."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from mptcp_lab.doctor.connection_reading import ESTABLISHED
from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import Leg, PairReading
from mptcp_lab.doctor.rules._common import (
    captures,
    describe_pairs,
    ends,
    is_complete,
    missing_pairs,
)
from mptcp_lab.doctor.unreadable import read_or

#: Rules about TCP option 30 (MPTCP), of nftables and of iptables.
OPTION = re.compile(r"tcp option (?:mptcp|30)\b|--tcp-option 30\b")
STRIPS = re.compile(r"reset tcp option (?:mptcp|30)\b|TCPOPTSTRIP.*(?:mptcp|\b30\b)")
DROPS = re.compile(r"\b(?:drop|reject)\b|-j (?:DROP|REJECT)")
INVALID = re.compile(
    r"ct state (?:\S+,)?\{?[^}]*\binvalid\b.*\b(?:drop|reject)\b|state \S*INVALID\S* .*-j (?:DROP|REJECT)"
)
POLICY = re.compile(r"policy drop|^:\w+ DROP")
TABLE = re.compile(r"^table (\w+ \S+) \{")
CHAIN = re.compile(r"^\s+chain (\S+) \{")


def rule_lines(host: HostReading) -> Iterator[tuple[str, str]]:
    """Yield each line of a host's packet filters, with the table and chain (nftables) that it is in."""
    table = chain = ""
    for line in read_or(host.nft, "").splitlines():
        if found := TABLE.match(line):
            table, chain = found[1], ""
        elif found := CHAIN.match(line):
            chain = found[1]
        else:
            yield line.strip(), f"{table} {chain}".strip()
    for line in read_or(host.iptables, "").splitlines():
        yield line.strip(), "iptables"


def find_dropped_options(reading: PairReading) -> Iterable[Finding]:
    """Find packet filter rules of hosts that drop packets with MPTCP's option."""
    yield from _find_option_rules(
        reading,
        "filter-drops-mptcp-syns",
        lambda line: bool(OPTION.search(line) and DROPS.search(line)),
        "drops packets with TCP option 30",
        "That option is MPTCP: connections wait for retransmissions and go on as TCP, or lose joins.",
    )


def find_stripped_options(reading: PairReading) -> Iterable[Finding]:
    """Find packet filter rules of hosts that take MPTCP's option out of packets."""
    yield from _find_option_rules(
        reading,
        "filter-strips-options",
        lambda line: bool(STRIPS.search(line)),
        "takes TCP option 30 out of packets",
        "That option is MPTCP: every connection through the filter is plain TCP.",
    )


def _find_option_rules(
    reading: PairReading, rule: str, is_meant: Callable[[str], bool], does: str, why: str
) -> Iterator[Finding]:
    for host in reading.hosts:
        lines = [(line, where) for line, where in rule_lines(host) if is_meant(line)]
        if lines:
            yield Finding(
                rule=rule,
                severity=Severity.ERROR,
                host=host.name,
                what=f"The packet filter of {host.name} {does}.",
                why=why,
                fix=_delete_rule(*lines[0]),
                persistent=_edit_rules(lines[0][1]),
                evidence=tuple(f"{where}: {line}" for line, where in lines[:3]),
            )


def _delete_rule(line: str, where: str) -> str:
    """Return the command that deletes a rule."""
    if where == "iptables":
        return f"iptables {line.replace('-A ', '-D ', 1)}"
    found = f"nft --handle list chain {where} | sed -n 's/.*{_write_pattern(line)}.*handle //p'"
    return f"nft delete rule {where} handle $({found})"


def _write_pattern(line: str) -> str:
    """Return a rule's text as a pattern for sed, without counters, which change."""
    plain = re.sub(r"counter packets \d+ bytes \d+", "counter.*", line)
    return re.sub(r"([/\[\]*^$])(?<!\.\*)", r"\\\1", plain) if "counter.*" not in plain else plain


def _edit_rules(where: str) -> str:
    return (
        "iptables-save > /etc/iptables/rules.v4"
        if where == "iptables"
        else "nft list ruleset > /etc/nftables.conf"
    )


def find_dropped_joins(reading: PairReading) -> Iterable[Finding]:
    """Find hosts whose filter drops packets, and at which the packets of a missing subflow end."""
    for leg, host, is_client in ends(reading):
        if is_complete(leg):
            continue
        named = [(line, where) for line, where in rule_lines(host) if _is_about(leg, host, line)]
        stops = _ends_at(leg, is_client)
        drops = named or [(line, where) for line, where in rule_lines(host) if _is_general(line)]
        if not drops or not (stops or (named and missing_pairs(leg))):
            continue
        line, where = drops[0]
        accept = f"tcp dport {leg.port} accept"
        table = where if where != "iptables" and where.count(" ") == 2 else ""
        fix = (
            f"nft insert rule {table} {accept}"
            if table
            else f"iptables -I INPUT -p tcp --dport {leg.port} -j ACCEPT"
        )
        if named:
            fix = _delete_rule(line, where)
        yield Finding(
            rule="filter-drops-joins",
            severity=Severity.WARNING,
            host=host.name,
            what=f"The packet filter of {host.name} drops packets of additional subflows.",
            why="A join is a new connection of its own, from another address and often another device.",
            fix=fix,
            persistent=_edit_rules(where),
            confidence=Confidence.LIKELY if named else Confidence.POSSIBLE,
            evidence=(
                f"{where}: {line}",
                f"without a subflow: {describe_pairs(missing_pairs(leg)) or 'all'}",
            ),
            follows_from=("tracker-calls-joins-invalid", "filter-drops-mptcp-syns"),
        )


def _is_general(line: str) -> bool:
    return bool(POLICY.search(line)) or bool(DROPS.search(line) and not OPTION.search(line))


def _is_about(leg: Leg, host: HostReading, line: str) -> bool:
    """Return whether a rule drops packets and names an address, device or port of a missing subflow."""
    if not DROPS.search(line) or OPTION.search(line) or INVALID.search(line):
        return False
    good = [each for each in (leg.connection.pairs if leg.connection else ()) if each.state == ESTABLISHED]
    words: set[str] = set()
    for pair in missing_pairs(leg):
        words |= {pair.client, pair.server, host.device_of(pair.client), host.device_of(pair.server)}
    for pair in good:
        words -= {pair.client, pair.server} if len(good) < 2 else set()
    return any(re.search(rf"(?<![\w.:]){re.escape(word)}(?![\w:])", line) for word in words if word)


def _ends_at(leg: Leg, is_client: bool) -> bool:
    """Return whether the packets of a missing subflow come to a host and are not answered there."""
    if leg.connection is None:
        return False
    client, server = captures(leg.connection)
    for pair in missing_pairs(leg):
        end = client if is_client else server
        join = end.join(pair.client, pair.server) if end is not None else None
        if join is None:
            continue
        if is_client and join.synacks and not join.acks:
            return True
        if not is_client and join.syns and not join.synacks and not join.resets:
            return True
        if not is_client and join.synacks and join.acks:
            return True
    return False


RULES = (
    Rule(
        "filter-drops-mptcp-syns",
        "a packet filter rule of a host drops `tcp option mptcp` (30)",
        find_dropped_options,
        "delete the rule",
    ),
    Rule(
        "filter-strips-options",
        "a packet filter rule of a host takes `tcp option mptcp` (30) out (`reset tcp option`, "
        "`TCPOPTSTRIP`)",
        find_stripped_options,
        "delete the rule",
    ),
    Rule(
        "filter-drops-joins",
        "packets of a join end at a host whose packet filter drops",
        find_dropped_joins,
        "accept the port on every device and address of the endpoints",
    ),
)
