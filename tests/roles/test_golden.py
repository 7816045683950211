"""Test that the templates render exactly the golden files, which somebody has reviewed."""

import json
import subprocess

import pytest

from tests.roles.golden import GOLDEN, LAB, ROOT, render, renderings

RENDERED = renderings()


@pytest.mark.parametrize("name", sorted(RENDERED))
def test_rendering(name: str) -> None:
    assert RENDERED[name] == (GOLDEN / name).read_text(), "look at it, then run python -m tests.roles.golden"


def test_no_golden_file_is_left_over() -> None:
    assert sorted(path.name for path in GOLDEN.iterdir()) == sorted(RENDERED)


def test_same_inputs_give_the_same_bytes() -> None:
    assert renderings() == RENDERED


SCRIPTS = {name: text for name, text in RENDERED.items() if name.endswith(".sh")}
SCRIPTS["mptcp-lab-confirmed"] = (ROOT / "roles/lab_network/files/mptcp-lab-confirmed").read_text()


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_scripts_are_shell(name: str) -> None:
    subprocess.run(["shellcheck", "--severity=warning", "-"], input=SCRIPTS[name], text=True, check=True)


def test_origin_configuration_is_json() -> None:
    assert json.loads(RENDERED["server.origin.json"])["listeners"][0]["address"] == "198.18.10.31"


@pytest.mark.parametrize("device", ["eth1; reboot", "eth1'", "$(id)", "eth1\nlink set dev eth0 down", "a b"])
def test_no_value_of_a_nic_adds_a_command_to_a_script(device: str) -> None:
    nics = [{**LAB["hosts"]["client"]["lab_nics"][0], "device": device}]
    with pytest.raises(ValueError, match="not one word"):
        render("network.sh.j2", "lab_network", lab_network_nics=nics, lab_network_routes=[])


@pytest.mark.parametrize("value", ["0\nkernel.core_pattern=|/bin/id", "0 1", "a;b"])
def test_no_setting_adds_another_one(value: str) -> None:
    with pytest.raises(ValueError, match="not one word"):
        render(
            "mptcp-sysctl.conf.j2", "mptcp", mptcp_enabled=True, mptcp_sysctls={"blackhole_timeout": value}
        )
