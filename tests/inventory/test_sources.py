"""Test that unsafe inventories are refused, with file and line, before Ansible reads them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mptcp_lab.inventory import InventoryError, load
from mptcp_lab.paths import ROOT

GOOD = (ROOT / "inventories/embedded/hosts.yml").read_text()
GROUP_VARS = (ROOT / "inventories/embedded/group_vars/all.yml").read_text()
BOMB = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
CASES = {
    "not yaml": ("all: {hosts: [}\n", 1, "not YAML"),
    "a tab": ("all:\n\thosts:\n", 2, "not YAML"),
    "latin1": (b"all:\n  hosts:\n    h\xe9:\n", 3, "not UTF-8"),
    "twice the same host": ("all:\n  hosts:\n    a: {}\n    b: {}\n    a: {}\n", 5, "(first in line 3)"),
    "twice the same group": ("all: {}\nclients: {}\nall: {}\n", 3, "'all' is given twice"),
    "a group in itself": ("all:\n  children:\n    x:\n      children:\n        all:\n", 1, "contains itself"),
    "two groups of each other": (
        "x:\n  children:\n    y:\ny:\n  children:\n    x:\n", 1, "group x contains itself"
    ),
    "a group that is a list": ("all:\n  children:\n    x: [a]\n", 3, "group 'x' is not a mapping"),
    "an unknown part of a group": ("all:\n  host:\n    a:\n", 2, "not 'host'"),
    "a list at the top": ("- a\n", 1, "a mapping is expected"),
    "nested too deep": ("all: " + "[" * 500, 1, "levels deep"),
    "an alias bomb": (f"a0: &a0 [x]\n{BOMB}", None, "once its aliases are expanded"),
    "an alias of itself": ("all: &a\n  hosts: *a\n", None, "refers to a mapping"),
    "a mapping as key": ("? {a: 1}\n: 2\n", 1, "a key is a list or a mapping"),
    "a program": ("#!/bin/sh\ntouch /tmp/never\n", 1, "a program"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "problem"), CASES.values(), ids=CASES.keys())
def test_a_file_that_is_no_inventory_is_refused_with_its_line(tmp_path, text, line, problem: str) -> None:
    file = tmp_path / "hosts.yml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InventoryError) as caught:
        load(tmp_path)
    assert problem in caught.value.problem
    assert caught.value.location.startswith(f"{file}:{line if line else ''}")


def test_a_file_below_the_working_directory_is_named_by_its_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/hosts.yml").write_text("- a\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InventoryError) as caught:
        load(tmp_path / "lab")
    assert caught.value.location == "lab/hosts.yml:1"


@pytest.mark.parametrize("name", ["group_vars/all.yml", "host_vars/client.yml", "host_vars/client/nics.yml"])
def test_files_of_variables_are_held_to_the_same(tmp_path: Path, name: str) -> None:
    (tmp_path / "hosts.yml").write_text(GOOD)
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text("lab_owned: true\nlab_owned: false\n")
    with pytest.raises(InventoryError, match="is given twice") as caught:
        load(tmp_path)
    assert caught.value.location == f"{file}:2"


def test_a_fifo_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hosts.yml")
    with pytest.raises(InventoryError, match="not a regular file"):
        load(tmp_path)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("# x\n" * (1 << 19))
    with pytest.raises(InventoryError, match="larger than 1 MiB"):
        load(tmp_path)


def test_a_folder_that_links_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "again").symlink_to(tmp_path)
    with pytest.raises(InventoryError, match="folders deep"):
        load(tmp_path)


@pytest.mark.parametrize("command", ["validate", "playbook"])
def test_an_executable_of_the_folder_does_not_run(tmp_path: Path, command: str) -> None:
    inventory, trace = tmp_path / "inventory", tmp_path / "ran"
    inventory.mkdir()
    program = inventory / "hosts"
    program.write_text(f"#!/bin/sh\ntouch {trace}\necho '{{}}'\n")
    program.chmod(0o755)
    commands = {
        "validate": [sys.executable, "-m", "mptcp_lab.inventory", "validate", str(inventory)],
        "playbook": [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "-i",
            str(inventory),
            "lab.yml",
        ],
    }
    done = subprocess.run(commands[command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert not trace.exists()
    if command == "validate":
        assert done.returncode == 4
        assert "a program; an inventory must be a YAML or INI file" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("was", "now", "file", "variable", "text"),
    [
        ("device: eth2, ipv4: 198.18.2.10/24", "device: lo, ipv4: 198.18.2.10/24",
         "hosts.yml", "lab_nics[1].device", "lo is not a device"),
        ("weight: 3", "weight: x", "hosts.yml", "lab_services[8].backends[0].weight", "whole number"),
        ('lab_mptcp: "off"', 'lab_mptpc: "off"', "hosts.yml", "lab_mptpc", "did you mean lab_mptcp?"),
        ("blackhole_timeout: 0", 'blackhole_timeout: "0 1"',
         "group_vars/all.yml", "lab_mptcp_sysctls.blackhole_timeout", "not one number or word"),
        ("lab_flavour: embedded", "lab_flavour: hardwar",
         "group_vars/all.yml", "lab_flavour", "did you mean hardware?"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_file_and_line(tmp_path, was, now, file, variable, text) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "hosts.yml").write_text(GOOD)
    (tmp_path / "group_vars/all.yml").write_text(GROUP_VARS)
    spoilt = tmp_path / file
    spoilt.write_text(spoilt.read_text().replace(was, now, 1))
    line = 1 + spoilt.read_text()[: spoilt.read_text().index(now)].count("\n")
    with pytest.raises(InventoryError) as caught:
        load(tmp_path)
    assert (caught.value.variable, caught.value.location) == (variable, f"{spoilt}:{line}")
    assert text in caught.value.problem


def test_an_ini_inventory_is_read_and_a_wrong_value_is_found_in_it(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").write_text(GROUP_VARS)
    hosts = tmp_path / "hosts"
    nic = '[{\\"segment\\": \\"path1\\", \\"device\\": \\"eth1\\", \\"ipv4\\": \\"198.18.1.10/24\\"}]'
    hosts.write_text(f'[clients]\nclient lab_nics="{nic}" lab_owned=True\n')
    assert load(tmp_path).hosts["client"].nics[0].device == "eth1"
    hosts.write_text(f'[clients]\nclient lab_nics="{nic}" lab_ownd=False\n')
    with pytest.raises(InventoryError, match="did you mean lab_owned") as caught:
        load(tmp_path)
    assert caught.value.location == f"{hosts}:2"


@pytest.mark.parametrize("locale", ["C", "xx_XX.UTF-8"])
def test_an_inventory_is_read_whatever_the_locale_of_the_user_is(
    monkeypatch: pytest.MonkeyPatch, locale: str
) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    assert load(ROOT / "inventories/embedded").name == "embedded"
