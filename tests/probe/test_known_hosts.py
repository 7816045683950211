"""Test that known_hosts is read as OpenSSH reads it: OpenSSH's client runs every case too."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from mptcp_lab.errors import Inconclusive, LabBroken
from mptcp_lab.plugin.attempt import classify
from mptcp_lab.probe import known_hosts
from mptcp_lab.probe.ssh import SshFailed, connect
from mptcp_lab.results.verdict import Outcome
from tests.probe.hosts import Host, Keys, make_key, tool

NAME = "host.lab.example"


@dataclasses.dataclass
class Certified:
    """A host with a key and a certificate, and the keys that test cases write to known_hosts files."""

    host: Host
    key: str
    other: str
    authority: str
    stranger: str
    folder: Path

    def certify(self, *options: str) -> None:
        """Sign a new certificate for the host with its authority."""
        public = self.host.keys.folder / "server.pub"
        authority = str(self.folder / "authority")
        tool("ssh-keygen", "-q", "-s", authority, "-h", "-I", "x", *options, str(public))

    def openssh(self, files: list[Path], alias: str, port: int) -> bool:
        """Return whether OpenSSH's client accepts the host's key."""
        options = {
            "ProxyCommand": f"nc -U {self.host.socket}",
            "UserKnownHostsFile": " ".join(map(str, files)),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "IdentityFile": str(self.host.keys.folder / "client"),
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "UpdateHostKeys": "no",
        }
        if alias:
            options["HostKeyAlias"] = alias
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        command = ["ssh", "-F", "none", *words, "-p", str(port), f"root@{NAME}", "true"]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0

    def ours(self, files: list[Path], alias: str, port: int) -> str:
        """Return "" if the project's client accepts the host's key, else its message."""
        target = dataclasses.replace(
            self.host.target(),
            name="inventory-name",
            unix_socket=None,
            address=NAME,
            port=port,
            proxy_command=f"nc -U {self.host.socket}",
            host_key_alias=alias,
            known_hosts=files[0],
            more_known_hosts=tuple(files[1:]),
        )
        try:
            connect(target).close()
        except SshFailed as failed:
            return str(failed)
        return ""


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certified]:
    folder = tmp_path_factory.mktemp("known")
    keys = Keys.make(tmp_path_factory.mktemp("certified"))
    made = {name: make_key(folder / name) for name in ("other", "authority", "stranger")}
    host = Host(f"prb-known-{os.getpid()}", keys)
    try:
        lab = Certified(host, keys.server, **made, folder=folder)
        lab.certify("-n", NAME)
        with (host.folder / "sshd_config").open("a") as config:
            config.write(f"HostCertificate {keys.folder}/server-cert.pub\n")
        yield lab
    finally:
        host.remove()


def hashed(name: str, salt: bytes = b"0123456789abcdefghij") -> str:
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


Writes = Callable[[Certified], str]
#: known_hosts as it is written, and what is reported; "" where the host's key is taken.
CASES: dict[str, tuple[Writes, str]] = {
    "name": (lambda lab: f"{NAME} {lab.key}\n", ""),
    "no-line": (lambda lab: "", "holds no host key for host.lab.example"),
    "another-name": (lambda lab: f"inventory-name {lab.key}\n", "holds no host key"),
    "another-key": (lambda lab: f"{NAME} {lab.other}\n", "is not the one in"),
    "another-key-of-the-inventorys-name": (lambda lab: f"inventory-name {lab.other}\n", "holds no host key"),
    "two-keys": (lambda lab: f"{NAME} {lab.other}\n{NAME} {lab.key}\n", ""),
    "capitals": (lambda lab: f"HOST.Lab.example {lab.key}\n", ""),
    "list": (lambda lab: f"a,{NAME},b {lab.key} a comment\n", ""),
    "star": (lambda lab: f"*.example {lab.key}\n", ""),
    "question-mark": (lambda lab: f"hos?.lab.example {lab.key}\n", ""),
    "brackets-are-no-class": (lambda lab: f"[h]ost.lab.example {lab.key}\n", "holds no host key"),
    "negated": (lambda lab: f"*.example,!{NAME} {lab.key}\n", "holds no host key"),
    "negated-alone": (lambda lab: f"!other.example {lab.key}\n", "holds no host key"),
    "hashed": (lambda lab: f"{hashed(NAME)} {lab.key}\n", ""),
    "hashed-another": (lambda lab: f"{hashed('x')} {lab.key}\n", "holds no host key"),
    "hashed-broken": (lambda lab: f"|1|!|! {lab.key}\n", "holds no host key"),
    "leading-blanks": (lambda lab: f" \t{NAME}\t {lab.key}\n", ""),
    "no-line-end": (lambda lab: f"# x\n\n{NAME} {lab.key}", ""),
    "comment": (lambda lab: f"#{NAME} {lab.key}\n", "holds no host key"),
    "type-differs": (lambda lab: f"{NAME} ssh-rsa {lab.key.split()[1]}\n", "holds no host key"),
    "broken-base64": (lambda lab: f"{NAME} ssh-ed25519 AAAA!\n{NAME} {lab.key}\n", ""),
    "cut-key": (lambda lab: f"{NAME} ssh-ed25519 AAAA\n{NAME} {lab.key}\n", ""),
    "unknown-marker": (lambda lab: f"@new * {lab.key}\n", "holds no host key"),
    "revoked": (lambda lab: f"{NAME} {lab.key}\n@revoked * {lab.key}\n", "is revoked"),
    "revoked-first": (lambda lab: f"@revoked {NAME} {lab.key}\n{NAME} {lab.key}\n", "is revoked"),
    "revoked-elsewhere": (lambda lab: f"{NAME} {lab.key}\n@revoked other {lab.key}\n", ""),
    "revoked-another-key": (lambda lab: f"{NAME} {lab.key}\n@revoked * {lab.other}\n", ""),
    "authority": (lambda lab: f"@cert-authority *.lab.example {lab.authority}\n", ""),
    "authority-elsewhere": (
        lambda lab: f"@cert-authority *.net {lab.authority}\n{NAME} {lab.key}\n",
        "",
    ),
    "authority-of-others": (lambda lab: f"@cert-authority * {lab.stranger}\n", "vouches for"),
    "authority-and-key": (lambda lab: f"@cert-authority * {lab.stranger}\n{NAME} {lab.key}\n", ""),
    "authority-and-another-key": (
        lambda lab: f"@cert-authority * {lab.stranger}\n{NAME} {lab.other}\n",
        "is not the one in",
    ),
    "authority-is-revoked": (
        lambda lab: f"@cert-authority * {lab.authority}\n@revoked * {lab.authority}\n",
        "is revoked",
    ),
    "key-as-authority": (lambda lab: f"@cert-authority * {lab.key}\n", "vouches for"),
    "authority-as-key": (lambda lab: f"{NAME} {lab.authority}\n", "is not the one in"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_key_is_taken_where_openssh_takes_it(certified: Certified, tmp_path: Path, case: str) -> None:
    writes, told = CASES[case]
    file = tmp_path / "known_hosts"
    file.write_text(writes(certified))
    said = certified.ours([file], "", 22)
    assert bool(said) == bool(told), said
    assert told in said
    assert certified.openssh([file], "", 22) == (not told)


@pytest.mark.parametrize(
    ("line", "alias", "port", "taken"),
    [
        (f"[{NAME}]:2222", "", 2222, True),
        (NAME, "", 2222, True),  # OpenSSH also looks up the host without its port
        (f"[{NAME}]:2223", "", 2222, False),
        (hashed(f"[{NAME}]:2222"), "", 2222, True),
        (f"[{NAME}]:22", "", 22, False),
        ("alias", "alias", 22, True),
        ("alias", "alias", 2222, True),
        (NAME, "alias", 22, False),
        ("[alias]:2222", "alias", 2222, False),
    ],
)
def test_the_name_that_is_looked_up(
    certified: Certified, tmp_path: Path, line: str, alias: str, port: int, taken: bool
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"{line} {certified.key}\n")
    said = certified.ours([file], alias, port)
    assert (said == "") == taken, said
    assert certified.openssh([file], alias, port) == taken


def test_several_files_count_and_one_that_is_missing_does_not(certified: Certified, tmp_path: Path) -> None:
    empty, full, revoking = (tmp_path / name for name in ("empty", "full", "revoking"))
    empty.write_text("")
    full.write_text(f"{NAME} {certified.key}\n")
    revoking.write_text(f"@revoked * {certified.key}\n")
    for files, taken in (
        ([empty, full], True),
        ([tmp_path / "missing", full], True),
        ([full, revoking], False),
        ([empty], False),
    ):
        assert (certified.ours(files, "", 22) == "") == taken
        assert certified.openssh(files, "", 22) == taken


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        (("-n", NAME), True),
        (("-n", "other"), False),
        (("-n", "*.lab.example"), False),
        ((), True),
        (("-n", NAME, "-V", "20200101:20200201"), False),
        (("-n", NAME, "-V", "20500101:20500201"), False),
        (("-n", NAME, "-V", "-1d:+1d"), True),
    ],
    ids=["this", "other", "pattern", "any", "over", "to-come", "now"],
)
def test_a_certificate_counts_for_its_hosts_and_its_time(
    certified: Certified, tmp_path: Path, options: tuple[str, ...], taken: bool
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"@cert-authority * {certified.authority}\n")
    certified.certify(*options)
    try:
        assert (certified.ours([file], "", 22) == "") == taken
        assert certified.openssh([file], "", 22) == taken
    finally:
        certified.certify("-n", NAME)


def test_a_certificate_that_was_changed_is_none(certified: Certified) -> None:
    text = (certified.host.keys.folder / "server-cert.pub").read_text()
    blob = base64.b64decode(text.split()[1])
    assert known_hosts.parse_certificate(blob, time.time()) is not None
    assert known_hosts.plain_key(blob) == base64.b64decode(certified.key.split()[1])
    for position in range(4, len(blob), 7):
        changed = blob[:position] + bytes([blob[position] ^ 1]) + blob[position + 1 :]
        assert known_hosts.parse_certificate(changed, time.time()) is None, position
        assert known_hosts.parse_certificate(blob[:position], time.time()) is None, position


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\n", b"\xe9\n", b"@\n", b"@revoked\n", b"\x00" * 100])
def test_a_line_that_is_no_text_is_passed_over(certified: Certified, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "known_hosts"
    file.write_bytes(f"{NAME} {certified.key}\n".encode() + content)
    assert certified.ours([file], "", 22) == ""


def test_a_file_that_cannot_be_read_is_named(certified: Certified, tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "missing"):
        assert f"cannot read known hosts {file}" in certified.ours([file], "", 22)


#: What an sshd that lies does with a connection: octets it sends, then it closes.
SAYS = {
    "closes": b"",
    "no banner": b"220 mail\r\n" * 3,
    "endless banner": b"x" * 3_000_000,
    "banner, closes": b"SSH-2.0-liar\r\n",
    "old version": b"SSH-1.5-liar\r\n",
    "banner with escapes": b"SSH-2.0\x1b[31m\r\n",
    "banner, garbage": b"SSH-2.0-liar\r\n" + bytes(range(256)) * 40,
    "banner, huge packet": b"SSH-2.0-liar\r\n" + b"\xff" * 64,
    "banner, empty KEXINIT": b"SSH-2.0-liar\r\n" + b"\x00\x00\x00\x0c\x0a\x14" + b"\x00" * 10,
}


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Callable[[bytes, bool], Path]]:
    """Yield a function that starts a listener, which sends bytes and then closes or keeps the connection."""
    sock = socket.socket(socket.AF_UNIX)
    path = tmp_path / "ssh"
    sock.bind(str(path))
    sock.listen()
    kept: list[socket.socket] = []

    def lie(says: bytes, stays: bool) -> Path:
        def serve() -> None:
            connection, _ = sock.accept()
            kept.append(connection)
            try:
                connection.sendall(says)
            except OSError:
                return
            if not stays:
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        return path

    yield lie
    for each in kept:
        each.close()
    sock.close()


@pytest.mark.parametrize("stays", [False, True], ids=["closes", "stays"])
@pytest.mark.parametrize("case", SAYS)
def test_an_sshd_that_lies_is_one_sentence(
    certified: Certified,
    liar: Callable[[bytes, bool], Path],
    capfd: pytest.CaptureFixture[str],
    case: str,
    stays: bool,
) -> None:
    target = dataclasses.replace(certified.host.target(), unix_socket=liar(SAYS[case], stays))
    with pytest.raises(SshFailed, match="SSH failed: ") as raised:
        connect(target, within=1.0)
    assert raised.value.where == target.name
    assert str(raised.value).isprintable() and len(str(raised.value)) < 400
    assert isinstance(raised.value, LabBroken) and not isinstance(raised.value, Inconclusive)
    assert classify(raised.value, None) is Outcome.INCONCLUSIVE  # type: ignore[arg-type]
    assert capfd.readouterr().err == ""


def test_only_configured_keys_of_the_agent_are_shown(certified: Certified, tmp_path: Path) -> None:
    stranger, path = tmp_path / "stranger", tmp_path / "agent"
    make_key(stranger)
    client = certified.host.keys.folder / "client"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            assert agent.poll() is None
            time.sleep(0.01)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(path)}
        subprocess.run(["ssh-add", "-q", str(client)], check=True, env=environment)
        right = dataclasses.replace(certified.host.target(), identities=(stranger,), agent=str(path))
        connect(right).close()
        with pytest.raises(SshFailed, match="login as root refused"):
            connect(dataclasses.replace(right, identities_only=True))
        with pytest.raises(SshFailed, match="login as root refused"):
            connect(dataclasses.replace(right, agent="none"))
        public_only = tmp_path / "public"
        (tmp_path / "public.pub").write_text(client.with_suffix(".pub").read_text())
        connect(dataclasses.replace(right, identities=(public_only,), identities_only=True)).close()
        locked = tmp_path / "locked"
        locked.write_bytes(client.read_bytes())
        locked.chmod(0o600)
        tool("ssh-keygen", "-q", "-p", "-N", "secret", "-P", "", "-f", str(locked))
        connect(dataclasses.replace(right, identities=(locked,), identities_only=True)).close()
    finally:
        agent.kill()
        agent.wait()


def test_paramikos_kinds_of_key_are_all_asked_for() -> None:
    """Check that paramiko supports the key types of known_hosts; another type is an unknown key, no crash."""
    assert {"ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512"} <= set(paramiko.Transport._preferred_keys)
