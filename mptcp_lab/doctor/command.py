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
from pathlib import Path
from typing import Any

from mptcp_lab.doctor.collect import Question, ask
from mptcp_lab.doctor.diagnose import diagnose_all
from mptcp_lab.doctor.readings import PairReading, to_document
from mptcp_lab.doctor.remote import ask_remote, parse_remote
from mptcp_lab.doctor.report import build_document, build_error, render_text
from mptcp_lab.errors import LabError
from mptcp_lab.paths import ROOT
from mptcp_lab.probe.openssh import LOCAL, Ssh

HEALTHY, FINDINGS, USAGE_ERROR, UNREACHABLE = 0, 1, 2, 4
DESCRIPTION = """\
Why does a connection not use MPTCP, or not its second path? The doctor reads both hosts, opens one
MPTCP connection from CLIENT to SERVER, captures its headers at both ends, and names what is wrong:
what it is, why it matters, the command that repairs it, and the one that keeps it repaired.

HOSTS
  CLIENT, SERVER and PROXY are names that your ssh(1) knows: a Host of ~/.ssh/config (ProxyJump and
  all other options count), user@host, or an address. "localhost" is this machine, without SSH.
  Host keys are checked by your known_hosts, and nothing asks for a password: `ssh HOST true` has to
  work without one.

WHAT IT DOES ON THE HOSTS
  Each host needs Linux and Python 3.9. The program travels through SSH, runs in memory, and ends with
  the connection: nothing is installed, no file is written, no setting is changed. It runs as root
  where the login is root or `sudo -n` works; otherwise the report lists what could not be read.
  Its connection sends no payload: it opens, waits at most 2 seconds for its subflows, and closes,
  which the service sees as a client that left. As with ss(8) and nft(8), the kernel may load modules
  for what is read.
"""
EPILOG = """\
EXIT STATUS
  0  healthy: no finding
  1  there are findings
  2  wrong arguments
  4  a host could not be reached or read; one sentence on standard error says which and why

EXAMPLES
  mptcp-lab doctor laptop web1 --port 443
      The connection from laptop to web1.
  mptcp-lab doctor laptop web1 --via edge1 --port 443 --server-port 8443
      laptop connects to edge1 on port 443, and edge1 to web1 on port 8443: both connections are examined.
  mptcp-lab doctor localhost web1 --port 443 --json
      From this machine, as JSON.
  mptcp-lab doctor --remote 203.0.113.5:443
      A server that you cannot log in to, from each address of this machine.
  mptcp-lab doctor laptop web1 --port 443 --bundle report.tar.gz --conceal
      Also write what MPTCP maintainers ask for, with addresses replaced.
"""


def build_parser(program: str) -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        prog=program,
        usage=(
            "%(prog)s CLIENT SERVER --port N [--via PROXY [--server-port M]] [OPTION...]\n"
            "       %(prog)s --remote ADDRESS:PORT [--from HOST] [OPTION...]\n"
            "       %(prog)s --inventory INVENTORY [OPTION...]"
        ),
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "hosts", nargs="*", metavar="CLIENT SERVER", help="the host that connects, and its peer"
    )
    asked = parser.add_argument_group("what to examine")
    asked.add_argument("--port", type=_port, metavar="N", help="the TCP port that the client connects to")
    asked.add_argument("--via", default="", metavar="PROXY", help="a proxy between client and server")
    asked.add_argument(
        "--server-port",
        type=_port,
        default=0,
        metavar="M",
        help="the server's port behind the proxy (default: N)",
    )
    asked.add_argument(
        "--address", default="", help="the address to connect to (default: one that the service listens on)"
    )
    asked.add_argument(
        "--remote", metavar="ADDRESS:PORT", help="a server that is not read, tried from each local address"
    )
    asked.add_argument(
        "--from", dest="start", default=LOCAL, metavar="HOST", help="the host that tries --remote"
    )
    asked.add_argument(
        "--inventory", help="every pair of an mptcp-lab inventory that should speak MPTCP (in a checkout)"
    )
    shown = parser.add_argument_group("output")
    shown.add_argument("--json", action="store_true", help="print a JSON document (doctor.schema.json)")
    shown.add_argument(
        "--all", action="store_true", help="print every finding whole, whatever the screen's size"
    )
    shown.add_argument(
        "--record", type=Path, metavar="FILE", help="write all readings as JSON, secrets excluded"
    )
    shown.add_argument("--bundle", type=Path, metavar="FILE", help="write an archive for a bug report")
    shown.add_argument("--conceal", action="store_true", help="replace addresses and names in the bundle")
    ways = parser.add_argument_group("SSH")
    ways.add_argument("-F", "--ssh-config", metavar="FILE", help="another configuration of ssh, as ssh -F")
    ways.add_argument(
        "-o", dest="ssh_option", action="append", default=[], metavar="OPTION", help="as ssh -o"
    )
    return parser


def _port(text: str) -> int:
    """Return a port number, for argparse."""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 1 to 65535")
    return int(text)


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
