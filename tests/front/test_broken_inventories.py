"""An inventory that is broken, missing or empty is never a success, whoever runs a playbook on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mptcp_lab.paths import ROOT

PLAYBOOKS = ("lab.yml", "playbooks/restore.yml")
NO_HOST = {"no hosts": "all: {}\n", "only this machine": "all: {hosts: {localhost: {}}}\n", "empty file": ""}
BROKEN = {"not YAML": "all: {hosts: [\n", "a list": "- client\n- server\n"}


def play(playbook: str, inventory: Path) -> subprocess.CompletedProcess[str]:
    """Run a playbook as a user does, from the checkout."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), playbook]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("playbook", PLAYBOOKS)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_inventory_is_an_error(tmp_path: Path, playbook: str, kind: str) -> None:
    folder = tmp_path / "broken inventory"
    folder.mkdir()
    (folder / "hosts.yml").write_text(BROKEN[kind])
    done = play(playbook, folder)
    assert done.returncode != 0
    assert f"failed to parse inventory source {folder}/hosts.yml" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_missing_or_hollow_inventory_is_an_error(tmp_path: Path, playbook: str) -> None:
    (tmp_path / "hollow").mkdir()
    for inventory in (tmp_path / "hollow", tmp_path / "missing"):
        done = play(playbook, inventory)
        assert done.returncode != 0
        assert f"failed to parse inventory source {inventory}" in done.stderr


@pytest.mark.parametrize("playbook", PLAYBOOKS)
@pytest.mark.parametrize("kind", NO_HOST)
def test_an_inventory_without_hosts_is_an_error(tmp_path: Path, playbook: str, kind: str) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(NO_HOST[kind])
    done = play(playbook, inventory)
    assert done.returncode != 0
    assert f"inventory: {inventory}: hosts: no host is listed" in done.stdout + done.stderr


def test_the_command_refuses_them_too(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(BROKEN["not YAML"])
    for inventory in (tmp_path, tmp_path / "missing"):
        done = subprocess.run(
            [str(ROOT / "lab"), "restore", "--inventory", str(inventory)],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode != 0
        assert str(inventory) in done.stderr.splitlines()[-1]
