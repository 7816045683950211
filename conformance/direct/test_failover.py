"""DIRECT-7 and DIRECT-8: the live connection survives the loss of its first path."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.expectations import origin_of
from mptcp_lab.suite.failover import survives
from mptcp_lab.suite.session import Machine, Session


@claim("DIRECT-7")
def test_firewall_drops_first_path(a: Machine, b: Machine, evidence: EvidenceBox) -> None:
    """B's firewall drops A-1: the stream goes on over A-2, whole and without a reconnect."""
    survives(a, b, origin_of(b), lambda: b.probe.fault("drop", source=a.address(0)), evidence)


Loss = Callable[[Session, Machine, Machine], AbstractContextManager[object]]
LOSSES: dict[str, Loss] = {
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


@claim("DIRECT-8")
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_first_path_lost(
    a: Machine, b: Machine, machines: Session, evidence: EvidenceBox, loss: Loss
) -> None:
    """The first path is lost in another way: the stream goes on over the others, whole."""
    survives(a, b, origin_of(b), lambda: loss(machines, a, b), evidence)
