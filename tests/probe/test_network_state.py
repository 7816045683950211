"""What belongs to the network state of a host is written once: traces and records follow one definition."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mptcp_lab.agent.lab_agent.kernel import host
from mptcp_lab.probe import client
from tests.roles.test_modules import load

#: Parts that a kernel without MPTCP, or a user without rights, does not get.
OF_MPTCP = {"endpoints", "limits"}


def test_traces_compare_the_parts_of_the_definition() -> None:
    state, parts = host.network_state(), set(host.definition()["parts"])
    assert set(state) - {"resolving"} <= parts
    assert parts - set(state) <= OF_MPTCP


def test_traces_leave_out_what_the_definition_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"parts": {"addresses": [], "qdiscs": []}, "sysctls": {"some": ["net/ipv4/ip_forward"]}}
    monkeypatch.setattr(host, "definition", lambda: wanted)
    assert set(host.network_state()) == {"addresses", "qdiscs", "resolving"}
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
    archive.write_bytes(client.agent_archive())
    program = "from lab_agent.kernel.host import definition; print(sorted(definition()))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(archive)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['parts', 'sysctls']"
