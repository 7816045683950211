"""A requirement of a check: something that a lab has to have, decided by the inventory alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mptcp_lab.errors import Unsupported
from mptcp_lab.inventory.model import Address, Host, Lab

#: A check's parameters by name, those of its fixtures among them.
Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Requirement:
    """Something that the inventory has to have for a check to run.

    ``name`` says what; ``{parameter}`` in it stands for a parameter of the check. ``find`` looks for it in a
    lab, with the check's parameters, and raises `Unsupported` where the inventory has none.
    """

    name: str
    find: Callable[[Lab, Parameters], object]

    def describe(self, parameters: Parameters) -> str:
        """Return the requirement in words, for a check with these parameters."""
        return self.name.format_map(parameters)

    def find_reason(self, lab: Lab, parameters: Parameters) -> Unsupported | None:
        """Return why a lab does not meet the requirement; None where it does."""
        try:
            self.find(lab, parameters)
        except Unsupported as error:
            return error
        return None


def find_host(
    lab: Lab, function: str, suits: Callable[[Host], object] = lambda _: True, what: str = ""
) -> Host:
    """Return the first host of a function that suits (`what` says how); `Unsupported` without one."""
    for host in lab.hosts_with(function):
        if suits(host):
            return host
    raise Unsupported(f"{function}{what}", "the inventory lists no such host")


def find_address(lab: Lab, host: Host, path: int = 0, family: int = 4) -> Address:
    """Return the address of a host's n-th path NIC; `Unsupported` without such a NIC or address."""
    nics = lab.path_nics(host)
    if path >= len(nics):
        raise Unsupported(f"{path + 1} paths", f"the inventory gives it {len(nics)}", host.name)
    found = nics[path].address(family)
    if found is None:
        raise Unsupported(f"IPv{family}", f"{nics[path].device} has no such address", host.name)
    return found
