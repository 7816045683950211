"""Bring a lab on this machine up, take it down, and report its status.

`up` converges: it starts only what is missing. `down` needs only the lab's name.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mptcp_lab import patience
from mptcp_lab.inventory.model import Host, Lab
from mptcp_lab.labs import fabric, kernel, keys, recorded
from mptcp_lab.labs.containers import hosts, image
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths, give_to_caller, private_folder
from mptcp_lab.labs.vms import disk, machines
from mptcp_lab.labs.vms import snapshots as states

Say = Callable[[str], None]


@dataclass(frozen=True)
class Kind:
    """The functions that differ between flavours: build the image; create, start and check a host."""

    present: Callable[[LabPaths, Lab], bool]
    build: Callable[[LabPaths, Lab, Say], None]
    prepare: Callable[[LabPaths, Host, str], str]
    start: Callable[..., None]
    is_current: Callable[[LabPaths, Host], bool]
    welcome: Callable[[LabPaths, Host], None]  # after a host's first answer
    discard: Callable[[LabPaths, Host], None]  # the snapshot of a host that does not answer
    start_within: float  # timeout in seconds, generous for loaded machines


def _do_nothing(paths: LabPaths, host: Host) -> None:
    """Do nothing: containers need no action at this stage."""


#: By the inventory's ``lab_flavour``: the flavours whose hosts run on this machine.
KINDS = {
    "embedded": Kind(
        image.all_present,
        image.build,
        hosts.prepare,
        hosts.start,
        lambda *_: True,
        _do_nothing,
        _do_nothing,
        60.0,
    ),
    "vm": Kind(
        disk.present,
        disk.build,
        machines.prepare,
        machines.start,
        machines.is_current,
        machines.welcome,
        states.discard,
        1200.0,
    ),
}


def bring_up(paths: LabPaths, lab: Lab, say: Say) -> bool:
    """Converge the lab to the inventory, and return whether anything changed; pass each stage to `say`."""
    require_root()
    refuse_old_state(paths)
    with lab_lock(paths):
        kind = KINDS[lab.flavour]
        kernel.require(lab)
        if not kind.present(paths, lab):
            with image.one_build(paths):
                if not kind.present(paths, lab):  # unless another lab of this checkout has built it meanwhile
                    kind.build(paths, lab, say)
        prepare_folders(paths, lab)
        patience.use(patience.read_factor(paths.state) or 1.0)
        if lab.flavour == "embedded":  # measured before the hosts start, since they share the processors
            patience.use(patience.measure_this_machine())
        alive = set(hosts.list_running(paths))
        gone = sorted(_list_hosts(paths) - set(lab.hosts))
        fabric.unplug(paths, gone)
        _remove(paths, gone)
        wired = set(fabric.list_namespaces(paths))
        changed = fabric.converge(paths, lab) or bool(gone)
        return _converge_hosts(paths, lab, alive - set(gone), wired, say) or changed


def prepare_folders(paths: LabPaths, lab: Lab) -> None:
    """Create the lab's folders, and record the inventory that it comes from."""
    private_folder(paths.state)
    recorded.write(paths, lab.source)
    private_folder(paths.run)


def _converge_hosts(paths: LabPaths, lab: Lab, alive: set[str], wired: set[str], say: Say) -> bool:
    """Start the hosts that do not run, and leave the others alone.

    `wired` holds the network namespaces that existed before this `up`.
    """
    kind, public_key = KINDS[lab.flavour], keys.user_key(paths)
    right = {
        host.name
        for host in lab.hosts.values()
        if host.name in alive and kind.is_current(paths, host) and hosts.answers(paths, host.name)
    }
    start = [host for host in lab.hosts.values() if host.name not in right]
    hosts.stop(paths, [host.name for host in start])
    host_keys = {name: kind.prepare(paths, host, public_key) for name, host in lab.hosts.items()}
    keys.write_ssh_files(paths, host_keys)
    for host in start:
        kind.start(paths, host, fresh=paths.netns(host.name) not in wired)
    try:
        hosts.await_answers(paths, [host.name for host in start], say, kind.start_within)
        with ThreadPoolExecutor(len(start) or 1) as pool:
            list(pool.map(lambda host: kind.welcome(paths, host), start))
    except EmbeddedError:
        for host in start:
            kind.discard(paths, host)
        raise
    if start and lab.flavour == "vm":
        patience.use(patience.measure_hosts(paths.state / "ssh_config", list(lab.hosts)))
        keys.write_ssh_files(paths, host_keys)
    patience.keep(paths.state)
    give_to_caller(paths.state / patience.FILE)
    return bool(start)


def _list_hosts(paths: LabPaths) -> set[str]:
    """Return every host of which files, a namespace or a cgroup exist."""
    spaces = {
        name.removeprefix(paths.prefix) for name in fabric.list_namespaces(paths) if name != paths.fabric
    }
    folder, group = paths.state / "hosts", hosts.cgroup(paths)
    files = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    groups = {p.name for p in group.iterdir() if p.is_dir()} if group.is_dir() else set()
    return spaces | files | groups


def _remove(paths: LabPaths, names: list[str]) -> None:
    """Power hosts off, and remove their files, namespaces and cgroups."""
    hosts.stop(paths, names)
    fabric.remove(n for n in fabric.list_namespaces(paths) if n.removeprefix(paths.prefix) in names)
    for name in names:
        hosts.forget(paths, name)


def take_down(paths: LabPaths, say: Say) -> bool:
    """Remove the lab in whatever state it is, except the cached image; return whether there was one."""
    require_root()
    with lab_lock(paths):
        known = sorted(_list_hosts(paths))
        there = exists(paths)
        removed = "the machine with all hosts" if paths.column.exists() else f"{len(known)} hosts"
        _remove(paths, known)
        fabric.remove(fabric.list_namespaces(paths))
        hosts.remove_cgroup(hosts.cgroup(paths))
        old = (paths.old_state,) if recorded.is_old(paths) else ()
        for folder in (paths.run, paths.state, *old):
            shutil.rmtree(folder, ignore_errors=True)  # after a crash either may be missing
        if old:
            paths.old_state.with_name(f"{paths.name}.lock").unlink(missing_ok=True)
        image.clean_drafts(paths)
        with suppress(OSError):
            Path("/run/systemd").rmdir()  # only if a container created it, and it is empty
        paths.lock.unlink(missing_ok=True)
        say(f"{removed} removed" if there else "the lab was not up")
        return there


def exists(paths: LabPaths) -> bool:
    """Return whether any file, namespace or process of the lab exists on this machine."""
    there = _list_hosts(paths) or fabric.list_namespaces(paths) or paths.state.exists() or paths.run.exists()
    return bool(there) or recorded.is_old(paths)


def status(paths: LabPaths, lab: Lab) -> dict[str, str]:
    """Return each host's state: ``up``, ``starting`` (or hung) or ``down``."""
    refuse_old_state(paths)
    alive = set(hosts.list_running(paths))
    return {
        name: "up"
        if name in alive and hosts.answers(paths, name)
        else "starting"
        if name in alive
        else "down"
        for name in lab.hosts
    }


def require_root() -> None:
    """Raise `EmbeddedError` before anything is changed, unless this process runs as root."""
    if os.geteuid() != 0:
        raise EmbeddedError(
            "creating namespaces, mounts and cgroups needs root",
            "run ./lab, which uses sudo, or run this command as root",
        )


def refuse_old_state(paths: LabPaths) -> None:
    """Refuse a lab that an older version of this checkout brought up from the folder it used then."""
    if recorded.is_old(paths):
        raise EmbeddedError(
            f"an older version brought the lab {paths.name} up, with its state in {paths.old_state}",
            f"run ./lab down --lab {paths.name}, then ./lab up",
        )


@contextmanager
def lab_lock(paths: LabPaths) -> Iterator[None]:
    """Hold the lab's lock: one `up` or `down` at a time."""
    private_folder(paths.lock.parent)
    with paths.lock.open("a") as file:
        give_to_caller(paths.lock)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmbeddedError(
                "another up or down of this lab is running",
                "wait until it ends, then run the command again",
            ) from None
        yield
