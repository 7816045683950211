"""``python -m mptcp_lab.machines ssh-config [NAME]``: print where a lab's own ssh_config is."""

from __future__ import annotations

import argparse
import sys

from mptcp_lab.inventory import InventoryError, load, resolve
from mptcp_lab.machines.reach import ssh_config


def main() -> int:
    """Answer about an inventory's lab; exit 4 with one clear error when the inventory is not sound."""
    parser = argparse.ArgumentParser(prog="mptcp_lab.machines", description="Say how a lab is reached.")
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
