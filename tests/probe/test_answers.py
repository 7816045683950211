"""Test that the agent reports unexpected output of tools as an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcp_lab.agent.lab_agent import tools
from mptcp_lab.agent.lab_agent.basics import AgentError
from mptcp_lab.agent.lab_agent.faults import reads as fault_reads
from mptcp_lab.agent.lab_agent.kernel import network_state


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file whose content the fake ip, tc and nft print."""
    printed = tmp_path / "printed"
    for name in ("ip", "tc", "nft"):
        (tmp_path / name).write_text(f"#!/bin/sh\ncat >/dev/null\ncat '{printed}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return printed


@pytest.mark.parametrize("text", ["", "[]", "[{}]", "[{},{}]"])
def test_an_empty_answer_is_no_device(answers: Path, text: str) -> None:
    answers.write_text(text)
    assert fault_reads.device_addresses("eth1") == []
    assert fault_reads.root_qdisc("eth1")["handle"] == "0:"
    with pytest.raises(AgentError, match="no such device in the answer") as caught:
        tools.read_link("eth1")
    assert caught.value.kind == "tool"


@pytest.mark.parametrize("text", ["{", "RTNETLINK", '{"a": 1}', "[1]", '[{"ifindex": 1}]'])
def test_a_wrong_answer_names_the_tool(answers: Path, text: str) -> None:
    answers.write_text(text)
    for read in (tools.read_link, fault_reads.device_addresses, fault_reads.root_qdisc):
        with pytest.raises(AgentError, match=r"(ip|tc) -j .* dev eth1: (no list|an entry without)"):
            read("eth1")


@pytest.mark.parametrize("text", ["", "[{}]", "{", "RTNETLINK"])
def test_a_network_state_is_read_whatever_the_tools_print(answers: Path, text: str) -> None:
    answers.write_text(text)
    state = network_state.network_state()
    assert {"permanent_neighbours", "resolving", "sysctls"} <= state.keys()
    if text in ("{", "RTNETLINK"):
        assert "no JSON" in state["addresses"]["error"]
