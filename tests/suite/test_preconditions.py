"""Test which causes are found on a host, from the output of the script there."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mptcp_lab.inventory import load, resolve
from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.preconditions import find_broken
from mptcp_lab.suite.state.units import listening_addresses, units

LAB = load(resolve("embedded"))
DF = """Filesystem     1024-blocks  Used Available Capacity Mounted on
tmpfs              4936820    68   4936752       1% /run
overlay          100000000  1000  99999000       1% /
"""


def machine(name: str) -> Machine:
    return Machine(LAB, LAB.hosts[name], cast(Any, None))


def printed(name: str, **other: str) -> str:
    """Return what a sound host prints, with other answers in places."""
    host = LAB.hosts[name]
    sockets = [(s, a) for s in host.services for a in listening_addresses(LAB, host, s)]
    parts = {
        "enabled": "1\n" if host.mptcp else "0\n",
        "units": "\n".join(f"Id={unit}.service\nActiveState=active\n" for unit in units(host)),
        "mptcp": "".join(f"LISTEN 0 128 [{a}]:{s.port} *:*\n" for s, a in sockets if s.mptcp != "off"),
        "tcp": "".join(f"LISTEN 0 128 [{a}]:{s.port} *:*\n" for s, a in sockets),
        "space": DF,
    } | other
    return "".join(f"{text}=mptcp-lab 0=\n" for text in parts.values())


def causes(name: str, text: str) -> list[str]:
    return [str(cause.error()) for cause in find_broken(machine(name), text)]


@pytest.mark.parametrize("name", LAB.hosts)
def test_a_sound_host(name: str) -> None:
    assert causes(name, printed(name)) == []


def test_mptcp_that_is_off_or_on_against_the_inventory() -> None:
    (off,) = find_broken(machine("client"), printed("client", enabled="0\n"))
    assert str(off.error()) == (
        "client: net.mptcp.enabled is 0, STATE-1; next: on client: sysctl -w net.mptcp.enabled=1"
    )
    assert off.is_about_host
    assert causes("server2", printed("server2", enabled="1\n")) == [
        "server2: net.mptcp.enabled is 1, STATE-1; next: on server2: sysctl -w net.mptcp.enabled=0"
    ]
    assert "has no MPTCP" in causes("client", printed("client", enabled="absent\n"))[0]
    assert causes("server2", printed("server2", enabled="absent\n")) == []


def test_a_unit_that_is_down_hurts_its_services_and_the_network_everything() -> None:
    text = printed("proxy1")
    (haproxy,) = find_broken(
        machine("proxy1"),
        text.replace("Id=haproxy.service\nActiveState=active", "Id=haproxy.service\nActiveState=failed"),
    )
    assert (haproxy.what, haproxy.engine, haproxy.is_about_host) == ("haproxy is failed", "haproxy", False)
    (network,) = find_broken(
        machine("proxy1"), text.replace("Id=mptcp-lab-network.service\n", "Id=other.service\n")
    )
    assert (network.what, network.is_about_host) == ("mptcp-lab-network is unknown", True)


def test_a_listener_that_is_missing_or_speaks_tcp() -> None:
    tcp_only = causes("proxy1", printed("proxy1", mptcp=""))
    assert all(
        "no such listener" in each and "STATE-3; next: ansible-playbook lab.yml" in each for each in tcp_only
    )
    assert any("port 7000 is to be MPTCP (mptcp: preload), TCP listens" in each for each in tcp_only)


def test_a_disk_without_room_is_named_once() -> None:
    full = DF.replace("4936752", "0") + "tmpfs 4936820 68 0 100% /run\ntmpfs 16 16 0 100% /run/tiny\n"
    assert causes("client", printed("client", space=full)) == [
        "client: no space is left on /run; next: on client: df -h /run, then make room"
    ]


@pytest.mark.parametrize(
    "text", ["", "nonsense", "=mptcp-lab 0=\n", "\0\x1b[2J", "1\n=mptcp-lab 0=\nnonsense=mptcp-lab 1=\n"]
)
def test_an_answer_that_says_nothing_accuses_nobody(text: str) -> None:
    assert not [each for each in causes("client", text) if "STATE-2" in each or "STATE-3" in each]


def test_readings_that_failed_are_left_out() -> None:
    text = printed("proxy1", units="", mptcp="", tcp="").replace("=mptcp-lab 0=", "=mptcp-lab 1=")
    assert causes("proxy1", text) == []
