"""``python -m mptcp_lab.inventory validate [INVENTORY]``: say whether an inventory describes a lab."""

from __future__ import annotations

import argparse
import sys

from mptcp_lab.inventory import InventoryError, load, resolve


def main() -> int:
    """Validate one inventory; exit 0 when it is sound and 4 with one clear error when it is not."""
    parser = argparse.ArgumentParser(prog="mptcp_lab.inventory", description=__doc__)
    parser.add_argument("action", choices=["validate"])
    parser.add_argument("inventory", nargs="?", default="inventory")
    arguments = parser.parse_args()
    try:
        lab = load(resolve(arguments.inventory))
    except InventoryError as error:
        print(error, file=sys.stderr)
        return 4
    print(f"{lab.name}: {len(lab.hosts)} hosts on {len(lab.segments)} segments, sound")
    return 0


if __name__ == "__main__":
    sys.exit(main())
