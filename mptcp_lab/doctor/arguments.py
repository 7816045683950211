"""The arguments of ``mptcp-lab doctor``, and its help: the manual page of the command."""

from __future__ import annotations

import argparse
from pathlib import Path

from mptcp_lab.probe.openssh import LOCAL

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
  It reads kernel, sysctls, limits, endpoints, addresses, routes, packet filters, counters, listeners,
  their programs and units, and connections of the port. As with ss(8) and nft(8), the kernel may load
  modules for what is read.

WHAT IT SENDS
  connections   One with MPTCP to the port, without payload: it opens, waits at most 2 seconds for its
                subflows, and closes, which the service sees as a client that left. One more over the
                other IP version, and one with plain TCP where the first one fails.
  ARP probes    From each host, on each of its devices, for its own IPv4 addresses (at most 16), as
                duplicate address detection does (RFC 5227): who answers has the same address. A probe
                names no sender, so that it enters no neighbour table.
  datagrams     On each path that came up, UDP to the closed port 9 of the server, one of 64 octets and
                one as large as the client's device takes: paths that swallow the large ones are named.
  With --remote only connections are made, from one host, and ARP probes for that host's addresses.

FINDINGS
  A finding has a severity: error (no MPTCP, or no connection), warning (a path or a service is lost),
  note (a risk). "on HOST" is the command that repairs it, as root; "keep it" the one that keeps it so
  after a boot, where the repair does not last by itself; "seen" is the evidence; "hence" lists
  its consequences. (likely) and (possible) say how sure a finding is where it was not seen happening.
  The worst comes first, in at most a screen: --all prints everything. Nothing is repaired by the
  doctor itself.
"""
EPILOG = """\
EXIT STATUS
  0  healthy: no finding
  1  there are findings
  2  wrong arguments
  4  a host could not be reached or read; one sentence on standard error names the host and the reason

EXAMPLES
  mptcp-lab doctor laptop web1 --port 443
      The connection from laptop to web1.
  mptcp-lab doctor laptop web1 --via edge1 --port 443 --server-port 8443
      laptop connects to edge1 on port 443, and edge1 to web1 on port 8443: both are examined.
  mptcp-lab doctor localhost web1 --port 443 --json
      From this machine, as JSON.
  mptcp-lab doctor --remote 203.0.113.5:443
      A server that you cannot log in to, from each address of this machine.
  mptcp-lab doctor laptop web1 --port 443 --bundle report.tar.gz --conceal
      Also write what MPTCP maintainers ask for, with addresses replaced.
  mptcp-lab doctor admin@198.51.100.7 web1 --port 443 -F ./ssh_config -o ConnectTimeout=20
      With ssh's configuration of another file, and an option of ssh.

FILES
  ~/.ssh/config, ~/.ssh/known_hosts   are ssh's own; the doctor has no configuration.
  --record FILE, --bundle FILE        are readable by you only (mode 0600). Private keys, passwords
                                      and tokens are never in them. Addresses and names are; --conceal
                                      replaces them in a bundle.

SEE ALSO
  ssh_config(5), ip-mptcp(8), ss(8), nstat(8), mptcpize(8), docs/doctor.md, docs/troubleshooting.md
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
        "--address",
        default="",
        metavar="ADDRESS",
        help="the address to connect to (default: one that the service listens on)",
    )
    asked.add_argument(
        "--remote", metavar="ADDRESS:PORT", help="a server that is not read, tried from each local address"
    )
    asked.add_argument(
        "--from",
        dest="start",
        default=LOCAL,
        metavar="HOST",
        help="the host that tries --remote (default: this machine)",
    )
    asked.add_argument(
        "--inventory",
        metavar="INVENTORY",
        help="a path, or a name under inventories/: every pair of this lab that should speak MPTCP (in a "
        "checkout only; there is no default)",
    )
    shown = parser.add_argument_group("output")
    shown.add_argument(
        "--json", action="store_true", help="print a JSON document (doctor.schema.json of the package)"
    )
    shown.add_argument(
        "--all", action="store_true", help="print every finding whole, whatever the screen's size"
    )
    shown.add_argument(
        "--record", type=Path, metavar="FILE", help="write all readings as JSON, without secrets"
    )
    shown.add_argument("--bundle", type=Path, metavar="FILE", help="write a tar.gz for a bug report")
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
