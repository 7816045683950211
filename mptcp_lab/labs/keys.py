"""Create the SSH keys of a lab (user key, one host key per host) and the ssh_config that pins them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mptcp_lab.labs.command import run
from mptcp_lab.labs.lab_paths import LabPaths, give_to_caller, write_private
from mptcp_lab.patience import patient

HOST_KEY = "etc/ssh/ssh_host_ed25519_key"


def ensure_key(path: Path, comment: str) -> str:
    """Create an Ed25519 key pair unless the file exists; return the public key."""
    public = path.with_name(path.name + ".pub")
    if not (path.exists() and public.exists()):
        path.unlink(missing_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path))
    return public.read_text().strip()


def etc_hosts(host: str) -> str:
    """Return a host's /etc/hosts, which contains localhost and the host's own name only."""
    return f"127.0.0.1 localhost\n127.0.1.1 {host}\n::1 localhost\n"


def user_key(paths: LabPaths) -> str:
    """Return the public key that this lab's hosts accept for logins; create the pair if it is missing."""
    path = paths.state / "id_ed25519"
    public = ensure_key(path, f"mptcp-lab {paths.name}")
    for half in (path, path.with_name("id_ed25519.pub")):
        give_to_caller(half)
    return public


def write_ssh_files(paths: LabPaths, host_keys: dict[str, str]) -> None:
    """Write known_hosts and ssh_config; ``host_keys`` maps host names to public host keys."""
    known = [f"{name} {' '.join(key.split()[:2])}\n" for name, key in host_keys.items()]
    write_private(paths.state / "known_hosts", "".join(known))
    write_private(paths.state / "ssh_config", ssh_config(paths, host_keys))


def ssh_config(paths: LabPaths, hosts: Iterable[str]) -> str:
    """Return the ssh_config by which Ansible, the suite and users reach these hosts."""
    lines = [f"# The lab {paths.name}, written by `./lab up`. Its hosts listen on Unix sockets only.\n"]
    lines += [
        f"Host {name} {name}.*\n    HostKeyAlias {name}\n    ProxyCommand nc -U {paths.socket(name)}\n"
        for name in hosts
    ]
    state = str(paths.state).replace("%", "%%")  # ssh_config(5), TOKENS
    lines.append(
        f'Host *\n    User root\n    IdentityFile "{state}/id_ed25519"\n    IdentitiesOnly yes\n'
        f'    UserKnownHostsFile "{state}/known_hosts"\n    GlobalKnownHostsFile /dev/null\n'
        "    StrictHostKeyChecking yes\n    HostKeyAlgorithms ssh-ed25519\n    PasswordAuthentication no\n"
        f"    ConnectTimeout {patient(5):.0f}\n    ServerAliveInterval {patient(5):.0f}\n"
        "    ServerAliveCountMax 2\n    LogLevel ERROR\n"
    )
    return "".join(lines)
