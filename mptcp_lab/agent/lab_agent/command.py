"""The agent's command line.

Each command imports its own modules: a keeper starts from a zip file, where Python compiles what it imports,
and needs a quarter of the modules only.
"""

from __future__ import annotations

import argparse
import resource
import threading
from pathlib import Path

from .basics import set_patience
from .kernel.path_manager import ENDPOINT_FLAGS, endpoint_main


def main(argv: list[str]) -> int:
    """Run the subcommand that the first argument names, and return the exit status."""
    parser = argparse.ArgumentParser(prog="agent", description="mptcp-lab's probe and origin service")
    commands = parser.add_subparsers(dest="command", required=True)
    probe = commands.add_parser("probe", help="serve a controller on standard input and output")
    probe.add_argument("--management", default="", help="SSH_CONNECTION of the session")
    probe.add_argument("--patience", type=float, default=1.0, help="how many times as long to wait")
    doctor = commands.add_parser("doctor", help="serve the doctor, and change nothing")
    doctor.add_argument("--management", default="", help="SSH_CONNECTION of the session")
    doctor.add_argument("--patience", type=float, default=1.0, help="how many times as long to wait")
    origin = commands.add_parser("origin", help="run the origin service")
    origin.add_argument("--config", type=Path, required=True, help="JSON file: name, listeners")
    keeper = commands.add_parser("keeper", help="lift faults when their time is over")
    keeper.add_argument("--detach", action="store_true", help="go on in the background")
    keeper.add_argument("--patience", type=float, default=1.0, help="how many times as long to wait")
    lift = commands.add_parser("lift", help="lift one fault; a timer of the system runs this")
    lift.add_argument("fault")
    commands.add_parser("kernel-log", help="print new lines of the kernel log, one JSON list per line read")
    endpoint = commands.add_parser(
        "endpoint", help="add an MPTCP endpoint, with flags that ip(8) may not know"
    )
    endpoint.add_argument("address")
    endpoint.add_argument("--id", type=int, required=True)
    endpoint.add_argument("--device", required=True)
    endpoint.add_argument("flags", nargs="+", choices=[*ENDPOINT_FLAGS])
    chosen = parser.parse_args(argv)
    if chosen.command in ("keeper", "lift"):
        from .keeper import keeper_main, lift_main

        if chosen.command == "lift":
            return lift_main(chosen.fault)
        set_patience(chosen.patience)
        return keeper_main(chosen.detach)
    if chosen.command == "kernel-log":
        from .kernel.log import log_main

        return log_main()
    if chosen.command == "endpoint":
        return endpoint_main(
            {"address": chosen.address, "id": chosen.id, "device": chosen.device, "flags": chosen.flags}
        )
    threading.stack_size(512 * 1024)  # a call needs little stack: the default of 8 MiB per thread is waste
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for a thousand connections or more
    if chosen.command == "origin":
        from .origin.service import origin_main

        return origin_main(chosen.config)
    set_patience(chosen.patience)
    if chosen.command == "doctor":
        from .examine.examiner import examiner_main

        return examiner_main(chosen.management)
    from .probe import probe_main

    return probe_main(chosen.management)
