"""How to reach a lab's hosts over SSH: by sockets on this machine, or whatever OpenSSH itself would do."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from mptcp_lab.embedded.place import here
from mptcp_lab.errors import LabBroken
from mptcp_lab.inventory.model import Host, Lab
from mptcp_lab.ssh import Target

#: Inventory variable to option of ssh; the values may not be templates, since Ansible does not run here.
OPTIONS = {"ansible_port": "-p", "ansible_user": "-l", "ansible_ssh_private_key_file": "-i"}


def target(lab: Lab, host: Host) -> Target:
    """Return how to reach a host; `LabBroken` says what to type where the lab cannot be reached at all."""
    if not lab.local:
        return _by_openssh(host.name, ssh_arguments(host))
    place = here(lab.name)
    if not (place.state / "ssh_config").exists():
        raise LabBroken("the lab is not up", lab.name, "./lab up, then ansible-playbook lab.yml")
    user = str(host.variables.get("ansible_user", "root"))
    return Target(
        name=host.name,
        user=user,
        address=None,
        port=22,
        unix_socket=place.socket(host.name),
        identities=(place.state / "id_ed25519",),
        known_hosts=place.state / "known_hosts",
        become=user != "root",
    )


def ssh_config(lab: Lab) -> Path | None:
    """Return the lab's own ssh_config, where it has one."""
    path = here(lab.name).state / "ssh_config"
    return path if path.exists() else None


def ssh_arguments(host: Host) -> list[str]:
    """Return what to type after ``ssh`` to get to a host, from the variables that Ansible uses."""
    variables = host.variables
    words: list[str] = shlex.split(str(variables.get("ansible_ssh_common_args", "")))
    for name, option in OPTIONS.items():
        if name in variables:
            words += [option, str(variables[name])]
    return [*words, str(variables.get("ansible_host", host.name))]


def _by_openssh(name: str, arguments: list[str]) -> Target:
    """Let OpenSSH resolve its configuration (``ssh -G``): what works for people works here."""
    done = subprocess.run(["ssh", "-G", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        complaint = f"ssh -G {' '.join(arguments)}: {done.stderr.strip()}"
        raise LabBroken(complaint, name, "mend ansible_ssh_common_args")
    settings: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        settings.setdefault(key, []).append(value)
    identities = (Path(value).expanduser() for value in settings.get("identityfile", []))
    known = (Path(word).expanduser() for word in settings["userknownhostsfile"][0].split())
    jump = settings.get("proxyjump", ["none"])[0]
    command = settings.get("proxycommand", ["none"])[0]
    return Target(
        name=name,
        user=settings["user"][0],
        address=settings["hostname"][0],
        port=int(settings["port"][0]),
        unix_socket=None,
        identities=tuple(path for path in identities if path.exists()),
        known_hosts=next((path for path in known if path.exists()), Path("~/.ssh/known_hosts").expanduser()),
        jump=None if jump == "none" else _by_openssh(jump, [jump]),
        proxy_command="" if command == "none" else _expanded(command, settings),
        become=settings["user"][0] != "root",
        host_key_alias=settings.get("hostkeyalias", [""])[0],
    )


def _expanded(command: str, settings: dict[str, list[str]]) -> str:
    """Fill in the tokens of a ProxyCommand (ssh_config(5), TOKENS)."""
    tokens = {"%h": "hostname", "%n": "host", "%p": "port", "%r": "user"}

    def value(match: re.Match[str]) -> str:
        return "%" if match[0] == "%%" else settings.get(tokens[match[0]], [""])[0]

    return re.sub("%[hnpr%]", value, command)
