"""Find out what is wrong with the hosts that a failed check needed, by the doctor's rules.

The hosts are read through the session's probes, all at once, in two round trips; no connection is made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from mptcp_lab.doctor.expect import questions
from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity, find_all, rank
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.inventory_pairs import questions_of
from mptcp_lab.doctor.network_reading import Lookup
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules import gather
from mptcp_lab.errors import LabError
from mptcp_lab.inventory.model import Host, Lab
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe.shapes import read_as
from mptcp_lab.results.causes import Cause

EXAMINE_TIMEOUT_S = 20.0
#: Rules about packet filters and trackers, which matter on every host that packets pass.
ABOUT_PASSING_PACKETS = ("filter-drops-mptcp-syns", "filter-strips-options", "tracker-full")
#: A client, its server or proxy, and the port of a service there that speaks MPTCP.
Speaking = tuple[str, str, int]


def find_cause(machines: Mapping[str, Machine], names: Collection[str]) -> Cause | None:
    """Return the worst finding about these hosts as the cause of a failure; None without findings.

    A host that speaks MPTCP with none of the others, as a gateway, is examined alone.
    """
    if not machines:
        return None
    lab = next(iter(machines.values())).lab
    pairs = speaking_pairs(lab, names)
    readings = read_hosts(machines, names, pairs)
    found = [
        finding
        for one, other, port in pairs
        for finding in find_all(gather(), PairReading(readings[one], readings[other], port))
    ]
    for name in lone_hosts(names, pairs):
        found += find_all(lone_rules(lab.hosts[name]), PairReading(readings[name], None, 0))
    return worst_cause(found)


def speaking_pairs(lab: Lab, names: Collection[str]) -> list[Speaking]:
    """Return the pairs of these hosts between which MPTCP is meant to be spoken, with one port each."""
    try:
        asked = questions_of(lab)
    except LabError:  # no two hosts of the lab are meant to speak MPTCP
        return []
    return [(each.client, each.server, each.port) for each in asked if {each.client, each.server} <= {*names}]


def lone_hosts(names: Collection[str], pairs: Collection[Speaking]) -> list[str]:
    """Return the hosts that are in none of the pairs."""
    paired = {name for one, other, _ in pairs for name in (one, other)}
    return [name for name in names if name not in paired]


def lone_rules(host: Host) -> list[Rule]:
    """Return the rules that judge a host by itself: of one without MPTCP, those about what passes it."""
    serves = any(service.mptcp != "off" for service in host.services)
    is_end = host.mptcp and (serves or "clients" in host.functions)
    return [rule for rule in gather() if is_end or rule.name in ABOUT_PASSING_PACKETS]


def read_hosts(
    machines: Mapping[str, Machine], names: Collection[str], pairs: Collection[Speaking]
) -> dict[str, HostReading]:
    """Return the readings of these hosts, with the routes between the hosts of each pair."""
    ports = sorted({port for *_, port in pairs})
    pending = {name: machines[name].probe.start("examine", ports=ports) for name in names}
    readings = {
        name: read_as(HostReading, {**call.result(EXAMINE_TIMEOUT_S), "name": name})
        for name, call in pending.items()
    }
    asked: dict[str, dict[tuple[str, str, str], None]] = {}
    for one, other, _ in pairs:
        for name, peer in ((one, other), (other, one)):
            asked.setdefault(name, {}).update(dict.fromkeys(questions(readings[name], readings[peer])))
    answers = {name: machines[name].probe.start("look_up", pairs=list(asked[name])) for name in asked}
    looked_up = {
        name: replace(readings[name], lookups=read_as(tuple[Lookup, ...], call.result(EXAMINE_TIMEOUT_S)))
        for name, call in answers.items()
    }
    return readings | looked_up


def worst_cause(findings: Iterable[Finding]) -> Cause | None:
    """Return the worst finding that can make a claim fail; None if there is only notes and guesses."""
    causes = sorted(_able_to_fail_a_check(findings), key=rank)
    if not causes:
        return None
    first = causes[0]
    step = f"on {first.host}: {first.fix}" if first.fix else ""
    return Cause(first.what, first.host, step)


def _able_to_fail_a_check(findings: Iterable[Finding]) -> Iterator[Finding]:
    for finding in findings:
        if finding.severity is not Severity.NOTE and finding.confidence is not Confidence.POSSIBLE:
            yield finding
