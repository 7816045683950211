"""Check that this machine's kernel has the features that a lab needs, before the lab is created.

The first use of a feature loads its module, so that the check loads the modules as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from mptcp_lab.inventory.model import Lab
from mptcp_lab.labs import machine_check as doctor
from mptcp_lab.labs.errors import EmbeddedError


@dataclass(frozen=True)
class Lack:
    """A feature that the kernel does not have: for what, why, and the options that bring it."""

    name: str
    purpose: str
    why: str
    options: str
    needed: bool

    def __str__(self) -> str:
        return f"{self.name} ({self.options}): {self.purpose}: {self.why}"


def find_lacks(lab: Lab) -> list[Lack]:
    """Try everything that the lab and its hosts need of one kernel; return what does not work."""
    wanted = dict.fromkeys((*needs(lab), *doctor.OTHERS, *doctor.FOR_HOSTS))
    required = {*needs(lab), *(each for each in doctor.FOR_HOSTS if each.needed)}
    tried = [(module, doctor.refusal(module)) for module in wanted]
    lacks = [Lack(m.name, m.purpose, why, m.options, m in required) for m, why in tried if why]
    socket = doctor.try_mptcp()
    if not socket.there:
        lacks.insert(0, Lack(socket.what, "everything", socket.detail, "CONFIG_MPTCP", True))
    return lacks


def needs(lab: Lab) -> tuple[doctor.Module, ...]:
    """Return the kernel modules that a lab needs on this machine."""
    rated = (doctor.TBF,) if any(nic.rate for host in lab.hosts.values() for nic in host.nics) else ()
    if lab.flavour == "vm":  # the virtual machines run another kernel
        return (doctor.BRIDGE, doctor.TUN, *rated)
    return (doctor.BRIDGE, doctor.VETH_PAIR, doctor.OVERLAY, doctor.NF_TABLES, *rated)


def require(lab: Lab) -> None:
    """Try each kernel module that a lab needs; raise `EmbeddedError` for the first that does not work."""
    for module in needs(lab):
        if why := doctor.refusal(module):
            raise EmbeddedError(
                f"the kernel has no {module.name}, which is needed for {module.purpose} ({why})",
                f"run modprobe {module.name} to see why; a kernel that you build needs {module.options}",
            )
