"""Test that a stranger on a path cannot bring routes and addresses, or reach the management network."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mptcp_lab.paths import ROOT
from mptcp_lab.probe import eventually
from tests.e2e.attacker import ADVERTISE, DEVICE, Attacker, attacker, behind
from tests.e2e.conftest import Configured, environment, suite_run
from tests.e2e.leaving import LEAVING

PREFIX = "2001:db8:bad::/64"
PORT = 9999
#: Prints what each datagram says, until one says "end"; arguments: PORT.
RECEIVE = """
import socket, sys

with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", int(sys.argv[1])))
    print("ready", flush=True)
    while (word := server.recv(100).decode()) != "end":
        print(word, flush=True)
"""
#: Sends one datagram; arguments: ADDRESS PORT WORD.
SEND = """
import socket, sys

host, port, word = sys.argv[1:]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
socket.socket(family, socket.SOCK_DGRAM).sendto(word.encode(), (host, int(port)))
"""
#: Sends bad PROXY headers, each over its own connection, and leaves as many half-sent greetings open until
#: they have all arrived; arguments: ADDRESS PORT COUNT. Prints how many connections the server ended.
BOMBS = r"""
import socket, sys

to, count = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3])
V2 = b"\r\n\r\n\0\r\nQUIT\n"
BAD = (
    V2 + b"\x21\x11\x00\x08" + bytes(8),  # a TCP over IPv4 block without its ports
    V2 + b"\x21\x21\xff\xff" + bytes(64),  # longer than what comes
    V2 + b"\x21\x7f\x00\x00",  # an unknown family
    b"PROXY TCP4 a b c d\r\n",
    b"PROXY TCP4 198.18.1.66 198.18.1.66 -1 99999999999999999999\r\n",
    b"PROXY " + b"x" * 2000,
)
half = [socket.create_connection(to, 10) for _ in range(count)]
for sock in half:
    sock.send(V2[:7])
ended = 0
for number in range(count):
    with socket.create_connection(to, 10) as sock:
        try:
            sock.sendall(BAD[number % len(BAD)])
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                pass
        except ConnectionError:
            pass
        ended += 1
print(ended)
"""


def forwarded(lab: Configured, stranger: Attacker, neighbour: Attacker, host: str) -> list[str]:
    """Return which of two datagrams to a host's management neighbour arrive: one by IPv4, one by IPv6.

    The host itself sends the last one, over the same NIC: what it forwards has arrived before.
    """
    with neighbour.start(RECEIVE, str(PORT)) as receiver:
        assert receiver.stdout is not None
        try:
            assert receiver.stdout.readline() == "ready\n"
            stranger.python(SEND, neighbour.ipv4, str(PORT), "IPv4")
            stranger.python(SEND, neighbour.ipv6, str(PORT), "IPv6")
            stranger.settled()
            lab.own.ssh(host, f"python3 -c {shlex.quote(SEND)} {neighbour.ipv4} {PORT} end")
            output, _ = receiver.communicate(timeout=30)
        finally:
            receiver.kill()
    return sorted(output.split())


@pytest.mark.parametrize("host", ["gateway", "proxy1"])
def test_packets_of_a_path_do_not_reach_management(configured: Configured, host: str) -> None:
    """Without the filter they do: the test is not blind."""
    nic = configured.own.lab.hosts[host].nics[0]
    with attacker(configured.own) as stranger, behind(configured.own, host) as neighbour:
        stranger.route("203.0.113.0/24", str(nic.ipv4.ip))
        stranger.route("2001:db8:113::/64", str(nic.ipv6.ip))
        assert forwarded(configured, stranger, neighbour, host) == []
        configured.own.ssh(host, "nft delete table inet mptcp_lab_gateway")
        red = configured.suite("--claim=STATE-6")
        assert forwarded(configured, stranger, neighbour, host) == ["IPv4", "IPv6"]
        configured.own.ssh(host, "systemctl restart mptcp-lab-gateway")
        assert forwarded(configured, stranger, neighbour, host) == []
    assert red.verdicts() == {"STATE-6": "fail"}, red.output
    assert f"{host} forwards between all NICs" in red.reason("STATE-6")


def test_bad_proxy_headers_end_their_own_connections_only(configured: Configured) -> None:
    """An unauthenticated neighbour sends what once ended the origin; the service and its clients go on."""
    unit, count = "mptcp-lab-origin@seen", 48
    state = f"systemctl show --property=NRestarts,ActiveState,MainPID {unit}"
    before = configured.own.ssh("server2", state)
    with attacker(configured.own) as stranger:
        stranger.route("198.18.10.0/24", "198.18.1.1")
        assert stranger.python(BOMBS, "198.18.10.32", "7002", str(count)).strip() == str(count)
    assert "ActiveState=active" in before
    assert configured.own.ssh("server2", state) == before, "the service ended and was started again"
    run = configured.suite("--claim=PROXY-6")
    assert set(run.verdicts().values()) == {"pass"}, run.output


def addresses(lab: Configured, host: str) -> str:
    return lab.own.ssh(host, "ip -6 -brief address show dev eth1; ip -6 route show dev eth1")


def test_advertisements_change_nothing(configured: Configured) -> None:
    before = addresses(configured, "client")
    counter = "awk '$1 == \"Icmp6InRouterAdvertisements\" { print $2 }' /proc/net/snmp6"
    seen = int(configured.own.ssh("client", counter))
    with attacker(configured.own) as stranger:
        stranger.advertise(PREFIX)
        eventually(lambda: int(configured.own.ssh("client", counter)), lambda now: now > seen, within=10)
        assert addresses(configured, "client") == before
        run = configured.suite("--claim=DIRECT-3", "--claim=STATE-6")
    assert run.verdicts() == {"DIRECT-3": "pass", "STATE-6": "pass"}, run.output


def test_what_an_advertisement_did_is_named_once_and_judges_nobody(
    configured: Configured, tmp_path: Path
) -> None:
    """Where somebody switched it on: one check is inconclusive, names the address, and the others pass."""
    on = "; ".join(f"echo 1 >/proc/sys/net/ipv6/conf/eth1/{name}" for name in ("accept_ra", "autoconf"))
    configured.own.ssh("client", on)
    try:
        with attacker(configured.own) as stranger:
            send = ["ip", "netns", "exec", stranger.netns, sys.executable, "-I", "-c", ADVERTISE]
            leave = [*send, DEVICE, "ff02::1", PREFIX, "1"]
            # The check's own comparison comes next: the address has to be there by then.
            wait = "until ip -6 address show dev eth1 | grep -q db8:bad; do sleep 0.1; done"
            ssh = ["ssh", "-F", str(configured.own.paths.state / "ssh_config"), "client"]
            both = f"{shlex.join(leave)} && {shlex.join([*ssh, wait])}"
            done = subprocess.run(
                configured.suite_command(tmp_path, "--claim=PROXY-6", "-p", "tests.e2e.leaving"),
                capture_output=True,
                text=True,
                cwd=ROOT,
                env={**environment(), LEAVING: json.dumps([[["sh", "-c", both], []]])},
                check=False,
            )
        named = configured.suite("--claim=STATE-4")
    finally:
        configured.play("--limit=client")
    run = suite_run(done.returncode, done.stdout, tmp_path)
    told = [check for check in run.result["checks"] if check["verdict"] == "inconclusive"]
    assert len(told) == 1, run.output
    assert "router advertisements changed hosts while the check ran" in told[0]["reason"]
    assert "client: address 2001:db8:bad:" in told[0]["reason"]
    assert set(run.verdicts().values()) == {"inconclusive", "pass"}, run.output
    assert run.code == 4, run.output
    assert "client: mptcp-lab-network.service: addresses (live): -2001:db8:bad:" in named.reason("STATE-4")
    assert "db8:bad" not in addresses(configured, "client"), "lab.yml takes it away"
