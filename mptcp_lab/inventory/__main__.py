"""``python -m mptcp_lab.inventory validate|path|flavour [NAME]``: what shells ask of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mptcp_lab.inventory import InventoryError, load, resolve


def main() -> int:
    """Answer one question about an inventory; exit 4 with one clear error when it is not sound."""
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
    """Return the inventory's path, flavour, or that it is sound."""
    if action == "path":
        return str(path)
    lab = load(path)
    if action == "flavour":
        return lab.flavour
    return f"{lab.name}: {len(lab.hosts)} hosts on {len(lab.segments)} segments, sound"


if __name__ == "__main__":
    sys.exit(main())
