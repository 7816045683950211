"""Labs for tests: copies of inventories under other names, so that the user's labs are left alone."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mptcp_lab.inventory import Lab, load, resolve
from mptcp_lab.labs import fabric, lifecycle
from mptcp_lab.labs.capacity import is_inotify
from mptcp_lab.labs.command import run
from mptcp_lab.labs.containers import hosts, image
from mptcp_lab.labs.lab_paths import LabPaths, lab_paths
from mptcp_lab.machines.lease import Lease
from mptcp_lab.paths import ROOT
from mptcp_lab.probe import Fault, Probe

#: The hosts that `keep_two_hosts` leaves, by group.
TWO_HOSTS = {"clients": ["client"], "origins": ["server1"]}


@dataclass
class OwnLab:
    """A lab that a test may change in any way."""

    folder: Path
    paths: LabPaths

    @property
    def lab(self) -> Lab:
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return _load(self.folder, tuple((path, path.read_text()) for path in files))

    def up(self) -> bool:
        return lifecycle.bring_up(self.paths, self.lab, lambda _: None)

    def down(self) -> bool:
        return lifecycle.take_down(self.paths, lambda _: None)

    def status(self) -> dict[str, str]:
        return lifecycle.status(self.paths, self.lab)

    def ssh(self, host: str, command: str) -> str:
        return run("ssh", "-F", str(self.paths.state / "ssh_config"), host, command)

    def ssh_may_fail(self, host: str, command: str) -> str:
        """Return the output of a command on a host, or "" if the host does not answer."""
        config = str(self.paths.state / "ssh_config")
        done = subprocess.run(
            ["ssh", "-F", config, host, command], capture_output=True, text=True, check=False
        )
        return done.stdout

    def edit(self, change: Callable[[dict], None]) -> None:
        edit_groups(self.folder, change)

    def count_inotify(self) -> int:
        """Return how many inotify instances the lab's processes hold on this machine."""
        groups = hosts.cgroup(self.paths).rglob("cgroup.procs")
        folders = [Path("/proc", pid, "fd") for group in groups for pid in group.read_text().split()]
        assert folders
        return sum(is_inotify(link) for folder in folders for link in folder.glob("*"))

    def traces(self) -> list[str]:
        """Return all namespaces, processes, mounts and paths of this lab that exist on the machine."""
        found = [f"netns {name}" for name in fabric.list_namespaces(self.paths)]
        if hosts.cgroup(self.paths).exists():
            found.append(f"cgroup {hosts.cgroup(self.paths)}")
        found += [
            f"mount {line}"
            for line in Path("/proc/mounts").read_text().splitlines()
            if self.paths.prefix in line
        ]
        found += [f"process {p}" for p in _processes_naming(self.paths.prefix)]
        found += [
            f"path {path}" for path in (self.paths.state, self.paths.run, self.paths.lock) if path.exists()
        ]
        return found


def _processes_naming(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(text in word for word in words):
            found.append(" ".join(words))
    return found


def edit_groups(folder: Path, change: Callable[[dict], None]) -> None:
    """Change the groups of an inventory."""
    path = folder / "hosts.yml"
    document = yaml.safe_load(path.read_text())
    change(document["all"]["children"])
    path.write_text(yaml.safe_dump(document))


def own_lab(folder: Path, name: str, inventory: str = "embedded", attackers: bool = False) -> OwnLab:
    """Return a copy of an inventory without its lock, named per pytest worker; the lab is not up yet.

    Attackers are left out unless a test needs them: each host takes four of the 128 inotify instances that
    Linux allows by default, and several labs are up at the same time (tests/scheduling.py).
    """
    name += os.environ.get("PYTEST_XDIST_WORKER", "")
    shutil.copytree(ROOT / "inventories" / inventory, folder, ignore=shutil.ignore_patterns("lab.lock.yml"))
    variables = folder / "group_vars/all.yml"
    variables.write_text(variables.read_text().replace(f"lab_name: {inventory}", f"lab_name: {name}"))
    own = OwnLab(folder, lab_paths(name))
    if not attackers:
        own.edit(lambda children: children.pop("attackers", None))
    return own


@functools.cache
def _load(folder: Path, _texts: tuple[tuple[Path, str], ...]) -> Lab:
    """Read an inventory again only after a change: that starts ansible-inventory."""
    return load(folder)


def keep_two_hosts(children: dict) -> None:
    """Leave a client and one server in the groups of an inventory."""
    for group in list(children):
        members = children[group]["hosts"]
        for name in [name for name in members if name not in TWO_HOSTS.get(group, ())]:
            del members[name]
        if not members:
            del children[group]


def build_root_filesystem() -> Path:
    """Return a Debian 13 as the hosts have it, after building it if no lab has been up here yet."""
    paths, lab = lab_paths(), load(resolve("embedded"))
    if not image.all_present(paths, lab):
        with image.one_build(paths):
            image.build(paths, lab, lambda _: None)
    return image.image(paths) / "root"


def leased_fault(probe: Probe, kind: str, **params: Any) -> Fault:
    """Apply a fault and release the lease at once, so that a suite can take the lease during the fault."""
    with Lease.take({"host": probe}, "a test", "sabotage"):
        return probe.fault(kind, **params)
