"""``python -m mptcp_lab.machines ssh-config [NAME]``: print the path of a lab's ssh_config."""

from __future__ import annotations

import argparse
import sys

from mptcp_lab.inventory import InventoryError, load, resolve
from mptcp_lab.machines.reach import ssh_config


def main() -> int:
    """Print the requested fact about a lab; exit 4 with one error message if the inventory is invalid."""
    parser = argparse.ArgumentParser(prog="mptcp_lab.machines", description="Print how a lab is reached.")
    parser.add_argument("action", choices=["ssh-config"])
    parser.add_argument("inventory", nargs="?", default="inventory")
    arguments = parser.parse_args()
    try:
        print(ssh_config(load(resolve(arguments.inventory))) or "")
    except InventoryError as error:
        print(error, file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
