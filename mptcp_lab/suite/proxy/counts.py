"""Check that client, proxy and origin count the same connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.probe import eventually
from mptcp_lab.suite.proxy.engines import sessions
from mptcp_lab.suite.proxy.proxies import backend
from mptcp_lab.suite.traffic import Target


@dataclass(frozen=True)
class Counts:
    """How many connections the proxy, by its own statistics, and the origin have counted."""

    proxy: int
    origin: int

    @classmethod
    def read(cls, target: Target) -> Self:
        """Read the current counts of the proxy and of the origin behind it."""
        return cls(sessions(target), accepted_count(target))

    def check_agreement(self, target: Target, made: int, evidence: EvidenceBox) -> None:
        """Check that both have counted exactly `made` more connections than here; keep all three counts."""
        now = eventually(
            lambda: Counts.read(target),
            until=lambda n: n.proxy >= self.proxy + made,
            within=10,
            what="counts",
        )
        keep(evidence, client=made, proxy=now.proxy - self.proxy, origin=now.origin - self.origin)
        expected = Counts(self.proxy + made, self.origin + made)
        assert now == expected, "client, proxy and origin do not count the same"


def accepted_count(target: Target) -> int:
    """Return how many connections the origin behind a target has accepted."""
    return int(backend(target).counts()["accepted"])


def keep(evidence: EvidenceBox, **counts: int) -> None:
    """Keep as evidence how many connections each party has counted."""
    for who, count in counts.items():
        evidence.figure(f"counted by {who}", count)
