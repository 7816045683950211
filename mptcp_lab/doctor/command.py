"""``mptcp-lab doctor``: find out why two hosts do not use MPTCP, or not all of their paths."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from mptcp_lab.doctor.arguments import build_parser
from mptcp_lab.doctor.collect import Question, ask
from mptcp_lab.doctor.diagnose import diagnose_all
from mptcp_lab.doctor.readings import PairReading, to_document
from mptcp_lab.doctor.remote import ask_remote, parse_remote
from mptcp_lab.doctor.report import build_document, build_error, render_text
from mptcp_lab.errors import LabError
from mptcp_lab.paths import ROOT
from mptcp_lab.probe.openssh import Ssh

HEALTHY, FINDINGS, USAGE_ERROR, UNREACHABLE = 0, 1, 2, 4


def main(arguments: Sequence[str] | None = None, program: str = "mptcp-lab doctor") -> int:
    """Examine hosts, print the report and return the exit status."""
    parser = build_parser(program)
    options = parser.parse_args(arguments)
    if problem := find_misuse(options):
        parser.print_usage(sys.stderr)
        print(f"{program}: {problem}", file=sys.stderr)
        return USAGE_ERROR
    began = time.monotonic()
    try:
        readings = read_pairs(options)
    except LabError as error:
        print(f"{program}: {error}", file=sys.stderr)
        if options.json:
            print(json.dumps(build_error(str(error)), indent=2))
        return UNREACHABLE
    except KeyboardInterrupt:
        print(f"{program}: interrupted; nothing was changed on the hosts", file=sys.stderr)
        return 130
    findings = diagnose_all(readings)
    seconds = time.monotonic() - began
    try:
        write_files(options, readings, findings)
    except (LabError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return UNREACHABLE
    if options.json:
        print(json.dumps(build_document(readings, findings, seconds), indent=2))
    else:
        size = shutil.get_terminal_size((100, 24))
        lines = 0 if options.all else size.lines - 1
        print(render_text(readings, findings, seconds, size.columns, lines), end="")
    return FINDINGS if findings else HEALTHY


def find_misuse(options: argparse.Namespace) -> str:
    """Return what is wrong with the arguments; "" if nothing is."""
    modes = [bool(options.hosts), options.remote is not None, options.inventory is not None]
    if sum(modes) != 1:
        return "name CLIENT and SERVER, or --remote, or --inventory"
    if options.hosts and len(options.hosts) != 2:
        return f"two hosts are needed, CLIENT and SERVER, not {len(options.hosts)}"
    if options.hosts and not options.port:
        return "--port is needed: the TCP port that the client connects to"
    if not options.hosts and (options.port or options.via or options.address):
        return "--port, --via and --address go with CLIENT and SERVER"
    if options.server_port and not options.via:
        return "--server-port goes with --via"
    if options.conceal and not options.bundle:
        return "--conceal goes with --bundle"
    if options.bundle and options.inventory:
        return "--bundle is about one pair: name CLIENT and SERVER"
    return ""


def read_pairs(options: argparse.Namespace) -> list[PairReading]:
    """Read the hosts that the arguments name, and connect; raise `LabError` if one cannot be read."""
    ssh = Ssh(options=(*(("-F", options.ssh_config) if options.ssh_config else ()), *_ssh_options(options)))
    if options.remote is not None:
        return ask_remote(parse_remote(options.remote), options.start, ssh)
    if options.inventory is not None:
        return _read_inventory(options)
    client, server = options.hosts
    return ask(
        [Question(client, server, options.port, options.via, options.server_port, options.address)], ssh
    )


def _ssh_options(options: argparse.Namespace) -> list[str]:
    return [word for option in options.ssh_option for word in ("-o", option)]


def _read_inventory(options: argparse.Namespace) -> list[PairReading]:
    """Read every pair of an inventory that should speak MPTCP."""
    # PyYAML and Ansible are there in a checkout only.
    try:
        load = import_module("mptcp_lab.inventory.load")
        pairs = import_module("mptcp_lab.doctor.inventory_pairs")
    except ImportError as error:
        raise LabError(
            f"--inventory needs a checkout of mptcp-lab ({error})", "", "./lab doctor --inventory X"
        ) from None
    lab = load.load(load.resolve(options.inventory))
    return ask(pairs.questions_of(lab), pairs.ssh_of(lab, ROOT / ".lab" / "labs"))


def write_files(options: argparse.Namespace, readings: list[PairReading], findings: Sequence[Any]) -> None:
    """Write the files that the arguments ask for."""
    if options.record is not None:
        recorded = [to_document(reading) for reading in readings]
        text = json.dumps(recorded[0] if len(recorded) == 1 else recorded, indent=1)
        descriptor = os.open(options.record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
    if options.bundle is not None:
        bundle = import_module("mptcp_lab.doctor.bundle")
        bundle.write_bundle(options.bundle, readings[0], findings, options.conceal)
        print(f"wrote {options.bundle}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
