"""Connect to lab hosts by SSH: over TCP, a jump host, a proxy command or a Unix socket.

Host keys are always checked.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import paramiko

from mptcp_lab.errors import LabBroken
from mptcp_lab.patience import patient
from mptcp_lab.probe.known_hosts import (
    CERTIFICATE,
    Fields,
    Line,
    Marker,
    Trust,
    judge,
    parse_certificate,
    plain_key,
    read,
)

KEEPALIVE_SECONDS = 5
SHOWN_MAX = 200
PRIVATE_KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----"
PRIVATE_KEY_MAGIC = b"openssh-key-v1\0"
# The exception of a failed connection contains the error that paramiko's thread would log.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class SshTarget:
    """The parameters of an SSH connection to a host.

    ``unix_socket`` takes precedence over ``proxy_command`` (a shell command connected to the host's sshd),
    and that over ``address``. The login tries the ``identities`` in order, then the keys of the SSH agent.
    The host's key is looked up in ``known_hosts`` and ``more_known_hosts`` by its ``host_key_alias``, else by
    its address (``[address]:port`` for ports other than 22), else by its name if it has no address.
    ``agent`` is the socket of the SSH agent: "" for SSH_AUTH_SOCK, "none" for no agent. With
    ``identities_only``, only the agent's keys for the ``identities`` are tried. ``become`` runs the probe as
    root by ``sudo -n``.
    """

    name: str
    user: str
    address: str | None
    port: int
    unix_socket: Path | None
    identities: tuple[Path, ...]
    known_hosts: Path
    jump: SshTarget | None = None
    proxy_command: str = ""
    host_key_alias: str = ""
    become: bool = False
    more_known_hosts: tuple[Path, ...] = ()
    identities_only: bool = False
    agent: str = ""

    def names(self) -> list[str]:
        """Return the names by which OpenSSH looks up the host's key, in order."""
        if self.host_key_alias:
            return [self.host_key_alias]
        if self.address is None:
            return [self.name]
        return [self.address] if self.port == 22 else [f"[{self.address}]:{self.port}", self.address]


class SshFailed(LabBroken):
    """A host cannot be reached or must not be trusted, so that the run cannot continue."""


class Transport(paramiko.Transport):
    """A connection that requests the known types of host key, and stores the key that the host presented."""

    wanted_keys: tuple[str, ...] = ()
    shown_key: bytes = b""
    jump: paramiko.Transport | None = None

    def close(self) -> None:
        """Close the connection, and then the connection to the jump host below it."""
        super().close()
        if self.jump is not None:
            self.jump.close()

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """Return the host key algorithms to request, in order of preference."""
        return self.wanted_keys

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        self.shown_key = host_key
        super()._verify_key(host_key, sig)  # type: ignore[misc] # not in paramiko's stubs


def connect(target: SshTarget, within: float = 10.0) -> paramiko.Transport:
    """Return an authenticated connection, established within ``within`` seconds per step.

    Raises:
        SshFailed: the host is unreachable, its key is not known, or the login was refused.
    """
    return _connect(target, patient(within))


def _connect(target: SshTarget, within: float) -> paramiko.Transport:
    lines = _known_lines(target)
    sock = _open_socket(target, within)
    try:
        transport = Transport(sock)
    except BaseException:
        sock.close()
        raise
    if isinstance(sock, paramiko.Channel):
        transport.jump = sock.get_transport()
    try:
        transport.banner_timeout = transport.auth_timeout = within
        transport.wanted_keys = _wanted_keys(transport, lines)
        transport.start_client(timeout=within)
        _check_host_key(target, transport, lines)
        _log_in(target, transport)
    except SshFailed:
        transport.close()
        raise
    except Exception as error:  # any protocol error by the other end is a failure of the host
        transport.close()
        what = f"SSH failed: {_describe_error(error)}"
        raise SshFailed(what, target.name, "run `journalctl -u ssh -u sshd` on the host") from None
    except BaseException:
        transport.close()
        raise
    transport.set_keepalive(round(patient(KEEPALIVE_SECONDS)))
    return transport


def _describe_error(error: Exception) -> str:
    """Return an exception's message, made printable because it may quote the peer, or else its type."""
    said = "".join(letter if letter.isprintable() else " " for letter in str(error)).strip()
    if isinstance(error, EOFError) or not said:
        return "the connection was closed during the handshake"
    return said[:SHOWN_MAX]


def _known_lines(target: SshTarget) -> list[Line]:
    """Return the lines of known_hosts that match a host."""
    files = (target.known_hosts, *target.more_known_hosts)
    try:
        known = read(files)
    except OSError as error:
        path = error.filename or target.known_hosts
        raise SshFailed(
            f"cannot read known hosts {path}: {error.strerror}", target.name, "bring the lab up"
        ) from None
    lines = [line for line in known if any(line.is_about(name) for name in target.names())]
    if all(line.marker == Marker.REVOKED for line in lines):
        wanted = " or ".join(target.names())
        raise SshFailed(
            f"{' and '.join(map(str, files))} holds no host key for {wanted}",
            target.name,
            f"verify the host's key over another channel, then add it (ssh-keyscan) to {target.known_hosts}",
        )
    return lines


def _wanted_keys(transport: paramiko.Transport, lines: Iterable[Line]) -> tuple[str, ...]:
    """Return the algorithms to request, so that a server with several keys presents one that is known."""
    kinds = {line.kind for line in lines if line.marker == Marker.NONE}
    has_authority = any(line.marker == Marker.AUTHORITY for line in lines)
    every = [name for name in transport.get_security_options().key_types if not name.endswith(CERTIFICATE)]
    certificates = [name + CERTIFICATE for name in every if has_authority]
    return tuple(certificates + [name for name in every if _base(name) in kinds])


def _base(key_type: str) -> str:
    """Return the key type of a signature algorithm: rsa-sha2-512 uses an ssh-rsa key."""
    return "ssh-rsa" if key_type.startswith("rsa-sha2-") else key_type


def _open_socket(target: SshTarget, within: float) -> socket.socket | paramiko.Channel:
    """Return the connected byte stream below SSH."""
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
            behind = _connect(target.jump, within)
            try:
                return behind.open_channel(
                    "direct-tcpip", (target.address, target.port), ("127.0.0.1", 0), timeout=within
                )
            except BaseException:
                behind.close()
                raise
        sock = socket.create_connection((target.address, target.port), within)
    except (EOFError, OSError, paramiko.SSHException) as error:
        raise SshFailed(
            f"{place} does not answer: {error}", target.name, "check that the host is up"
        ) from None
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _spoken_by(command: str) -> socket.socket:
    """Return a socket connected to a command's standard input and output; closing it ends the command."""
    ours, theirs = socket.socketpair()
    with theirs:
        end = theirs.fileno()
        subprocess.Popen(["sh", "-c", f"exec {command}"], stdin=end, stdout=end, start_new_session=True)
    return ours


def _check_host_key(target: SshTarget, transport: Transport, lines: Sequence[Line]) -> None:
    shown = transport.get_remote_server_key()
    certificate = parse_certificate(transport.shown_key, time.time())
    match judge(lines, target.names(), plain_key(transport.shown_key), certificate):
        case Trust.KNOWN:
            return
        case Trust.REVOKED:
            what = f"its {shown.get_name()} key {shown.fingerprint} is revoked in {target.known_hosts}"
            step = "create a new key on the host; anyone with the revoked key can impersonate it"
        case Trust.CHANGED:
            what = f"its {shown.get_name()} key {shown.fingerprint} is not the one in {target.known_hosts}"
            step = (
                "find out why before you trust it; if the host was reinstalled, replace the key in that file"
            )
        case Trust.UNKNOWN:
            what = (
                f"nothing in {target.known_hosts} vouches for its {shown.get_name()} key {shown.fingerprint}"
            )
            step = "verify the key over another channel, then add it; or renew the host's certificate"
    raise SshFailed(what, target.name, step)


def _log_in(target: SshTarget, transport: paramiko.Transport) -> None:
    """Try one key after the other, as OpenSSH does; raise `SshFailed`, with each key's failure."""
    refused = []
    for path in target.identities:
        try:
            transport.auth_publickey(target.user, paramiko.PKey.from_path(path))
            return
        except (TypeError, paramiko.PasswordRequiredException):  # TypeError: from cryptography
            refused.append(f"{path} has a passphrase (ssh-add it)")
        except paramiko.AuthenticationException:
            refused.append(f"{path} is not in the user's authorized_keys")
        except (OSError, ValueError, paramiko.pkey.UnknownKeyType) as error:
            refused.append(f"{path} cannot be used: {error}")
    for agent_key in _agent_keys(target):
        with contextlib.suppress(paramiko.AuthenticationException):
            transport.auth_publickey(target.user, agent_key)
            return
    refused.append("no key of an SSH agent is in it either; add a public key to it")
    raise SshFailed(f"login as {target.user} refused", target.name, "; ".join(refused))


class _Agent(paramiko.agent.AgentSSH):
    """The SSH agent behind a socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        conn = socket.socket(socket.AF_UNIX)
        conn.connect(path)
        self._connect(conn)  # type: ignore[attr-defined] # not in paramiko's stubs


def _agent_keys(target: SshTarget) -> Iterator[paramiko.PKey]:
    """Yield the agent's keys that may be tried: with ``identities_only``, those of the ``identities``."""
    path = target.agent or os.environ.get("SSH_AUTH_SOCK", "")
    if path in ("", "none"):
        return
    try:
        keys = _Agent(path).get_keys()
    except (EOFError, OSError, ValueError, struct.error, paramiko.SSHException):
        return
    allowed = {blob for each in target.identities for blob in _public_blobs(each)}
    for key in keys:
        if not target.identities_only or key.asbytes() in allowed:
            yield key


def _public_blobs(identity: Path) -> Iterator[bytes]:
    """Yield an identity's public key: from the .pub file, the file itself, or the private key's header."""
    for path in (identity.with_name(identity.name + ".pub"), identity):
        try:
            content = path.read_bytes()
            if content.startswith(PRIVATE_KEY):
                body = base64.b64decode(b"".join(content.split(b"-----")[2].split()))
                fields = Fields(body[len(PRIVATE_KEY_MAGIC) :])
                for _ in ("cipher", "key derivation", "its options"):
                    fields.string()
                fields.number(">I")
                yield fields.string()
            else:
                yield base64.b64decode(content.split()[1], validate=True)
        except (OSError, IndexError, ValueError, binascii.Error, struct.error):
            continue
