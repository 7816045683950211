"""Find out how to reach a lab's hosts over SSH: by Unix sockets on this machine, or as OpenSSH would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mptcp_lab.errors import LabBroken, LabError
from mptcp_lab.inventory.model import Host, Lab
from mptcp_lab.inventory.ssh import ssh_arguments
from mptcp_lab.labs.lab_paths import COLUMN, lab_paths
from mptcp_lab.probe.ssh import SshTarget

MOST_HOPS = 8
#: One jump host: "[user@]host[:port]" or "ssh://[user@]host[:port]"; an IPv6 address stands in brackets.
HOP = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@\s]+)@)?(?:\[(?P<bracketed>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^-:@\s\[\]/][^:@\s\[\]/]*))"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)


def target(lab: Lab, host: Host) -> SshTarget:
    """Return how to reach a host over SSH; raise `LabBroken` if the lab is not up."""
    if not lab.local:
        return resolve(host.name, ssh_arguments(host))
    paths = lab_paths(lab.name)
    if not (paths.state / "ssh_config").exists():
        raise LabBroken("the lab is not up", lab.name, "./lab up, then ansible-playbook lab.yml")
    user = str(host.variables.get("ansible_user", "root"))
    return SshTarget(
        name=host.name,
        user=user,
        address=None,
        port=22,
        unix_socket=paths.socket(host.name),
        identities=(paths.state / "id_ed25519",),
        known_hosts=paths.state / "known_hosts",
        become=user != "root",
    )


def check_host(lab: Lab, word: str) -> None:
    """Refuse a name, as given to ssh, that no host of the lab has: ssh would try it outside the lab.

    Raises:
        LabError: the lab has no such host.
        LabBroken: the lab is not up.
    """
    name = word.rpartition("@")[2]
    names = [*lab.hosts, *([COLUMN] if lab_paths(lab.name).column.exists() else [])]
    if name not in names:
        raise LabError(f"no host {name} is in the lab", lab.name, f"name one of {', '.join(names)}")
    if lab.local and ssh_config(lab) is None:
        raise LabBroken("the lab is not up", lab.name, "./lab up")


def ssh_config(lab: Lab) -> Path | None:
    """Return the path of the lab's ssh_config, or None if the lab has none."""
    path = lab_paths(lab.name).state / "ssh_config"
    return path if path.exists() else None


def resolve(name: str, arguments: list[str], jumps: str | None = None, hops: int = 0) -> SshTarget:
    """Return how OpenSSH would reach a host, as ``ssh -G`` evaluates its configuration.

    ``jumps`` lists the jump hosts before this one, as the next host's ProxyJump names them; it overrides
    this host's ProxyJump. ``hops`` counts the jump hosts resolved so far.

    Raises:
        LabBroken: the configuration is wrong, or has more than `MOST_HOPS` jump hosts in a row.
    """
    if hops > MOST_HOPS:
        raise LabBroken(f"more than {MOST_HOPS} jump hosts: does one lead to itself?", name, "see ProxyJump")
    settings = _settings(name, arguments)
    files = [*_known_hosts(settings, "userknownhostsfile"), *_known_hosts(settings, "globalknownhostsfile")]
    jump = settings.get("proxyjump", ["none"])[0] if jumps is None else jumps
    command = settings.get("proxycommand", ["none"])[0]
    agent = settings.get("identityagent", ["SSH_AUTH_SOCK"])[0]
    return SshTarget(
        name=name,
        user=settings["user"][0],
        address=settings["hostname"][0],
        port=int(settings["port"][0]),
        unix_socket=None,
        identities=tuple(_identities(settings)),
        known_hosts=files[0],
        more_known_hosts=tuple(files[1:]),
        jump=None if jump == "none" else _jump(jump, _configuration(arguments), hops + 1),
        proxy_command="" if command == "none" or jump != "none" else _expand_tokens(command, settings),
        become=settings["user"][0] != "root",
        host_key_alias=settings.get("hostkeyalias", [""])[0],
        identities_only=settings.get("identitiesonly", ["no"])[0] == "yes",
        agent=_agent(agent),
    )


def _settings(name: str, arguments: list[str]) -> dict[str, list[str]]:
    done = subprocess.run(["ssh", "-G", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        complaint = f"ssh -G {shlex.join(arguments)}: {done.stderr.strip()}"
        raise LabBroken(complaint, name, "correct ansible_ssh_common_args or the ssh_config that it names")
    settings: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        settings.setdefault(key, []).append(value)
    return settings


def _configuration(arguments: list[str]) -> list[str]:
    """Return the option that names another ssh_config; OpenSSH uses it for jump hosts too."""
    for number, word in enumerate(arguments):
        if word.startswith("-F"):
            return ["-F", word[2:]] if len(word) > 2 else arguments[number : number + 2]
    return []


def _jump(listed: str, configuration: list[str], hops: int) -> SshTarget:
    """Return the last host of a comma-separated ProxyJump list; the hosts before it become its jump hosts."""
    before, _, last = listed.rpartition(",")
    found = HOP.fullmatch(last.strip())
    if found is None:
        raise LabBroken(
            f"ProxyJump {listed}: {last!r} is not a jump host", last, "write it as [user@]host[:port]"
        )
    arguments = [*configuration]
    for option, value in (("-l", found["user"]), ("-p", found["port"])):
        if value:
            arguments += [option, value]
    host = found["bracketed"] or found["host"]
    return resolve(host, [*arguments, "--", host], before or None, hops)


def _known_hosts(settings: dict[str, list[str]], key: str) -> list[Path]:
    """Return the files of an option; ``ssh -G`` prints paths with spaces without quotes."""
    text = settings.get(key, [""])[0]
    whole = Path(text).expanduser()
    return [whole] if whole.exists() else [Path(word).expanduser() for word in text.split()]


def _identities(settings: dict[str, list[str]]) -> Iterator[Path]:
    for value in settings.get("identityfile", []):
        path = Path(value).expanduser()
        if path.exists() or path.with_name(path.name + ".pub").exists():
            yield path


def _agent(setting: str) -> str:
    """Return the socket that IdentityAgent names; "" stands for the environment's SSH_AUTH_SOCK."""
    if setting == "SSH_AUTH_SOCK":
        return ""
    if setting.startswith("$"):
        return os.environ.get(setting.strip("${}"), "none")
    return setting if setting == "none" else str(Path(setting).expanduser())


def _expand_tokens(command: str, settings: dict[str, list[str]]) -> str:
    """Fill in the tokens of a ProxyCommand (ssh_config(5), TOKENS)."""
    tokens = {"%h": "hostname", "%n": "host", "%p": "port", "%r": "user"}

    def value(match: re.Match[str]) -> str:
        return "%" if match[0] == "%%" else settings.get(tokens[match[0]], [""])[0]

    return re.sub("%[hnpr%]", value, command)
