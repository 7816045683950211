"""``python -m mptcp_lab.machines ssh-config INVENTORY [HOST]``: print the path of a lab's ssh_config."""

from __future__ import annotations

import argparse
import sys

from mptcp_lab.errors import LabError
from mptcp_lab.inventory import load, resolve
from mptcp_lab.machines.reach import check_host, ssh_config


def main() -> int:
    """Print the requested fact about a lab; exit 4 with one error message if it cannot be found out."""
    parser = argparse.ArgumentParser(prog="mptcp_lab.machines", description="Print how a lab is reached.")
    parser.add_argument("action", choices=["ssh-config"])
    parser.add_argument("inventory", nargs="?", default="inventory")
    parser.add_argument("host", nargs="?", help="refuse it unless it is a host of the lab, which is up")
    arguments = parser.parse_args()
    try:
        lab = load(resolve(arguments.inventory))
        if arguments.host:
            check_host(lab, arguments.host)
        print(ssh_config(lab) or "")
    except LabError as error:
        print(error, file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
