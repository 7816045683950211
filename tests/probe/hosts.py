"""Hosts for the tests: network namespaces, each with a real sshd behind a Unix socket."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mptcp_lab.probe import NetworkState, Probe, changes, eventually
from mptcp_lab.probe.ssh import SshTarget

PATHS = (1, 2)
# Duplicate address detection is off, so that an IPv6 address is usable as soon as its link is up.
HOLD = (
    "mount -t tmpfs run /run && mkdir /run/sshd && ip link set lo up"
    " && echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad && echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad"
    " && echo up && exec sleep infinity"
)


def tool(*argv: str) -> str:
    """Run a command that must succeed, and return its standard output."""
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def make_key(path: Path) -> str:
    """Generate a key pair, and return the public key as "type base64"."""
    tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


@dataclass(frozen=True)
class Keys:
    """The key pairs of the SSH client and the SSH server, in a folder."""

    folder: Path
    client: str
    server: str

    @classmethod
    def make(cls, folder: Path) -> Keys:
        return cls(folder, make_key(folder / "client"), make_key(folder / "server"))


class Host:
    """A network namespace with a private /run. Every SSH connection starts an ``sshd -i`` inside."""

    def __init__(self, name: str, keys: Keys) -> None:
        self.name = name
        self.keys = keys
        self.folder = keys.folder / name
        self.folder.mkdir()
        self.servers: list[subprocess.Popen[bytes]] = []
        tool("ip", "netns", "add", name)
        # It keeps the mount namespace in which /run (fault records, lease, origin sockets) is private.
        self._holder = subprocess.Popen(
            ["ip", "netns", "exec", name, "unshare", "--mount", "sh", "-c", HOLD],
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"up\n"
        self._socket = socket.socket(socket.AF_UNIX)
        # A socket's path must be short, and the folders of tests may lie deep.
        self._socket_folder = Path(tempfile.mkdtemp(prefix="prb", dir="/run"))
        self.socket = self._socket_folder / "ssh"
        self._socket.bind(str(self.socket))
        self._socket.listen()
        self._write_config()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _write_config(self) -> None:
        keys = self.folder / "authorized_keys"
        keys.write_text(self.keys.client + "\n")
        (self.folder / "sshd_config").write_text(
            f"HostKey {self.keys.folder}/server\nAuthorizedKeysFile {keys}\nStrictModes no\nUsePAM no\n"
            "PermitRootLogin yes\nPasswordAuthentication no\nLogLevel ERROR\n"
        )

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.servers.append(
                    subprocess.Popen(
                        self.inside(["/usr/sbin/sshd", "-i", "-e", "-f", str(self.folder / "sshd_config")]),
                        stdin=connection.fileno(),
                        stdout=connection.fileno(),
                        stderr=subprocess.DEVNULL,
                        start_new_session=True,
                    )
                )

    def inside(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs ``argv`` on this host."""
        return ["nsenter", f"--target={self._holder.pid}", "--mount", "--net", *argv]

    def run(self, *argv: str) -> str:
        """Run a command on this host that must succeed, and return its standard output."""
        return tool(*self.inside(argv))

    def ip(self, command: str) -> None:
        """Run ``ip`` in the host's network namespace."""
        tool("ip", "-n", self.name, *command.split())

    def settled_links(self) -> int:
        """Return how many links have a usable IPv6 link-local address, which they get with their carrier."""
        lines = self.run(
            "ip", "-6", "-o", "address", "show", "up", "scope", "link", "-tentative"
        ).splitlines()
        return sum(" tentative" not in line for line in lines)

    def target(self) -> SshTarget:
        """Write the host's known_hosts file, and return the SSH target of the host."""
        known = self.folder / "known_hosts"
        known.write_text(f"{self.name} {self.keys.server}\n")
        return SshTarget(
            name=self.name,
            user="root",
            address=None,
            port=22,
            unix_socket=self.socket,
            identities=(self.keys.folder / "client",),
            known_hosts=known,
        )

    def processes(self) -> list[int]:
        """Return the ids of all processes on this host."""
        return [int(pid) for pid in tool("ip", "netns", "pids", self.name).split()]

    def signal_session(self, number: int) -> None:
        """Send a signal to all processes on this host except the one that holds its namespaces."""
        for pid in self.processes():
            if pid != self._holder.pid:
                with contextlib.suppress(ProcessLookupError):  # the process has ended in the meantime
                    os.kill(pid, number)

    def remove(self) -> None:
        """Remove the host: its socket, processes and namespaces."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        shutil.rmtree(self._socket_folder)
        self._thread.join()
        self.signal_session(signal.SIGKILL)
        for server in self.servers:
            server.wait()
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()
        tool("ip", "netns", "del", self.name)


@dataclass(frozen=True)
class Pair:
    """Client A and server B with two paths: 198.18.<path>.1 and .2, 2001:db8:<path>::1 and ::2."""

    client: Host
    server: Host


def make_pair(keys: Keys, stack: ExitStack, name: str = "") -> Pair:
    """Return two hosts with a link per path, endpoints and limits, which the stack removes.

    The client's endpoint on path 2 is fullmesh, the server announces its address on path 2.
    """
    client = Host(f"prb{name}-{os.getpid()}-a", keys)
    stack.callback(client.remove)
    server = Host(f"prb{name}-{os.getpid()}-b", keys)
    stack.callback(server.remove)
    for path in PATHS:
        client.ip(f"link add eth{path} type veth peer name eth{path} netns {server.name}")
        for number, host in ((1, client), (2, server)):
            host.ip(f"address add 198.18.{path}.{number}/24 dev eth{path}")
            host.ip(f"address add 2001:db8:{path}::{number}/64 dev eth{path} nodad")
            host.ip(f"link set eth{path} up")
    for host in (client, server):
        host.ip("mptcp limits set subflows 8 add_addr_accepted 8")
    client.ip("mptcp endpoint add 198.18.2.1 dev eth2 subflow fullmesh")
    server.ip("mptcp endpoint add 198.18.2.2 dev eth2 signal")
    for host in (client, server):
        eventually(
            host.settled_links, lambda number: number == len(PATHS), within=5, what="carrier everywhere"
        )
    return Pair(client, server)


def returns_to(probe: Probe, state: NetworkState, within: float) -> None:
    """Wait until a host's network state is `state` again: link-local addresses return after their link."""
    eventually(
        lambda: changes(state, probe.network_state()), lambda found: not found, within, "network state"
    )
