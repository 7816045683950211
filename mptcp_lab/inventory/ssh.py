"""Derive the arguments of ``ssh`` from the inventory variables that Ansible uses. Pure."""

from __future__ import annotations

import shlex

from mptcp_lab.inventory.model import Host

#: Inventory variables and the options of ssh they become. Templates are not expanded: Ansible does not run.
OPTIONS = {"ansible_port": "-p", "ansible_user": "-l", "ansible_ssh_private_key_file": "-i"}


def ssh_arguments(host: Host) -> list[str]:
    """Return the arguments of ``ssh`` that reach a host, from the variables that Ansible uses."""
    variables = host.variables
    words = shlex.split(str(variables.get("ansible_ssh_common_args", "")))
    for name, option in OPTIONS.items():
        if name in variables:
            words += [option, str(variables[name])]
    return [*words, str(variables.get("ansible_host", host.name))]
