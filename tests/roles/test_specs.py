"""Test that argument specs, defaults and READMEs agree."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mptcp_lab import docs_roles

ROLES = sorted(path for path in (docs_roles.ROOT / "roles").iterdir() if path.is_dir())


def load(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text()) if path.exists() else None) or {}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_default_is_specified(role: Path) -> None:
    specs = load(role / "meta/argument_specs.yml")["argument_specs"]
    options = {name: option for spec in specs.values() for name, option in spec.get("options", {}).items()}
    defaults = load(role / "defaults/main.yml")
    assert set(defaults) == {name for name, option in options.items() if not option.get("required")}
    for name, value in defaults.items():
        described = options[name]["default"]
        assert described == value or "C(" in str(described), f"{name}: default differs from its spec"


def options_registered(tasks: str, specs: dict[str, Any]) -> set[str]:
    """Return the options of a role that its tasks also register as results: the option hides the result."""
    options = {name for spec in specs["argument_specs"].values() for name in spec.get("options", {})}
    return options & set(re.findall(r"^ *register: (\w+)$", tasks, re.MULTILINE))


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_no_result_has_the_name_of_an_option(role: Path) -> None:
    tasks = "\n".join(path.read_text() for path in (role / "tasks").glob("*.yml"))
    assert not options_registered(tasks, load(role / "meta/argument_specs.yml"))


def test_a_result_with_the_name_of_an_option_is_found() -> None:
    specs = load(docs_roles.ROOT / "roles/lock/meta/argument_specs.yml")
    assert options_registered("  register: lock_packages\n", specs) == {"lock_packages"}


def test_readmes_are_what_the_specs_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert docs_roles.main(["--check"]) == 0, capsys.readouterr().err


def test_a_readme_that_differs_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    role = tmp_path / "roles/some_role"
    (role / "meta").mkdir(parents=True)
    specs = {"argument_specs": {"main": {"short_description": "A role", "description": ["It does C(x)."]}}}
    (role / "meta/argument_specs.yml").write_text(yaml.safe_dump(specs))
    monkeypatch.setattr(docs_roles, "ROOT", tmp_path)
    assert docs_roles.main(["--check"]) == 1
    assert docs_roles.main([]) == 0
    assert docs_roles.main(["--check"]) == 0
    assert "It does `x`." in (role / "README.md").read_text()
