"""Run a proxy's program with an access rule that denies one of a client's addresses."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from mptcp_lab.errors import Unsupported
from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NeverHappened, RunResult, eventually
from mptcp_lab.suite.packets import segments
from mptcp_lab.suite.proxy.balancing import begin
from mptcp_lab.suite.proxy.targets import PROXY_TARGETS
from mptcp_lab.suite.state.units import listeners
from mptcp_lab.suite.traffic import Flow, Target
from mptcp_lab.wire import MpCapable

#: The listeners whose program is run: it listens with MPTCP by its own configuration.
NATIVE_TARGETS = tuple(name for name in PROXY_TARGETS if name.endswith("-native"))
#: A port at which no service of a lab listens.
PORT = 7990
#: How long the program may run, if nobody stops it before.
MOST_SECONDS = 30.0
STARTS_WITHIN_SECONDS = 5.0
#: How much of a stream has to arrive from the denied address alone: more than was under way.
ALONE_BYTES = 200_000
ALONE_WITHIN_SECONDS = 5.0

#: Runs a program with the configuration from standard input until somebody connects to the abstract socket
#: with the name in the first argument. Configuration and PID file are in memory, so nothing is left behind.
RUNNER = """
import os, socket, subprocess, sys
name, *command = sys.argv[1:]
configuration = os.memfd_create(name, 0)
os.write(configuration, sys.stdin.read().encode())
pid_file = os.memfd_create(name, 0)
words = [word.replace("PID_FILE", f"/proc/self/fd/{pid_file}") for word in command]
with socket.socket(socket.AF_UNIX) as stop:
    stop.bind("\\0" + name)
    stop.listen()
    program = subprocess.Popen([*words, f"/proc/self/fd/{configuration}"], pass_fds=[configuration, pid_file])
    stop.accept()
    program.terminate()
    program.wait()
"""
STOPPER = "import socket, sys; socket.socket(socket.AF_UNIX).connect('\\0' + sys.argv[1])"

OPTIONS = {"haproxy": ("-db", "-f"), "nginx": ("-g", "daemon off; pid PID_FILE;", "-c")}
CONFIGURATIONS = {
    "haproxy": """
global
    maxconn 100
    log stdout format raw local0
defaults
    mode tcp
    log global
    option tcplog
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen rules
{listen}
    tcp-request connection reject if {{ src {denied} }}
    server t1 {origin}
""",
    "nginx": """
include /etc/nginx/modules-enabled/*.conf;
error_log stderr notice;
worker_processes 1;
events {{ worker_connections 100; }}
stream {{
    log_format rules '$remote_addr:$remote_port $status $bytes_received';
    access_log /dev/stdout rules;
    proxy_buffer_size 1m;
    server {{
{listen}
        deny {denied};
        allow all;
        proxy_pass {origin};
    }}
}}
""",
}
LISTEN = {"haproxy": "    bind mptcp4@{}:{}", "nginx": "        listen {}:{} multipath;"}


@dataclass
class Ruled:
    """A proxy's program that denies an address: where it listens, and its log once it has ended."""

    target: Target
    denied: str
    log: list[str] = field(default_factory=list)

    def lines_with(self, address: str) -> list[str]:
        """Return the lines of the log that name an address of the client, and no refusal (nginx's 403)."""
        return [line for line in self.log if f"{address}:" in line and " 403 " not in line]

    def is_served(self, client: Machine) -> bool:
        """Return whether a new connection from the denied address has an answer."""
        to = (self.target.address, self.target.port, uuid.uuid4().hex, 1)
        return bool(begin(client, *to, source=self.denied, within=STARTS_WITHIN_SECONDS).wait().completed)


@contextmanager
def denying_address(target: Target, denied: str) -> Iterator[Ruled]:
    """Run the program of a target's engine on its host in the block, with a rule that denies an address."""
    probe, engine, name = target.machine.probe, target.service.engine, f"mptcp-lab-{uuid.uuid4().hex}"
    addresses = [str(nic.address()) for nic in target.machine.paths if nic.ipv4]
    configuration = CONFIGURATIONS[engine].format(
        listen="\n".join(LISTEN[engine].format(address, PORT) for address in addresses),
        denied=denied,
        origin=f"{_origin_address(target)}:{target.origin_service.port}",
    )
    main = f"/proc/$(systemctl show --property=MainPID --value {PROXIES[engine].unit})/exe"
    program = probe.run(["sh", "-c", f"readlink {main}"]).stdout.strip()
    command = ["python3", "-c", RUNNER, name, program, *OPTIONS[engine]]
    running = probe.start("run", argv=command, timeout=MOST_SECONDS, stdin=configuration)
    ruled = Ruled(replace(target, service=replace(target.service, port=PORT)), denied)
    try:
        eventually(
            lambda: listeners(probe)[0],
            until=lambda found: {(address, PORT) for address in addresses} <= found,
            within=STARTS_WITHIN_SECONDS,
            what=f"MPTCP listeners of {program} on port {PORT}",
        )
        yield ruled
    finally:
        probe.run(["python3", "-c", STOPPER, name])
        ended = running.read(RunResult, MOST_SECONDS)
        ruled.log = [line for line in ended.stdout.splitlines() if line]


def _origin_address(target: Target) -> str:
    """Return the address of the backend in a target's service."""
    for nic in target.origin.host.nics:
        if nic.up and nic.ipv4 and target.machine.host.nic_on(nic.segment):
            return str(nic.address())
    raise Unsupported("an IPv4 segment with the proxy", "the inventory gives it none", target.origin.name)


def carries_alone(ruled: Ruled, client: Machine, data: Flow) -> bool:
    """Return whether a stream goes on from the denied address, while the proxy drops what the first sends."""
    eventually(
        data.pairs,
        until=lambda pairs: ruled.denied in {local for local, _ in pairs},
        within=STARTS_WITHIN_SECONDS,
        what=f"subflows, with one from {ruled.denied}",
    )
    with ruled.target.machine.probe.fault("drop", source=client.address(0)):
        try:
            data.wait_for_bytes(ALONE_BYTES, ALONE_WITHIN_SECONDS)
        except NeverHappened:
            return False
    return True


@dataclass(frozen=True)
class Seen:
    """The data that one address of a client sent in a capture: octets of payload, and packets with keys."""

    octets: int
    with_keys: int


def seen_from(captured: bytes, address: str) -> Seen:
    """Return what a packet filter on the path of a client's address sees of a connection to `PORT`."""
    sent = [each for each in segments(captured) if str(each.src) == address and each.dport == PORT]
    keys = [o for each in sent for o in each.options if isinstance(o, MpCapable) and o.sender_key is not None]
    return Seen(sum(each.payload_length for each in sent), len(keys))
