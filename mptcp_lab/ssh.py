"""SSH to lab hosts: over TCP, a jump host, a proxy command or a Unix socket; host keys always checked."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import paramiko

from mptcp_lab.errors import LabBroken
from mptcp_lab.patience import patient

KEEPALIVE_SECONDS = 5


@dataclass(frozen=True)
class Target:
    """How to reach a host.

    ``unix_socket`` goes before ``proxy_command`` (of the shell; it talks to the host's sshd), and that before
    ``address``. Who logs in shows the ``identities`` in turn, then the keys of the SSH agent.
    ``known_hosts`` must hold the host's key under its ``host_key_alias``, where it has one, else under its
    name, its address, or ``[address]:port``. ``become`` asks for root by ``sudo -n``.
    """

    name: str
    user: str
    address: str | None
    port: int
    unix_socket: Path | None
    identities: tuple[Path, ...]
    known_hosts: Path
    jump: Target | None = None
    proxy_command: str = ""
    host_key_alias: str = ""
    become: bool = False

    def names(self) -> list[str]:
        """The names under which known_hosts may hold the host's key."""
        if self.host_key_alias:
            return [self.host_key_alias]
        names = [self.name]
        if self.address is not None:
            names.append(self.address if self.port == 22 else f"[{self.address}]:{self.port}")
        return names


class SshFailed(LabBroken):
    """A host cannot be reached or must not be trusted; the run cannot go on without it."""


def connect(target: Target, within: float = 10.0) -> paramiko.Transport:
    """An authenticated connection. Raises SshFailed: unreachable, key unknown or changed, login refused."""
    within = patient(within)
    keys = _known_keys(target)
    sock = _open_socket(target, within)
    transport = paramiko.Transport(sock)
    try:
        transport.banner_timeout = transport.auth_timeout = within
        options = transport.get_security_options()
        # ask for a key of a kind that is known, else a server with several keys shows an unknown one
        options.key_types = [kind for kind in options.key_types if _base(kind) in keys]
        transport.start_client(timeout=within)
        _check_host_key(target, transport, keys)
        _log_in(target, transport)
    except paramiko.SSHException as error:
        transport.close()
        raise SshFailed(f"SSH failed: {error}", target.name, "look at the host's sshd journal") from None
    except BaseException:
        transport.close()
        raise
    transport.set_keepalive(round(patient(KEEPALIVE_SECONDS)))
    return transport


def _base(key_type: str) -> str:
    """The kind of key behind a signature algorithm: rsa-sha2-512 is made with an ssh-rsa key."""
    return "ssh-rsa" if key_type.startswith("rsa-sha2-") else key_type


def _known_keys(target: Target) -> dict[str, paramiko.PKey]:
    try:
        known = paramiko.HostKeys(str(target.known_hosts))
    except OSError as error:
        raise SshFailed(
            f"cannot read known hosts {target.known_hosts}: {error.strerror}", target.name, "bring the lab up"
        ) from None
    keys: dict[str, paramiko.PKey] = {}
    for name in target.names():
        keys.update(known.lookup(name) or {})
    if not keys:
        wanted = " or ".join(target.names())
        raise SshFailed(
            f"{target.known_hosts} holds no host key for {wanted}",
            target.name,
            f"compare the host's key by another way, then add it (ssh-keyscan) to {target.known_hosts}",
        )
    return keys


def _open_socket(target: Target, within: float) -> socket.socket | paramiko.Channel:
    """The connected byte stream below SSH."""
    if target.unix_socket is not None:
        place, sock = str(target.unix_socket), socket.socket(socket.AF_UNIX)
        sock.settimeout(within)
        try:
            sock.connect(place)
        except OSError as error:
            sock.close()
            raise SshFailed(f"nothing answers on {place}: {error}", target.name, "bring the lab up") from None
        return sock
    if target.proxy_command:
        return _spoken_by(target.proxy_command)
    if target.address is None:
        raise SshFailed("neither an address nor a Unix socket is given", target.name, "set ansible_host")
    place = f"{target.address} port {target.port}"
    try:
        if target.jump is not None:
            behind = connect(target.jump, within)
            return behind.open_channel(
                "direct-tcpip", (target.address, target.port), ("127.0.0.1", 0), timeout=within
            )
        sock = socket.create_connection((target.address, target.port), within)
    except (OSError, paramiko.SSHException) as error:
        raise SshFailed(
            f"{place} does not answer: {error}", target.name, "check that the host is up"
        ) from None
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _spoken_by(command: str) -> socket.socket:
    """A socket whose other end is a command's standard input and output; the command ends with it."""
    ours, theirs = socket.socketpair()
    with theirs:
        end = theirs.fileno()
        subprocess.Popen(["sh", "-c", f"exec {command}"], stdin=end, stdout=end, start_new_session=True)
    return ours


def _check_host_key(target: Target, transport: paramiko.Transport, keys: dict[str, paramiko.PKey]) -> None:
    shown = transport.get_remote_server_key()
    if keys.get(shown.get_name()) != shown:
        raise SshFailed(
            f"its {shown.get_name()} key {shown.fingerprint} is not the one in {target.known_hosts}",
            target.name,
            "find out why before you trust it; a host that was made anew needs its new key there",
        )


def _log_in(target: Target, transport: paramiko.Transport) -> None:
    """Show one key after the other, as OpenSSH does. Raises SshFailed, with what became of each."""
    refused = []
    for path in target.identities:
        try:
            transport.auth_publickey(target.user, paramiko.PKey.from_path(path))
            return
        except paramiko.PasswordRequiredException:
            refused.append(f"{path} has a passphrase (ssh-add it)")
        except paramiko.AuthenticationException:
            refused.append(f"{path} is not in the user's authorized_keys")
        except (OSError, ValueError, paramiko.pkey.UnknownKeyType) as error:
            refused.append(f"{path} cannot be used: {error}")
    for agent_key in paramiko.Agent().get_keys():
        with contextlib.suppress(paramiko.AuthenticationException):
            transport.auth_publickey(target.user, agent_key)
            return
    refused.append("no key of an SSH agent is in it either")
    raise SshFailed(f"login as {target.user} refused", target.name, "; ".join(refused))
