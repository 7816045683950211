"""Hosts of a user are reached as the user's ssh_config says: over jump hosts, by ports, with few keys."""

from __future__ import annotations

import configparser
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mptcp_lab.errors import LabBroken, LabError
from mptcp_lab.inventory import load
from mptcp_lab.labs.lab_paths import LabPaths
from mptcp_lab.machines import reach
from mptcp_lab.machines.reach import check_host, resolve
from mptcp_lab.paths import ROOT
from mptcp_lab.probe.ssh import SshFailed, SshTarget, connect
from tests.probe.hosts import make_key

HOPS = ("first", "second", "host")


def resolved(folder: Path, text: str, name: str = "host") -> SshTarget:
    """Return how a host is reached by an ssh_config."""
    config = folder / "config"
    config.write_text(text)
    return resolve("inventory-name", ["-F", str(config), name])


def chain(target: SshTarget) -> list[tuple[str | None, int, str]]:
    """Return address, port and user of the target and of the hops before it, the target first."""
    found = []
    each: SshTarget | None = target
    while each is not None:
        found.append((each.address, each.port, each.user))
        each = each.jump
    return found


@pytest.mark.parametrize(
    ("jump", "before"),
    [
        ("gate", [("192.0.2.9", 22, "root")]),
        ("gate:2200", [("192.0.2.9", 2200, "root")]),
        ("me@gate:2200", [("192.0.2.9", 2200, "me")]),
        ("ssh://me@gate:2200", [("192.0.2.9", 2200, "me")]),
        ("[2001:db8::1]:2200", [("2001:db8::1", 2200, "root")]),
        ("ssh://me@gate", [("192.0.2.9", 22, "me")]),
        ("one:1,me@two:2,gate:3", [("192.0.2.9", 3, "root"), ("two", 2, "me"), ("one", 1, "root")]),
        ("inner", [("inner", 22, "root"), ("192.0.2.9", 7, "me")]),
        ("none", []),
    ],
)
def test_jump_hosts(tmp_path: Path, jump: str, before: list[tuple[str, int, str]]) -> None:
    text = f"Host host\n ProxyJump {jump}\nHost gate\n HostName 192.0.2.9\nHost inner\n ProxyJump me@gate:7\n"
    found = resolved(tmp_path, text + "Host *\n User root\n")
    assert chain(found) == [("host", 22, "root"), *before]


def test_a_jump_host_that_leads_to_itself_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LabBroken, match="jumphost loop"):  # OpenSSH's own words
        resolved(tmp_path, "Host *\n ProxyJump gate\n")
    with pytest.raises(LabBroken, match="does one lead to itself"):
        resolved(tmp_path, "Host host\n ProxyJump gate\nHost gate\n ProxyJump host\n")


def test_files_of_keys_and_the_agent(tmp_path: Path) -> None:
    text = (
        "Host host\n UserKnownHostsFile /a /b\n GlobalKnownHostsFile /c\n IdentitiesOnly yes\n"
        f' IdentityFile "{tmp_path}/config"\n HostKeyAlias other\n IdentityAgent none\n'
    )
    found = resolved(tmp_path, text)
    assert (found.known_hosts, found.more_known_hosts) == (Path("/a"), (Path("/b"), Path("/c")))
    assert (found.identities, found.identities_only) == ((tmp_path / "config",), True)
    assert (found.host_key_alias, found.agent) == ("other", "none")
    assert found.names() == ["other"]
    assert not resolved(tmp_path, "").identities_only


@dataclass
class Server:
    """An sshd on the loopback, with a key of its own."""

    name: str
    port: int
    key: str
    log: Path


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Server]]]:
    folder = tmp_path_factory.mktemp("jumps")
    client = make_key(folder / "client")
    (folder / "authorized_keys").write_text(client + "\n")
    Path("/run/sshd").mkdir(exist_ok=True)
    with ExitStack() as stack:
        made = []
        for name in HOPS:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            server = Server(name, port, make_key(folder / name), folder / f"{name}.log")
            (folder / f"{name}.sshd").write_text(
                f'ListenAddress 127.0.0.1\nPort {port}\nHostKey "{folder}/{name}"\nUsePAM no\n'
                f'AuthorizedKeysFile "{folder}/authorized_keys"\nStrictModes no\n'
                "PidFile none\nPermitRootLogin yes\n"
            )
            command = ["/usr/sbin/sshd", "-D", "-f", f"{folder}/{name}.sshd", "-E", str(server.log)]
            process = subprocess.Popen(command)
            stack.callback(process.wait)
            stack.callback(process.kill)
            made.append(server)
            wait_for(port)
        yield folder, made


def wait_for(port: int) -> None:
    """Wait until something listens on a port of the loopback."""
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_several_hops_by_their_ports_really_connect(servers: tuple[Path, list[Server]]) -> None:
    folder, (first, second, host) = servers
    known = [f"[127.0.0.1]:{each.port} {each.key}\n" for each in (first, second, host)]
    (folder / "known_hosts").write_text("".join(known))
    text = (
        f"Host host\n HostName 127.0.0.1\n Port {host.port}\n"
        f" ProxyJump 127.0.0.1:{first.port},root@127.0.0.1:{second.port}\n"
        f'Host *\n User root\n IdentityFile "{folder}/client"\n IdentitiesOnly yes\n IdentityAgent none\n'
        f' UserKnownHostsFile "{folder}/known_hosts"\n GlobalKnownHostsFile /dev/null\n'
    )
    target = resolved(folder, text)
    transport = connect(target)
    channel = transport.open_session()
    channel.exec_command("echo $SSH_CONNECTION")
    assert str(host.port).encode() in channel.makefile("rb").read()
    transport.close()
    assert all("Accepted publickey" in each.log.read_text() for each in (first, second, host))
    # A hop whose key is not known ends it, whatever the configuration allows.
    (folder / "known_hosts").write_text("".join(known[1:]))
    with pytest.raises(SshFailed, match="holds no host key"):
        connect(resolved(folder, text + " StrictHostKeyChecking no\n"))


def test_a_lax_configuration_does_not_reach_ansible(tmp_path: Path) -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "ansible.cfg")
    arguments = shlex.split(parser["ssh_connection"]["ssh_args"])
    config = tmp_path / "config"
    config.write_text("Host *\n ForwardAgent yes\n ForwardX11 yes\n StrictHostKeyChecking no\n")
    # Ansible puts these first; what it adds afterwards, and the user's files, count where they say nothing.
    command = ["ssh", *arguments, "-o", "StrictHostKeyChecking=no", "-F", str(config), "-G", "host"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert {"forwardagent no", "forwardx11 no", "stricthostkeychecking true"} <= set(said)


def test_a_name_that_is_no_host_of_the_lab_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else ssh would look it up outside the lab, and run the command there."""
    paths = LabPaths(tmp_path, "embedded")
    monkeypatch.setattr(reach, "lab_paths", lambda _: paths)
    lab = load(ROOT / "inventories/embedded")
    with pytest.raises(LabBroken, match=r"the lab is not up; next: \./lab up"):
        check_host(lab, "client")
    paths.state.mkdir(parents=True)
    (paths.state / "ssh_config").touch()
    check_host(lab, "client")
    check_host(lab, "me@client")
    for name in ("server9", "column"):
        with pytest.raises(LabError, match=f"no host {name} is in the lab; next: name one of client, "):
            check_host(lab, name)
    paths.column.touch()
    check_host(lab, "column")
