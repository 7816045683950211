"""Turn the inventory's variables into a `Lab`, or raise an error that explains what is wrong with them.

Pure functions of the document that ``ansible-inventory --list`` prints. Every error names the host, the
variable, the problem and a correct example. Nothing on any host changes before the whole inventory is valid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mptcp_lab.inventory import fields
from mptcp_lab.inventory.errors import InventoryError
from mptcp_lab.inventory.model import FUNCTIONS, Host, Lab, Segment
from mptcp_lab.inventory.nics import (
    CLIENT_ENDPOINT,
    SERVER_ENDPOINT,
    check_addresses,
    check_endpoints,
    nics_from,
    segments_from,
)
from mptcp_lab.inventory.services import (
    check_backends,
    check_listeners,
    services_from,
    with_backend_ports,
)
from mptcp_lab.inventory.variables import check_variables

FLAVOURS = ("embedded", "vm", "hardware")
#: Variables that belong to the lab as a whole: their values must be the same on every host.
SHARED = ("lab_name", "lab_flavour", "lab_segments", "lab_kernel", "lab_kernel_modules")

#: Folders below .lab that belong to no lab, and host names that Ansible or the lab's switch uses.
RESERVED_LAB_NAMES = ("ansible", "cache", "labs", "render", "results", "venvs")
RESERVED_HOST_NAMES = ("all", "column", "fabric", "localhost", "ungrouped")

__all__ = ["RESERVED_HOST_NAMES", "RESERVED_LAB_NAMES", "InventoryError", "lab_from"]


def lab_from(document: Mapping[str, Any], source: str) -> Lab:
    """Build and validate a `Lab` from ``ansible-inventory --list``'s document; raise `InventoryError`."""
    hostvars: Mapping[str, Mapping[str, Any]] = document.get("_meta", {}).get("hostvars", {})
    members = {group: set(_hosts_of(document, group)) for group in FUNCTIONS}
    names = list(_hosts_of(document, "all"))
    if not names:
        raise InventoryError(source, "hosts", "no host is listed", "copy inventories/hardware.example")
    for name in names:
        check_variables(name, hostvars.get(name, {}))
    shared = hostvars.get(names[0], {})
    _check_shared(names, hostvars)
    segments = segments_from(shared.get("lab_segments"), names[0])
    hosts: dict[str, Host] = {}
    for name in names:
        functions = frozenset(group for group, inside in members.items() if name in inside)
        hosts[name] = _host(name, functions, hostvars.get(name, {}), segments)
    lab_name = fields.name(names[0], "lab_name", shared.get("lab_name", "lab"), "rack1")
    if lab_name in RESERVED_LAB_NAMES:
        raise InventoryError(names[0], "lab_name", f"{lab_name!r} is reserved", "rack1")
    flavour = fields.choice(names[0], "lab_flavour", shared.get("lab_flavour", "hardware"), FLAVOURS)
    _check_kernel(names[0], flavour, shared.get("lab_kernel", "host"))
    check_addresses(hosts)
    hosts = with_backend_ports(hosts)
    check_backends(hosts, segments)
    check_listeners(hosts)
    return Lab(lab_name, flavour, source, segments, hosts)


def _check_kernel(host: str, flavour: str, kernel: object) -> None:
    """Refuse a kernel for hosts that have their own kernels."""
    if kernel != "host" and flavour != "embedded":
        problem = f"only the hosts of an embedded lab run on a kernel that is named; these are {flavour}"
        raise InventoryError(host, "lab_kernel", problem, "lab_flavour: embedded, or no lab_kernel")


def _hosts_of(document: Mapping[str, Any], group: str) -> Iterable[str]:
    """Return a group's hosts, including those of its child groups, in the inventory's order."""
    seen: dict[str, None] = {}
    entry = document.get(group, {})
    for name in entry.get("hosts", ()):
        seen[name] = None
    for child in entry.get("children", ()):
        seen.update(dict.fromkeys(_hosts_of(document, child)))
    return list(seen)


def _check_shared(names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse hosts with different values of a variable that belongs to the lab as a whole."""
    first, *others = names
    for variable in SHARED:
        for name in others:
            if hostvars.get(name, {}).get(variable) != hostvars.get(first, {}).get(variable):
                problem = f"differs from the value on {first}; it belongs to the lab as a whole"
                raise InventoryError(name, variable, problem, f"{variable} in group_vars/all.yml only")


def _host(
    name: str, functions: frozenset[str], variables: Mapping[str, Any], segments: Mapping[str, Segment]
) -> Host:
    fields.name(name, "name", name, "server1")
    if name in RESERVED_HOST_NAMES:
        raise InventoryError(name, "name", f"{name!r} is reserved", "server1")
    if not functions:
        raise InventoryError(
            name, "groups", f"the host is in none of {', '.join(FUNCTIONS)}", "clients: {hosts: {client: }}"
        )
    if "attackers" in functions and len(functions) > 1:
        others = ", ".join(sorted(functions - {"attackers"}))
        problem = f"an attacker is also in {others}; the checks judge honest hosts and attackers apart"
        raise InventoryError(name, "groups", problem, "attackers: {hosts: {attacker: }}")
    nics = nics_from(
        name, variables, segments, CLIENT_ENDPOINT if "clients" in functions else SERVER_ENDPOINT
    )
    services = services_from(name, functions, variables)
    mptcp = fields.choice(name, "lab_mptcp", variables.get("lab_mptcp", "on"), ("on", "off"))
    host = Host(name, functions, nics, services, mptcp != "off", dict(variables))
    check_endpoints(host, segments)
    return host
