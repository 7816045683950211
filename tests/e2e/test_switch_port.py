"""A lab of machines: a cable is pulled by the command that the inventory gives for a NIC's switch port."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from mptcp_lab.labs import fabric
from tests.e2e.conftest import Configured

CASE = "DIRECT-8[cable-out-at-A]"


def as_of_a_rack(variables: str, ssh_config: Path) -> str:
    """Return the lab's variables as of machines somewhere: reached by what an ssh_config says of them."""
    ours = yaml.safe_load(variables)
    del ours["ansible_host"]
    ours |= {"lab_flavour": "hardware", "ansible_ssh_common_args": f"-F {ssh_config}"}
    return yaml.safe_dump(ours)


def under_other_names(children: dict) -> None:
    """Reach each host by another name than the inventory's, as somebody's ssh_config has it."""
    for group in children.values():
        for name, host in group["hosts"].items():
            host["ansible_host"] = f"rack-{name}"


def test_the_inventorys_commands_pull_a_cable(configured: Configured, tmp_path: Path) -> None:
    """The embedded lab's switch, by the commands that somebody would give who had it in a rack."""
    own = configured.own
    variables, hosts = own.folder / "group_vars/all.yml", own.folder / "hosts.yml"
    before = variables.read_text(), hosts.read_text()
    port = fabric.find(own.lab, "client", "eth1").port
    command = f"ip -n {own.paths.fabric} link set {port}"

    nic = {"unplug": f"touch {tmp_path}/out; {command} down", "plug": f"{command} up"}
    ssh_config = tmp_path / "ssh_config"
    known = (own.paths.state / "ssh_config").read_text()
    ssh_config.write_text(re.sub(r"(?m)^Host (\S+) .*", r"Host rack-\1", known))
    try:
        variables.write_text(as_of_a_rack(before[0], ssh_config))
        own.edit(under_other_names)
        without = configured.suite(f"--claim={CASE}").verdicts()
        own.edit(lambda children: children["clients"]["hosts"]["client"]["lab_nics"][0].update(nic))
        pulled = configured.suite(f"--claim={CASE}")
    finally:
        variables.write_text(before[0])
        hosts.write_text(before[1])
    assert without == {CASE: "unsupported"}
    assert pulled.verdicts() == {CASE: "pass"}, pulled.output
    assert (tmp_path / "out").exists()
    assert fabric.port_states(own.paths)[port] != "disabled"
