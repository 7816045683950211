"""``python -m mptcp_lab.inventory validate|path|flavour [NAME]``: validate or locate an inventory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mptcp_lab.inventory import InventoryError, load, resolve


def main() -> int:
    """Print one fact about an inventory; exit 4 with one error message if it is invalid."""
    parser = argparse.ArgumentParser(
        prog="mptcp_lab.inventory", description="Validate or locate an inventory."
    )
    parser.add_argument("action", choices=["validate", "path", "flavour"])
    parser.add_argument("inventory", nargs="?", default="inventory")
    arguments = parser.parse_args()
    try:
        print(answer(arguments.action, resolve(arguments.inventory)))
    except InventoryError as error:
        print(error, file=sys.stderr)
        return 4
    return 0


def answer(action: str, path: Path) -> str:
    """Return the inventory's path, its lab's flavour, or a summary of the valid lab."""
    if action == "path":
        return str(path)
    lab = load(path)
    if action == "flavour":
        return lab.flavour
    return f"{lab.name}: {len(lab.hosts)} hosts on {len(lab.segments)} segments, sound"


if __name__ == "__main__":
    sys.exit(main())
