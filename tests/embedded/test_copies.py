"""Copies of a lab: equal hosts under another name, which `down` of the first lab removes too."""

import ctypes
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mptcp_lab.inventory import load
from mptcp_lab.labs import capacity, copies, lifecycle
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths, lab_paths
from mptcp_lab.paths import ROOT
from mptcp_lab.plugin.further_labs import find_difference
from tests.labs import OwnLab, own_lab


@pytest.fixture
def small(tmp_path: Path) -> OwnLab:
    """A lab of a client and a server."""
    lab = own_lab(tmp_path / "a small lab", "test-small")

    def keep_two(children: dict) -> None:
        for group in ("proxies", "gateways"):
            children.pop(group)
        children["origins"]["hosts"].pop("server2")

    lab.edit(keep_two)
    return lab


def labs(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mptcp_lab.labs", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_copy_is_an_equal_lab_and_goes_with_the_first(small: OwnLab) -> None:
    small.down()
    done = labs("copies", "--inventory", str(small.folder), "--labs", "3")
    assert done.returncode == 0, done.stderr
    folders = [Path(line) for line in done.stdout.splitlines()]
    assert [folder.name for folder in folders] == [f"{small.paths.name}-{number}" for number in (2, 3)]
    copy = OwnLab(folders[0], lab_paths(folders[0].name))
    assert copy.lab.name == folders[0].name
    assert not find_difference(small.lab, copy.lab)
    try:
        assert small.up()
        assert copy.up()
        assert copy.ssh("client", "hostname").strip() == "client"
        assert copy.ssh("client", "touch /root/here; ls /root/here").strip() == "/root/here"
        assert not small.ssh_may_fail("client", "ls /root/here").strip()
    finally:
        done = labs("down", "--inventory", str(small.folder))
    assert done.returncode == 0, done.stderr
    assert small.traces() == copy.traces() == []
    assert not any(folder.exists() for folder in folders)


def test_the_lock_of_the_inventory_holds_for_its_copies(small: OwnLab) -> None:
    lock = small.folder / copies.LOCK_NAME
    lock.write_text("a lock\n")
    lab = small.lab
    folder = copies.write_copy(lab, 2)
    try:
        assert (folder / copies.LOCK_NAME).read_text() == "a lock\n"
        lock.unlink()
        copies.write_copy(lab, 2)
        assert not (folder / copies.LOCK_NAME).exists()
    finally:
        copies.remove_copies(small.paths)
    assert not folder.exists()


@pytest.mark.parametrize("kind", ["vault", "unsafe"])
def test_a_value_that_cannot_be_copied_is_refused(small: OwnLab, kind: str) -> None:
    lab = small.lab
    secret = {"lab_password": [{f"__ansible_{kind}": "x"}]}
    client = replace(lab.hosts["client"], variables={**lab.hosts["client"].variables, **secret})
    with pytest.raises(EmbeddedError, match=f"client has a variable of the kind {kind}"):
        copies.write_copy(replace(lab, hosts={**lab.hosts, "client": client}), 2)
    copies.remove_copies(small.paths)


def test_labs_elsewhere_have_no_copies(tmp_path: Path) -> None:
    done = labs("copies", "--inventory", "vm", "--labs", "2")
    assert done.returncode == 4
    assert "--labs makes copies of an embedded lab on this machine's kernel only" in done.stderr
    assert not list(copies.find_copies(LabPaths(ROOT, "vm")))


def test_labs_elsewhere_run_alone_where_nobody_asked_for_more() -> None:
    done = labs("copies", "--inventory", "vm", "--labs", "auto")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("processors", "memory_mb", "inotify", "up", "carried"),
    [
        (2, 16000, (128, 20), 0, 3),
        (64, 512000, (8192, 20), 0, 3),
        (1, 16000, (128, 20), 0, 1),
        (2, 3500, (128, 20), 0, 2),
        (2, 1000, (128, 20), 0, 1),
        (2, 16000, (128, 64), 0, 2),
        (2, 16000, (128, 126), 0, 1),
        (2, 16000, (128, 76), 2, 3),
    ],
)
def test_a_machine_carries_no_more_labs_than_it_has_room_for(
    monkeypatch: pytest.MonkeyPatch,
    processors: int,
    memory_mb: int,
    inotify: tuple[int, int],
    up: int,
    carried: int,
) -> None:
    monkeypatch.setattr(capacity.os, "cpu_count", lambda: processors)
    monkeypatch.setattr(capacity, "available_mb", lambda: memory_mb)
    monkeypatch.setattr(capacity, "inotify_instances", lambda: inotify)
    assert capacity.carried_labs(7, up) == carried


def test_what_this_machine_has_is_read(tmp_path: Path) -> None:
    assert capacity.available_mb() > 100
    limit, used = capacity.inotify_instances()
    # inotify(7): one more file descriptor is one more instance.
    watch = ctypes.CDLL(None).inotify_init1(os.O_CLOEXEC)
    try:
        assert capacity.is_inotify(Path(f"/proc/self/fd/{watch}"), os.geteuid())
        assert not capacity.is_inotify(Path(f"/proc/self/fd/{watch}"), os.geteuid() + 1)
    finally:
        os.close(watch)
    assert 0 <= used <= limit
    assert not capacity.is_inotify(Path("/proc/self/fd/0"))


def test_an_inventory_is_read_as_the_one_it_copies(small: OwnLab) -> None:
    """Its variables are the same, whatever file of the inventory they come from."""
    folder = copies.write_copy(small.lab, 2)
    try:
        copy = load(folder)
        for name, host in small.lab.hosts.items():
            assert {**copy.hosts[name].variables, "lab_name": small.lab.name} == dict(host.variables)
    finally:
        copies.remove_copies(small.paths)
    assert lifecycle.KINDS[copy.flavour]
