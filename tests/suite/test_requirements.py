"""Requirements of checks: met by the embedded lab, and missed by name in inventories without their part."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from mptcp_lab.errors import Unsupported
from mptcp_lab.inventory import Host, Lab, Nic, load
from mptcp_lab.inventory.requirement import Requirement
from mptcp_lab.paths import ROOT
from mptcp_lab.suite import requirements as needs
from mptcp_lab.suite.find.proxies import METHODS

#: Parameters of every check that has some.
PARAMETERS = {
    "target": "haproxy-preload",
    "targets": "nginx",
    "impatient": "nginx-native",
    "engine": "nginx",
    "listen": "dual-stack",
    "name": "haproxy-native",
    "version": 2,
    "snat": False,
    "loss": "cable-out-at-B",
    "begins": 1,
    "death": "cables-out",
    "relay": "haproxy-native-to-nginx-preload",
    "impatient_relay": "nginx-preload-to-haproxy-native",
    "header_relay": "haproxy-preload-to-nginx-native",
    "relay_to_tcp": "nginx-preload-to-nginx-off",
    "two_legs": "haproxy-native",
}
EVERY = {name: each for name, each in vars(needs).items() if isinstance(each, Requirement)}
LOCK = "LOCK"  # nobody has locked the embedded lab of a checkout

Change = Callable[[Lab], Lab]


@pytest.fixture(scope="module")
def embedded() -> Lab:
    return load(ROOT / "inventories" / "embedded")


def changed(lab: Lab, suits: Callable[[Host], object], change: Callable[[Host], Host]) -> Lab:
    """Return a lab with its hosts that suit changed."""
    hosts = {name: change(host) if suits(host) else host for name, host in lab.hosts.items()}
    return replace(lab, hosts=hosts)


def without(function: str) -> Change:
    return lambda lab: replace(
        lab, hosts={name: host for name, host in lab.hosts.items() if function not in host.functions}
    )


def with_nics(change: Callable[[Nic], Nic | None]) -> Change:
    """Return the change of the client's NICs; those that become None are left out."""
    return lambda lab: changed(
        lab,
        lambda host: "clients" in host.functions,
        lambda host: replace(host, nics=tuple(new for nic in host.nics if (new := change(nic)))),
    )


def without_engine(engine: str) -> Change:
    return lambda lab: changed(
        lab,
        lambda _: True,
        lambda host: replace(host, services=tuple(s for s in host.services if s.engine != engine)),
    )


@pytest.mark.parametrize("name", [name for name in EVERY if name != LOCK])
def test_the_embedded_lab_meets_every_requirement(embedded: Lab, name: str) -> None:
    assert EVERY[name].find_reason(embedded, PARAMETERS) is None
    assert "{" not in EVERY[name].describe(PARAMETERS)


MISSING: dict[str, tuple[Change, str]] = {
    "CLIENT": (without("clients"), "clients: the inventory lists no such host"),
    "SERVER": (without("origins"), "origins with MPTCP on a path: the inventory lists no such host"),
    "TCP_SERVER": (without("origins"), "origins without MPTCP: the inventory lists no such host"),
    "ORIGIN": (without_engine("origin"), "origin: the inventory gives server1 no origin service"),
    "ROUTER": (without("gateways"), "gateways: the inventory lists no such host"),
    "ATTACKER": (without("attackers"), "attackers with IPv4 on path1 and path2: the inventory lists no such"),
    "OTHER_ROUTER": (without_engine("forwarder"), "proxies that forward: the inventory lists no such host"),
    "TWO_PATHS": (with_nics(lambda nic: nic if nic.device == "eth1" else None), "2 paths: the inventory"),
    "SPARE_NIC": (with_nics(lambda nic: nic if nic.up else None), "spare NIC: the inventory has none"),
    "IPV6": (with_nics(lambda nic: replace(nic, ipv6=None)), "IPv6: eth1 has no such address"),
    "FULL_MESH": (with_nics(lambda nic: replace(nic, endpoint=("fullmesh",))), "a full mesh: the inventory"),
    "TARGET": (without_engine("haproxy"), "haproxy with MPTCP by preload: the inventory lists no such"),
    "TARGETS": (without_engine("nginx"), "nginx with MPTCP by preload: the inventory lists no such service"),
    "FORWARDERS": (without_engine("forwarder"), "two forwarders with source NAT: the inventory lists none"),
    "RELAY": (without_engine("nginx"), "a relay haproxy-native-to-nginx-preload: the inventory lists no"),
    "IMPATIENT_RELAYS": (without_engine("haproxy"), "a relay, connect_timeout and idle_timeout of its own"),
    "TWO_LEGS": (without_engine("haproxy"), "haproxy with MPTCP by native on both legs: the inventory lists"),
    "CABLE_OF_LOSS": (
        lambda lab: replace(lab, flavour="hardware"),
        "cable: lab_nics has no unplug",
    ),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_lab_without_it_does_not_meet_a_requirement(embedded: Lab, name: str) -> None:
    change, words = MISSING[name]
    reason = EVERY[name].find_reason(change(embedded), PARAMETERS)
    assert reason is not None
    assert reason.what.startswith(words)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_the_inventory_leaves_open_is_not_missing(method: str) -> None:
    example = load(ROOT / "inventories" / "hardware.example")
    assert needs.TARGET.find_reason(example, {"target": f"haproxy-{method}"}) is None
    reason = needs.TCP_LISTENER.find_reason(example, {"engine": "haproxy"})
    assert reason is not None and "MPTCP by off" in reason.what


def test_every_fixture_that_stands_for_a_requirement_exists() -> None:
    sources = [path.read_text() for path in (ROOT / "conformance").rglob("conftest.py")]
    fixtures = {name for text in sources for name in re.findall(r"@pytest\.fixture.*\ndef (\w+)", text)}
    assert set(needs.OF_FIXTURES) <= fixtures


def test_a_missing_lock_is_named_by_a_path_of_the_checkout() -> None:
    lab = load(ROOT / "inventories" / "embedded")
    with pytest.raises(Unsupported, match="there is none beside inventories/embedded; "):
        needs.find_lock(lab)
