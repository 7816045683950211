"""Test what the Ansible modules of the lab have in common: documentation, options, one clear error."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from mptcp_lab.lock.observe import NETWORK
from tests.roles.golden import ROOT

MODULES = sorted((ROOT / "plugins/modules").glob("*.py"))
PLACEHOLDER = "<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"
#: The Python types of Ansible's types of options.
TYPES: dict[str, type] = {"str": str, "list": list, "dict": dict, "path": str, "bool": bool}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"plugins/modules/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run(name: str, *, check: bool = True, **options: Any) -> dict[str, Any]:
    """Run a module as Ansible does; check that it prints one result, and its exit status."""
    arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
    text = (ROOT / f"plugins/modules/{name}.py").read_text().replace(PLACEHOLDER, json.dumps(arguments))
    done = subprocess.run([sys.executable, "-"], input=text, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    result: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == result.get("failed", False)
    return result


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_is_documented_and_pipelined(path: Path) -> None:
    module, text = load(path.stem), path.read_text()
    documented = yaml.safe_load(module.DOCUMENTATION)
    assert documented["module"] == path.stem
    assert {"short_description", "description", "options", "author"} <= documented.keys()
    assert text.startswith("#!/usr/bin/python\n")
    assert text.count(PLACEHOLDER) == 1
    assert "ansible.module_utils" not in text  # the module would no longer run in one round trip


@pytest.mark.parametrize("name", ["boot_kernel", "host_record", "source_build"])
def test_documented_options_are_those_that_are_accepted(name: str) -> None:
    module = load(name)
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    accepted = {option: (TYPES[each["type"]], each.get("default")) for option, each in documented.items()}
    assert accepted == module.OPTIONS
    choices = {"boot_kernel": "CHOICES", "host_record": "STATES"}.get(name)
    accepted_choices = getattr(module, choices) if choices else {}
    if name == "host_record":
        accepted_choices = {"state": accepted_choices}
    assert accepted_choices == {o: tuple(e["choices"]) for o, e in documented.items() if "choices" in e}


BUILD = {
    "program": "/x/y",
    "prefix": "/x",
    "sha256": 64 * "0",
    "commands": "make",
    "product": "y",
}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("boot_kernel", {"package": ["linux"]}, "boot_kernel has no option package; it has state, packages"),
    ("boot_kernel", {"packages": "linux"}, "boot_kernel: packages is 'linux', and has to be a list"),
    ("boot_kernel", {"packages": [{"path": "/x"}]}, "package {'path': '/x'} is no name"),
    ("boot_kernel", {"packages": [1]}, "package 1 is no name, and has no path or url with sha256"),
    ("boot_kernel", {"state": "booted"}, "give one of installed, next, default, restored"),
    ("boot_kernel", {"manager": "zypper", "packages": ["linux"]}, "give one of apt, dnf"),
    ("boot_kernel", {}, "state installed needs packages, which is empty"),
    ("boot_kernel", {"state": "next"}, "state next needs kernel, which is empty"),
    ("host_record", {"state": "taken"}, "give one of recorded, read, removed, restored"),
    ("host_record", {"state": "removed"}, "owners are required for state removed"),
    ("host_record", {"state": "restored", "owners": ["gateway"]}, "and for no other state"),
    ("host_record", {"state": "restored"}, "host_record: network is required for state restored"),
    (
        "host_record",
        {"network": {"parts": {"x": ["y"]}, "sysctls": {}}},
        "host_record cannot record y; it can",
    ),
    ("host_record", {"owner": "gateway"}, "host_record has no option owner; it has state, owners"),
    ("host_record", {"state": "removed", "owners": "gateway"}, "owners is 'gateway', and has to be a list"),
    ("package_lock", {}, "packages is None, and has to be a dict"),
    ("package_lock", {"packages": {"haproxy": 3.1}}, "the version of haproxy is 3.1, and has to be a str"),
    ("package_lock", {"packages": {}, "suite": "sid"}, "package_lock has no option suite; it has packages"),
    ("host_facts", {"gather": True}, "host_facts has no option gather; it has none"),
    ("converge", {"folder": ["/x"]}, "converge has no option folder"),
    ("source_archive", {"folder": "/x"}, "source_archive has no option folder; it has source, cache"),
    ("source_archive", {"source": "x", "cache": "/x"}, "source is 'x', and has to be an absolute path"),
    ("source_archive", {"source": ["/x"], "cache": "/x"}, "source is ['/x'], and has to be a str"),
    ("source_build", {"archives": []}, "source_build has no option archives; it has program, prefix"),
    ("source_build", {"program": "/x/y"}, "source_build needs prefix"),
    ("source_build", {**BUILD, "program": "/y/z"}, "program /y/z is not below prefix /x"),
    ("source_build", {**BUILD, "packages_ok": "maybe"}, "packages_ok is 'maybe', and has to be a bool"),
]


@pytest.mark.parametrize(("name", "options", "error"), REFUSED)
def test_an_option_that_a_module_does_not_accept_is_one_error(
    name: str, options: dict[str, Any], error: str
) -> None:
    result = run(name, **options)
    assert error in result["msg"]
    assert (result["failed"], result["changed"], "\n" in result["msg"]) == (True, False, False)


def test_every_module_is_tested() -> None:
    assert {path.stem for path in MODULES} == {name for name, _, _ in REFUSED}


def test_the_state_of_this_machine_is_read_as_one_result() -> None:
    tools = {"lab-shell": ["sh", "-c", "echo 1.0"], "lab-none": ["mptcp-lab-none", "-v"]}
    found = run("host_record", state="read", network=NETWORK, tools=tools)["found"]
    assert {"kernel", "system", "tools", "files", "sysctls", "links", "limits", "qdiscs"} <= found.keys()
    assert found["links"]["lo"] in ("up", "down")
    assert (found["tools"]["lab-shell"], "lab-none" in found["tools"]) == ("1.0", False)


def test_packages_are_compared_with_a_lock() -> None:
    result = run("package_lock", packages={"mptcp-lab-none": "1"})
    assert (result["changed"], result["differ"]) == (False, ["mptcp-lab-none=1"])
    assert result["unavailable"] == ["mptcp-lab-none=1 (there is none)"]
