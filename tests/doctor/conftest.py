"""Fixtures: two hosts with real sshds, a silent MPTCP service, and an ssh_config that names them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.probe.hosts import Host, Keys, Pair, make_pair

PORT = 7000
FIRST_ENDPOINT = "mptcp endpoint add 198.18.1.1 dev eth1 subflow fullmesh"
#: It accepts MPTCP connections on all addresses, reads them to their end, and never sends.
SERVICE = f"""
import socket, threading
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
listener.bind(("0.0.0.0", {PORT}))
listener.listen()
print("up", flush=True)
def read(connection):
    while connection.recv(1000):
        pass
    connection.close()
while True:
    threading.Thread(target=read, args=listener.accept()[:1], daemon=True).start()
"""


@dataclass(frozen=True)
class Site:
    """Two hosts, as ssh names them, and the file with these names."""

    pair: Pair
    config: Path

    @property
    def client(self) -> str:
        return self.pair.client.name

    @property
    def server(self) -> str:
        return self.pair.server.name

    def arguments(self, *more: str) -> list[str]:
        """Return the arguments that examine both hosts."""
        return ["-F", str(self.config), self.client, self.server, "--port", str(PORT), *more]


def describe_host(host: Host) -> str:
    """Return the lines of ssh_config about a host."""
    target = host.target()
    lines = {
        "ProxyCommand": f"nc -U {target.unix_socket}",
        "User": "root",
        "IdentityFile": target.identities[0],
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": target.known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "LogLevel": "ERROR",
    }
    return "\n".join([f"Host {host.name}", *(f"    {key} {value}" for key, value in lines.items()), ""])


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with ExitStack() as stack:
        pair = make_pair(Keys.make(folder), stack, "doc")
        pair.client.ip(FIRST_ENDPOINT)
        service = subprocess.Popen(
            pair.server.inside([sys.executable, "-c", SERVICE]), stdout=subprocess.PIPE, text=True
        )
        stack.callback(service.wait)
        stack.callback(service.kill)
        assert service.stdout is not None
        assert service.stdout.readline() == "up\n"
        config = folder / "ssh_config"
        config.write_text(describe_host(pair.client) + describe_host(pair.server))
        yield Site(pair, config)
