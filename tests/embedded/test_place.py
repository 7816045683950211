"""Test where labs keep their state, and that `down` removes the intended lab or none."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from mptcp_lab.inventory import Host, InventoryError, load
from mptcp_lab.inventory.validate import RESERVED_HOST_NAMES, RESERVED_LAB_NAMES
from mptcp_lab.labs import __main__ as command
from mptcp_lab.labs import keys, lifecycle, recorded
from mptcp_lab.labs import lab_paths as paths
from mptcp_lab.labs.command import run
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths, private_folder
from mptcp_lab.machines.reach import ssh_arguments
from mptcp_lab.paths import ROOT


class Checkout:
    """A checkout with inventories, and a state folder in which labs appear to be up."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys = root, capsys
        (root / ".lab/results/run").mkdir(parents=True)
        (root / ".lab/cache").mkdir()

    def paths(self, name: str) -> LabPaths:
        return LabPaths(self.root, name)

    def inventory(self, name: str) -> Path:
        """Copy the embedded inventory under another lab's name."""
        folder = self.root / "in ventories" / name
        shutil.copytree(ROOT / "inventories/embedded", folder, ignore=shutil.ignore_patterns("lab.lock.yml"))
        self.change(folder, "lab_name: embedded", f"lab_name: {name}")
        return folder

    def change(self, folder: Path, old: str, new: str) -> None:
        variables = folder / "group_vars/all.yml"
        assert old in variables.read_text()
        variables.write_text(variables.read_text().replace(old, new))

    def bring_up(self, name: str) -> Path:
        """Write the files that `up` writes first, and return the lab's inventory."""
        folder = self.inventory(name)
        private_folder(self.paths(name).state / "hosts" / "client")
        recorded.write(self.paths(name), str(folder))
        return folder

    def up(self) -> list[str]:
        return [each.name for each in recorded.read_all(self.paths("any"))]

    def run(self, *words: str) -> tuple[int, str]:
        """Run the embedded lab's command, and return its exit status and its output."""
        sys.argv = ["mptcp_lab.labs", *words]
        code = command.main()
        printed = self.capsys.readouterr()
        return code, printed.out + printed.err


@pytest.fixture
def checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    return Checkout(tmp_path, capsys)


def test_state_lies_among_labs_only(checkout: Checkout) -> None:
    lab = checkout.paths("rack1")
    assert lab.state == checkout.root / ".lab/labs/rack1"
    assert lab.lock == checkout.root / ".lab/labs/rack1.lock"


@pytest.mark.parametrize("name", RESERVED_LAB_NAMES)
def test_a_lab_is_not_named_like_a_folder_beside_it(checkout: Checkout, name: str) -> None:
    folder = checkout.inventory(name)
    with pytest.raises(InventoryError, match=f"lab_name: '{name}' is reserved"):
        load(folder)
    assert checkout.run("down", "--inventory", str(folder))[0] == 4
    assert checkout.run("down", "--lab", name)[0] == 4
    assert (checkout.root / ".lab/results/run").is_dir()


@pytest.mark.parametrize("name", RESERVED_HOST_NAMES)
def test_a_host_is_not_named_like_the_switch(checkout: Checkout, name: str) -> None:
    folder = checkout.inventory("rack1")
    hosts = folder / "hosts.yml"
    hosts.write_text(hosts.read_text().replace("        gateway:", f"        {name}:"))
    with pytest.raises(InventoryError, match=r"is reserved|reserved name"):
        load(folder)


def test_down_removes_the_lab_of_its_inventory_and_nothing_else(checkout: Checkout) -> None:
    meant, other = checkout.bring_up("meant"), checkout.bring_up("other")
    code, said = checkout.run("down", "--inventory", str(meant))
    assert code == 0 and "the lab is down" in said
    assert checkout.up() == ["other"]
    assert other.is_dir() and (checkout.root / ".lab/results/run").is_dir()


def test_down_of_an_unsound_inventory_removes_the_lab_that_was_brought_up_from_it(checkout: Checkout) -> None:
    meant = checkout.bring_up("meant")
    checkout.bring_up("other")
    checkout.change(meant, "kind: path", "kind: pth")
    code, said = checkout.run("down", "--inventory", str(meant))
    assert code == 0, said
    assert "lab meant was brought up from it" in said
    assert checkout.up() == ["other"]


def test_down_of_an_unsound_inventory_that_brought_nothing_up_is_refused(checkout: Checkout) -> None:
    checkout.bring_up("other")
    unsound = checkout.inventory("unsound")
    checkout.change(unsound, "kind: path", "kind: pth")
    code, said = checkout.run("down", "--inventory", str(unsound))
    assert code == 4
    assert "'pth' is not one of path, core" in said
    assert checkout.up() == ["other"]


def test_down_of_an_inventory_that_there_is_not_is_refused(checkout: Checkout) -> None:
    checkout.bring_up("embedded")
    code, said = checkout.run("down", "--inventory", "rakc1")
    assert code == 4
    assert "rakc1" in said and "no such inventory" in said
    assert "./lab down --lab NAME" in said
    assert checkout.up() == ["embedded"]


def test_down_removes_a_lab_by_its_name_alone(checkout: Checkout) -> None:
    shutil.rmtree(checkout.bring_up("orphan"))
    checkout.bring_up("other")
    code, said = checkout.run("down", "--lab", "orphna")
    assert (code, "up from this checkout: orphan, other" in said) == (4, True)
    assert checkout.run("down", "--lab", "orphan")[0] == 0
    assert checkout.up() == ["other"]


def test_a_lab_of_an_older_version_is_refused_until_down_removed_it(checkout: Checkout) -> None:
    folder = checkout.inventory("rack1")
    old = checkout.root / ".lab/rack1"
    (old / "hosts/client").mkdir(parents=True)
    for action in ("up", "status"):
        code, said = checkout.run(action, "--inventory", str(folder))
        assert code == 4
        assert "an older version brought the lab" in said and "./lab down --lab rack1" in said
    assert checkout.run("down", "--inventory", str(folder))[0] == 0
    assert not old.exists()
    assert (checkout.root / ".lab/results/run").is_dir()


def test_a_copied_inventory_that_looks_at_the_old_place_is_refused(checkout: Checkout) -> None:
    folder = checkout.inventory("rack1")
    checkout.change(folder, "/.lab/labs/", "/.lab/")
    code, said = checkout.run("up", "--inventory", str(folder))
    assert code == 4
    assert "lab_ssh_config" in said and ".lab/labs/{{ lab_name }}/ssh_config" in said


@pytest.mark.parametrize("text", ["", "{", "[]", '{"source": 3}', "[" * 100_000])
def test_a_damaged_record_names_no_inventory(checkout: Checkout, text: str) -> None:
    folder = checkout.bring_up("damaged")
    checkout.paths("damaged").record.write_text(text)
    assert recorded.find_by_source(checkout.paths("damaged"), folder) == []
    assert checkout.up() == ["damaged"]


def test_the_state_folder_is_closed_whoever_made_it(tmp_path: Path) -> None:
    state = tmp_path / ".lab"
    state.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        private_folder(state / "results" / "run")
    finally:
        os.umask(before)
    for folder in (state, state / "results", state / "results/run"):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_hardware_is_not_taken_down(checkout: Checkout) -> None:
    code, said = checkout.run("down", "--inventory", "hardware.example")
    assert code == 4
    assert "is not a lab on this machine" in said


def test_exists_is_false_for_a_lab_that_never_was(checkout: Checkout) -> None:
    assert not lifecycle.exists(checkout.paths("never"))
    with pytest.raises(EmbeddedError, match="no lab has the name 'never'"):
        command.paths_of_name("never")


@pytest.mark.parametrize("folder", ["a check out", "50% done", "it's here"])
def test_ssh_reads_the_config_of_a_checkout_at_any_path(tmp_path: Path, folder: str) -> None:
    lab = LabPaths(tmp_path / folder, "rack1")
    private_folder(lab.state)
    keys.write_ssh_files(lab, {"client": "ssh-ed25519 AAAA"})
    config = shlex.quote(str(lab.state / "ssh_config"))
    words = ssh_arguments(
        Host("client", frozenset(), (), (), True, {"ansible_ssh_common_args": f"-F {config}"})
    )
    shown = run("ssh", "-G", *words).splitlines()
    for name, file in (("identityfile", "id_ed25519"), ("userknownhostsfile", "known_hosts")):
        value = next(line.partition(" ")[2] for line in shown if line.startswith(f"{name} "))
        assert value.strip('"').replace("%%", "%") == str(lab.state / file)
