"""Test that traces and records follow one definition of a host's network state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mptcp_lab.agent.lab_agent.kernel import host, network_state
from mptcp_lab.probe import Probe, changes
from mptcp_lab.probe.client import agent_archive
from tests.roles.test_modules import load

#: Parts that a kernel without MPTCP, or a user without rights, does not get.
OF_MPTCP = {"endpoints", "limits"}


def test_traces_compare_the_parts_of_the_definition() -> None:
    state, parts = network_state.network_state(), set(host.definition()["parts"])
    assert set(state) - {"resolving"} <= parts
    assert parts - set(state) <= OF_MPTCP


def test_traces_leave_out_what_the_definition_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"parts": {"addresses": [], "qdiscs": []}, "sysctls": {"some": ["net/ipv4/ip_forward"]}}
    for module in (host, network_state):
        monkeypatch.setattr(module, "definition", lambda: wanted)
    assert set(network_state.network_state()) == {"addresses", "qdiscs", "resolving"}
    assert set(host.read_sysctls()) == {"net.ipv4.ip_forward"}


def test_records_hold_every_part_and_nothing_else_of_the_network() -> None:
    module, definition = load("host_record"), host.definition()
    assert all(definition["parts"].values()), "a part that no record holds"
    assert set(module.kinds_of(definition)) - {"files", "packages", "units", "targets"} == {
        *module.NETWORK,
        "sysctls",
    }


def test_both_read_the_same_sysctls() -> None:
    recorded = load("host_record").kinds_of(host.definition())["sysctls"]()
    assert {name.replace(".", "/") for name in host.read_sysctls() if "/" not in name} == {
        name for name in recorded if "." not in name
    }


def test_the_agent_has_the_definition_in_its_archive(tmp_path: Path) -> None:
    archive = tmp_path / "agent.zip"
    archive.write_bytes(agent_archive())
    program = "from lab_agent.kernel.host import definition; print(sorted(definition()))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(archive)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['parts', 'sysctls']"


#: Changes of everything that the programs print, and how each is taken back.
CHANGES = (
    ("ip address add 198.51.100.7/32 dev lo", "ip address del 198.51.100.7/32 dev lo"),
    ("ip route add blackhole 203.0.113.0/24", "ip route del blackhole 203.0.113.0/24"),
    ("ip -6 route add blackhole 2001:db8:77::/64", "ip -6 route del blackhole 2001:db8:77::/64"),
    ("ip rule add from 198.51.100.7 pref 500", "ip rule del pref 500"),
    ("ip -6 rule add from 2001:db8::7 pref 500", "ip -6 rule del pref 500"),
    ("ip link add left type bridge", "ip link del left"),
    ("ip link set lo mtu 9000", "ip link set lo mtu 65536"),
    ("tc qdisc add dev lo root pfifo limit 77", "tc qdisc del dev lo root"),
    ("nft add table inet left", "nft delete table inet left"),
    (
        "nft add table inet t; nft add set inet t s '{ type ipv4_addr ; }'",
        "nft delete table inet t",
    ),
)


@pytest.mark.parametrize("change", CHANGES, ids=[change for change, _ in CHANGES])
def test_a_change_by_another_program_is_seen_at_once(client: Probe, change: tuple[str, str]) -> None:
    before = client.network_state()
    assert client.run(["sh", "-c", change[0]]).returncode == 0
    try:
        assert changes(before, client.network_state())
    finally:
        assert client.run(["sh", "-c", change[1]]).returncode == 0
    assert changes(before, client.network_state()) == []


COUNTED = """
import subprocess
from mptcp_lab.agent.lab_agent.kernel import network_state as module
runs = []
def reading(name, read):
    return lambda: (runs.append(name), read())[1]
module.read_links = reading("links", module.read_links)
module.read_filter = reading("filter", module.read_filter)
readings = module.watched_readings()
def look(*changes):
    for change in changes:
        subprocess.run(change.split(), check=True)
    runs.clear()
    module.network_state(readings)
    print(*runs)
look()
look()
look("ip link set lo mtu 9000")
look("ip neighbour add 198.51.100.9 lladdr 02:00:00:00:00:01 dev lo")
look("nft add table inet left")
look()
look("nft add set inet left s { type ipv4_addr ; }")
look()
"""


def test_programs_run_again_only_after_a_change_or_where_none_would_be_reported() -> None:
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", COUNTED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ran = ["links filter", "", "links", "", "filter", "", "filter", "filter"]
    assert done.stdout.split("\n")[:-1] == ran
