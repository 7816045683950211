"""Ask the kernel for what a lab needs of it, before anything of the lab is made.

Modules are loaded by their first use, so using them is both the question and the request.
"""

from __future__ import annotations

from mptcp_lab.inventory.model import Lab
from mptcp_lab.labs import machine_check as doctor
from mptcp_lab.labs.errors import EmbeddedError


def needs(lab: Lab) -> tuple[doctor.Module, ...]:
    """Return the parts of this machine's kernel that a lab needs."""
    rated = (doctor.TBF,) if any(nic.rate for host in lab.hosts.values() for nic in host.nics) else ()
    if lab.flavour == "vm":  # the machines bring a kernel of their own
        return (doctor.BRIDGE, doctor.TUN, *rated)
    return (doctor.BRIDGE, doctor.VETH_PAIR, doctor.OVERLAY, doctor.NF_TABLES, *rated)


def require(lab: Lab) -> None:
    """Use each part of the kernel that a lab needs; `EmbeddedError` names the first that is missing."""
    for module in needs(lab):
        if why := doctor.refusal(module):
            raise EmbeddedError(
                f"the kernel gives no {module.name}, needed for {module.purpose} ({why})",
                f"modprobe {module.name} shows why; modules come with the running kernel's package",
            )
