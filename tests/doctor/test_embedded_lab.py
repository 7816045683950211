"""The reading of a healthy embedded lab, whose server announces an address that no path leads to.

The client tries it, because the kernel does, and gets no answer: no fault of a host, and no finding.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mptcp_lab.doctor.connection_reading import ESTABLISHED, PENDING
from mptcp_lab.doctor.expect import expected_pairs, is_proper
from mptcp_lab.doctor.finding import find_all
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.inventory_pairs import questions_of
from mptcp_lab.doctor.network_reading import Lookup, Qdisc
from mptcp_lab.doctor.readings import PairReading, from_document
from mptcp_lab.doctor.rules import gather
from mptcp_lab.doctor.rules._wrapper import let_listen, preload
from mptcp_lab.doctor.rules.throughput import find_standing_queue
from mptcp_lab.doctor.service_reading import Listener, Process
from mptcp_lab.doctor.unreadable import read_or
from mptcp_lab.inventory import load
from mptcp_lab.paths import ROOT
from mptcp_lab.probe.facts import Endpoint
from tests.doctor.edits import RECORDED, must

READING = from_document(json.loads((RECORDED / "embedded.json").read_text()))
FIRST, SECOND, SPARE = ("198.18.1.10", "198.18.1.31"), ("198.18.2.10", "198.18.2.31"), "198.18.3.31"


def test_an_announced_address_without_a_path_is_no_finding() -> None:
    pairs = must(READING.connection).pairs
    assert {each.is_expected for each in pairs if each.server == SPARE} == {False}
    assert find_all(gather(), READING) == ()


def test_an_address_whose_rule_is_gone_is_a_finding() -> None:
    rules = tuple(each for each in read_or(READING.client.rules, ()) if each.source != SECOND[0])
    found = find_all(gather(), replace(READING, client=replace(READING.client, rules=rules)))
    assert [each.rule for each in found] == ["taken-for-neighbour"]


@pytest.mark.parametrize(
    ("version", "word"),
    [("3.0.11-1+deb13u4", "LD_PRELOAD"), ("3.1.0", "bind mptcp@"), ("", "LD_PRELOAD")],
)
def test_the_fix_of_a_listener_fits_the_version_of_the_program(version: str, word: str) -> None:
    """HAProxy before 3.1 does not start with `mptcp@`."""
    host = replace(READING.client, tools={"haproxy": version, "mptcpize": ""}, os_id="debian")
    fix, _ = let_listen(host, Process(7, "haproxy", unit="haproxy.service"), 7000)
    assert word in fix and fix.endswith("systemctl restart haproxy.service")
    assert "apt-get" not in fix
    assert preload(replace(host, tools={}), "a.service").startswith("apt-get install -y mptcpize && ")


@pytest.mark.parametrize(("state", "severity"), [(ESTABLISHED, "note"), (PENDING, "warning")])
def test_a_full_queue_explains_the_subflows_behind_it(state: str, severity: str) -> None:
    connection = must(READING.connection)
    pairs = tuple(
        replace(each, state=state) if (each.client, each.server) == SECOND else each
        for each in connection.pairs
    )
    client = replace(READING.client, qdiscs=(Qdisc("eth2", "tbf", backlog=200_000),))
    reading = replace(READING, client=client, connection=replace(connection, pairs=pairs))
    assert [(each.rule, each.severity) for each in find_standing_queue(reading)] == [
        ("standing-queue", severity)
    ]


def test_a_network_behind_a_gateway_is_not_on_the_segment() -> None:
    way = Lookup(SECOND[0], "198.18.10.31", "eth2", device="eth2")
    assert not is_proper(READING.client, way)
    assert is_proper(READING.client, replace(way, gateway="198.18.2.1"))


def with_flags(host: HostReading, *flags: str) -> HostReading:
    endpoints: tuple[Endpoint, ...] = read_or(host.endpoints, ())
    return replace(host, endpoints=tuple(replace(each, flags=frozenset(flags)) for each in endpoints))


def test_an_announced_address_is_joined_from_the_address_on_its_network() -> None:
    """Without fullmesh the kernel leaves the source of the join to its routes."""
    pairs = expected_pairs(with_flags(READING.client, "signal"), READING.server, FIRST)
    assert [(each.client, each.server) for each in pairs if each.is_expected] == [FIRST, SECOND]


@pytest.mark.parametrize(("protocol", "legs"), [("mptcp", 2), ("tcp", 1)])
def test_plain_tcp_behind_a_proxy_is_left_out(protocol: str, legs: int) -> None:
    server = replace(must(READING.server), listeners=(Listener(protocol, "198.18.1.31", 7000),))
    reading = PairReading(READING.client, server, 7000, proxy=READING.client)
    assert len(reading.legs) == legs


def test_each_pair_of_an_inventory_is_asked_for_once() -> None:
    asked = [(each.client, each.server) for each in questions_of(load(ROOT / "inventories" / "embedded"))]
    assert len(asked) == len(set(asked))
    assert {("client", "server1"), ("client", "proxy1"), ("proxy1", "proxy2")} <= {*asked}
    assert "server2" not in {server for _, server in asked}
