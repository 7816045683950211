"""Load an inventory through ``ansible-inventory --list``, never through Ansible's Python API."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mptcp_lab.inventory.errors import InventoryError
from mptcp_lab.inventory.locate import locate
from mptcp_lab.inventory.model import Lab
from mptcp_lab.inventory.sources import Source, read
from mptcp_lab.inventory.validate import lab_from
from mptcp_lab.paths import ROOT
from mptcp_lab.playbook import ansible_environment

#: Timeout of ansible-inventory; on an idle machine it takes 0.6 s.
TIMEOUT_S = 120

__all__ = ["InventoryError", "load", "resolve"]


def default_inventory() -> Path:
    """Return the path of the inventory that ANSIBLE_INVENTORY or else ansible.cfg names."""
    if named := os.environ.get("ANSIBLE_INVENTORY"):
        return Path(named)
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "ansible.cfg")
    return ROOT / config.get("defaults", "inventory", fallback="inventories/embedded")


def resolve(word: str) -> Path:
    """Return the path of the inventory that a user names, for example after ``--hosts``.

    ``inventory`` means the default of ansible.cfg; any other word is a path, or a folder's name below
    inventories/. Raises `InventoryError` if there is no such inventory.
    """
    if word == "inventory":
        return default_inventory()
    for candidate in (Path(word), ROOT / "inventories" / word):
        if candidate.exists():
            return candidate.resolve()
    known = ", ".join(sorted(p.name for p in (ROOT / "inventories").iterdir() if p.is_dir()))
    raise InventoryError(
        word,
        "",
        f"no such inventory (inventories/ contains: {known})",
        "inventory, which is the default of ansible.cfg",
    )


def load(path: Path | str) -> Lab:
    """Read and validate an inventory; raise `InventoryError`, with file and line, if it is wrong.

    No program in the inventory runs: only YAML and INI files are read, with limits on size and time.
    """
    path = Path(path)
    if not path.exists():
        raise InventoryError(str(path), "path", "no such file or folder", "inventories/embedded")
    sources = read(path)
    document = _list_inventory(path)
    try:
        return lab_from(document, str(path))
    except InventoryError as error:
        raise error.with_location(_location(sources, error)) from None


def _location(sources: Sequence[Source], error: InventoryError) -> str:
    return locate(sources, error.host, "" if error.variable in ("name", "groups") else error.variable)


def _list_inventory(path: Path) -> dict[str, Any]:
    """Return the document that ``ansible-inventory --list`` prints."""
    tool = Path(sys.executable).with_name("ansible-inventory")
    command = [str(tool if tool.exists() else "ansible-inventory"), "-i", str(path), "--list"]
    environment = ansible_environment(
        ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="true", ANSIBLE_INVENTORY_ENABLED="yaml,ini"
    )
    example = "inventories/embedded/hosts.yml"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False, timeout=TIMEOUT_S
        )
    except FileNotFoundError:
        raise InventoryError(
            str(path), "ansible-inventory", "not found", "run ./lab, which prepares .venv"
        ) from None
    except subprocess.TimeoutExpired:
        problem = f"ansible-inventory did not end within {TIMEOUT_S} s"
        raise InventoryError(str(path), "inventory", problem, example) from None
    if done.returncode != 0:
        raise InventoryError(str(path), "inventory", _reason(done.stderr), example)
    try:
        document = json.loads(done.stdout)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise InventoryError(str(path), "inventory", "ansible-inventory printed no JSON object", example)
    return document


def _reason(stderr: str) -> str:
    """Return the line of ansible-inventory's error output that names the fault."""
    lines = [" ".join(line.split()) for line in stderr.splitlines() if line.strip()]
    for word in ("Origin:", "failed to parse", "ERROR", "Failed"):
        named = [line for line in lines if word in line]
        if named and word == "Origin:":
            return f"{_reason(stderr.replace('Origin:', ''))} ({named[0]})"
        if named:
            return named[-1]
    return (lines or ["ansible-inventory failed without a message"])[-1]
