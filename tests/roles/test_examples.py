"""Test that every role has two example plays, and that they run in check mode on a simulated host."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from mptcp_lab.inventory import load, resolve
from mptcp_lab.paths import ROOT
from mptcp_lab.render import Paper, paper_host
from tests.roles.test_specs import ROLES

GROUPS = ("clients", "origins", "proxies", "gateways")
KERNEL = "6.12.57+deb13-amd64"
#: What the modules `package_lock` and `boot_kernel` return on a host that needs no change.
UNCHANGED = {
    "missing": [],
    "kernel": KERNEL,
    "running": KERNEL,
    "wanted": KERNEL,
    "manager": "apt",
    "unavailable": [],
    "differ": [],
}


def check(
    folder: Path, *playbooks: Path, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> str:
    """Run playbooks in check mode on a host in every group; return the output if they fail, else ""."""
    paper_host(folder / "client", load(resolve("embedded")).hosts["client"], Paper())
    answer = folder / "client" / "answer.json"
    answer.write_text(json.dumps({**json.loads(answer.read_text()), **UNCHANGED}))
    variables = {"ansible_connection": "local", "ansible_become": False}
    variables["ansible_python_interpreter"] = str(folder / "client" / "python")
    groups = {group: {"hosts": {"client": None}} for group in GROUPS}
    inventory = folder / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {"client": variables}, "children": groups}}))
    program = Path(sys.executable).parent / "ansible-playbook"
    command = [program, "-i", inventory, "--check", *playbooks]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    return f"{done.stdout}\n{done.stderr}" if done.returncode else ""


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_has_two_examples(role: Path) -> None:
    plays = yaml.safe_load((role / "examples.yml").read_text())
    assert len(plays) == 2
    assert all(role.name in json.dumps(play) for play in plays)
    readme = (role / "README.md").read_text()
    assert all(f"- name: {play['name']}\n" in readme for play in plays)


def test_the_examples_run(tmp_path: Path) -> None:
    assert not check(tmp_path, *(role / "examples.yml" for role in ROLES))


def test_an_example_that_a_role_refuses_is_found(tmp_path: Path) -> None:
    example = (ROOT / "roles/gateway/examples.yml").read_text()
    broken = tmp_path / "broken.yml"
    broken.write_text(example.replace("gateway_devices:", "gateway_nics:"))
    assert "missing required arguments: gateway_devices" in check(tmp_path, broken)
