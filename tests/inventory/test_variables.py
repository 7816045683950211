"""The table of variables is the one that playbooks and roles read."""

import re

import pytest
import yaml

from mptcp_lab.inventory.errors import InventoryError
from mptcp_lab.inventory.variables import BOOLEANS, CHECKS, ROLE_VARIABLES, STRUCTURES, TEXTS
from mptcp_lab.paths import ROOT

KNOWN = {*STRUCTURES, *BOOLEANS, *TEXTS, *CHECKS, *ROLE_VARIABLES}
#: Names that playbooks and the filters make themselves.
DERIVED = re.compile(
    r"lab_(network|system|retired|endpoints|routes|backends|addresses|of|endpoint_flags_wanted)\w*"
)


def test_every_variable_that_the_playbooks_read_may_be_set() -> None:
    read = {
        name
        for playbook in (ROOT / "playbooks").rglob("*.yml")
        for name in re.findall(r"(?<![\w'/.-])lab_[a-z_]+", re.sub(r"#.*", "", playbook.read_text()))
    }
    assert {name for name in read - KNOWN if not DERIVED.fullmatch(name)} == set()


@pytest.mark.parametrize("name", ROLE_VARIABLES)
def test_every_variable_of_a_role_exists(name: str) -> None:
    specs = {
        option
        for file in ROOT.glob("roles/*/meta/argument_specs.yml")
        for entry in yaml.safe_load(file.read_text())["argument_specs"].values()
        for option in entry.get("options", {})
    }
    playbooks = "".join(file.read_text() for file in (ROOT / "playbooks").glob("*.yml"))
    assert name in specs or name in playbooks


@pytest.mark.parametrize("value", [0, 61, "15", True, [15]])
def test_patience_is_a_factor(value: object) -> None:
    with pytest.raises(InventoryError, match="factor from 1 to 60"):
        CHECKS["lab_patience"]("client", "lab_patience", value)


def test_patience_may_be_what_was_measured() -> None:
    for value in (1, 14.5, 60, "{{ lookup('ansible.builtin.file', 'patience') }}"):
        CHECKS["lab_patience"]("client", "lab_patience", value)
