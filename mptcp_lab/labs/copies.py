"""Copies of an embedded lab, which share its checks: their inventories, with equal hosts and other lab names.

A copy is one static file with the groups and variables that Ansible found, so that it does not matter how the
inventory is laid out. It is below .lab. A lab that is up from it is found by its name, as any other.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mptcp_lab.inventory import Lab
from mptcp_lab.inventory.model import FUNCTIONS
from mptcp_lab.inventory.sources import LOCK_NAME
from mptcp_lab.labs.capacity import carried_labs
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths, lab_paths, private_folder, write_private

#: More labs than a machine with the default of 128 inotify instances carries: one of seven hosts takes 28.
MOST = 8


def copy_name(name: str, number: int) -> str:
    """Return the name of a copy; the first lab is number 1, so that its first copy is number 2."""
    return f"{name}-{number}"


def copy_folder(paths: LabPaths, number: int) -> Path:
    """Return the folder of a copy's inventory."""
    return paths.copies / copy_name(paths.name, number)


def find_copies(paths: LabPaths) -> Iterator[LabPaths]:
    """Yield the paths of each copy of a lab that has an inventory."""
    for number in range(2, MOST + 1):
        if copy_folder(paths, number).is_dir():
            yield LabPaths(paths.root, copy_name(paths.name, number))


def count_shared(paths: LabPaths, lab: Lab) -> int:
    """Return how many equal labs this machine carries; those that are up stay."""
    up = sum(each.record.is_file() for each in (paths, *find_copies(paths)))
    return max(carried_labs(len(lab.hosts), up), up)


def write_copy(lab: Lab, number: int) -> Path:
    """Write the inventory of a copy, and return its folder.

    Raises:
        EmbeddedError: the inventory has a value that cannot be copied.
    """
    folder = copy_folder(lab_paths(lab.name), number)
    private_folder(folder)
    write_private(
        folder / "hosts.yml", json.dumps(_make_inventory(lab, copy_name(lab.name, number)), indent=1)
    )
    lock = _lock_beside(Path(lab.source))
    if lock.exists():
        write_private(folder / LOCK_NAME, lock.read_text())
    else:
        (folder / LOCK_NAME).unlink(missing_ok=True)
    return folder


def remove_copies(paths: LabPaths) -> None:
    """Remove the inventories of all copies of a lab."""
    for copy in list(find_copies(paths)):
        shutil.rmtree(paths.copies / copy.name)


def _lock_beside(source: Path) -> Path:
    return (source if source.is_dir() else source.parent) / LOCK_NAME


def _make_inventory(lab: Lab, name: str) -> dict[str, Any]:
    """Return an inventory (JSON is YAML) of the lab's hosts, in which the lab has another name."""
    for host in lab.hosts.values():
        _refuse_secrets(host.name, host.variables)
    groups: dict[str, Any] = {
        function: {"hosts": {host.name: {} for host in lab.hosts_with(function)}} for function in FUNCTIONS
    }
    named = {host.name: {**host.variables, "lab_name": name} for host in lab.hosts.values()}
    return {"all": {"hosts": named, "children": groups}}


def has_secrets(lab: Lab) -> bool:
    """Return whether the inventory has values that a copy cannot have."""
    try:
        _make_inventory(lab, lab.name)
    except EmbeddedError:
        return True
    return False


def _refuse_secrets(host: str, value: Any) -> None:
    """Refuse values that ansible-inventory prints in a special form: those of a vault, and unsafe ones."""
    if isinstance(value, Mapping):
        if marked := {"__ansible_vault", "__ansible_unsafe"} & value.keys():
            raise EmbeddedError(
                f"{host} has a variable of the kind {marked.pop().removeprefix('__ansible_')}, "
                "which a copy of the lab cannot have",
                "./lab run without --labs",
            )
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            _refuse_secrets(host, each)
