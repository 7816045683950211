"""The templates render, byte for byte, what they did when somebody last looked at it."""

import json
import subprocess

import pytest

from tests.roles.golden import GOLDEN, ROOT, renderings

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
