"""The ways in which a stream's first path is lost (DIRECT-7, DIRECT-8, DIRECT-12)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from mptcp_lab.machines.session import Machine, Session

Loss = Callable[[Session, Machine, Machine], AbstractContextManager[object]]

#: B's firewall drops A-1: the loss that the founding document tried.
FIREWALL = "dropped-at-B"

#: By name, what takes A-1's path to B away (of the lab's machines, A and B) until it is lifted.
LOSSES: dict[str, Loss] = {
    FIREWALL: lambda _, a, b: b.probe.fault("drop", source=a.address(0)),
    "dropped-at-A": lambda _, a, __: a.probe.fault("drop", direction="both", destination=a.address(0)),
    "reset-at-B": lambda _, a, b: b.probe.fault("reject", source=a.address(0)),
    "link-down-at-A": lambda _, a, __: a.probe.fault("link_down", device=a.paths[0].device),
    "link-down-at-B": lambda _, __, b: b.probe.fault("link_down", device=b.paths[0].device),
    "cable-out-at-A": lambda machines, a, _: machines.unplugged(a, a.paths[0]),
    "cable-out-at-B": lambda machines, _, b: machines.unplugged(b, b.paths[0]),
    "address-removed": lambda _, a, __: a.probe.fault(
        "address_remove", device=a.paths[0].device, address=a.address(0)
    ),
    "endpoint-removed": lambda _, a, __: a.probe.fault("endpoint_remove", address=a.address(0)),
    "only-from-A-lost": lambda _, a, __: a.probe.fault("drop", direction="out", source=a.address(0)),
    "only-from-B-lost": lambda _, a, __: a.probe.fault("drop", direction="in", destination=a.address(0)),
}
