"""The keeper on a slow host: its start has a longer timeout, and it stays for longer between faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcp_lab.agent.lab_agent import basics, keeper


def test_start_of_the_keeper_gets_as_much_time_as_everything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting Python and the keeper takes an emulated host longer than systemd's default of 90 s."""
    started: list[list[str]] = []
    monkeypatch.setattr(keeper, "SYSTEMD", tmp_path)
    monkeypatch.setattr(keeper, "FAULTS", tmp_path)
    monkeypatch.setattr(keeper, "program_command", lambda: ["agent"])
    monkeypatch.setattr(keeper, "run_tool", started.append)
    monkeypatch.setattr(basics, "_patience", [18.2])
    keeper.ensure_keeper()
    (command,) = started
    assert "--property=TimeoutStartSec=1638s" in command
    assert command[-2:] == ["keeper", "--patience=18.2"]
