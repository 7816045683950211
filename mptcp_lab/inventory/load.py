"""Read an inventory once, through ``ansible-inventory --list`` (never through Ansible's Python API)."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
from pathlib import Path

from mptcp_lab.inventory.model import Lab
from mptcp_lab.inventory.validate import InventoryError, lab_from

ROOT = Path(__file__).resolve().parents[2]

__all__ = ["ROOT", "InventoryError", "load", "resolve"]


def default_inventory() -> Path:
    """Return the inventory that ansible.cfg (or ANSIBLE_INVENTORY) names."""
    if named := os.environ.get("ANSIBLE_INVENTORY"):
        return Path(named)
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "ansible.cfg")
    return ROOT / config.get("defaults", "inventory", fallback="inventories/embedded")


def resolve(word: str) -> Path:
    """Turn what a user types after ``--hosts`` into a path.

    ``inventory`` is the default of ansible.cfg; a path is itself; a name is a folder under inventories/.
    """
    if word == "inventory":
        return default_inventory()
    for candidate in (Path(word), ROOT / "inventories" / word):
        if candidate.exists():
            return candidate.resolve()
    known = ", ".join(sorted(p.name for p in (ROOT / "inventories").iterdir() if p.is_dir()))
    raise InventoryError(
        word, "--hosts", f"no such inventory (under inventories/ there is: {known})", "--hosts=inventory"
    )


def load(path: Path | str) -> Lab:
    """Read and validate an inventory; raise `InventoryError` with one clear sentence."""
    path = Path(path)
    if not path.exists():
        raise InventoryError(str(path), "path", "no such file or folder", "inventories/embedded")
    tool = Path(sys.executable).with_name("ansible-inventory")
    command = [str(tool if tool.exists() else "ansible-inventory"), "-i", str(path), "--list"]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
    }
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    except FileNotFoundError:
        raise InventoryError(
            str(path), "ansible-inventory", "not found", "run ./lab, which prepares .venv"
        ) from None
    if done.returncode != 0:
        raise InventoryError(
            str(path), "inventory", _first_error(done.stderr), "inventories/embedded/hosts.yml"
        )
    return lab_from(json.loads(done.stdout), str(path))


def _first_error(stderr: str) -> str:
    """Pick the line of ansible-inventory's complaint that says what is wrong."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if "ERROR" in line or "Failed" in line]
    return (telling or lines or ["ansible-inventory failed without a word"])[-1]
