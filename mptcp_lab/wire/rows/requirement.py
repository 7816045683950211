"""A row: one claim of the catalogue, and the pure function that looks for it in an analysed connection.

Id, level and sentence are the catalogue's (mptcp_lab/catalogue/rfc8684.toml), which is read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from mptcp_lab import catalogue
from mptcp_lab.catalogue import Claim
from mptcp_lab.catalogue.level import Level
from mptcp_lab.errors import LabError
from mptcp_lab.wire.model import Connection, Finding, Lack


class Outcome(Enum):
    """What a connection shows of a requirement."""

    OK = "ok"
    KNOWN = "known"  # not as the RFC has it, and known to be so: the catalogue's corrections name the kernel
    BREACH = "breach"
    NOT_OBSERVED = "not-observed"


@dataclass(frozen=True, slots=True)
class Observation:
    """The outcome, the packets that show it (numbers in the capture), and what is in them."""

    outcome: Outcome
    packets: tuple[int, ...] = ()
    detail: str = ""


Check = Callable[[Connection], Observation]


@dataclass(frozen=True, slots=True)
class Row:
    """A claim of the catalogue, and how a connection is judged by it.

    `judge` returns what a connection shows. `unknown_with` names the gaps of a capture that leave a breach
    without evidence. `by_address` is true for rows that compare addresses, which NAT changes on the path.
    """

    claim: Claim
    judge: Check
    unknown_with: tuple[Lack, ...]
    by_address: bool

    @property
    def id(self) -> str:
        """Return RFC8684-<section>/<n>."""
        return self.claim.id

    @property
    def alias(self) -> str:
        """Return the R-number."""
        return self.claim.alias

    @property
    def level(self) -> Level:
        """Return how binding the requirement is."""
        return self.claim.level

    @property
    def requirement(self) -> str:
        """Return the catalogue's sentence."""
        return self.claim.text

    def check(self, connection: Connection) -> Observation:
        """Judge a connection: the one rule of `./lab pcap` and of the suite.

        Version 0 (RFC 6824) is another protocol, and what is not in the capture is nobody's breach.
        """
        if connection.version == 0:
            return unseen("MPTCP version 0 (RFC 6824): RFC 8684 is not held against it")
        seen = self.judge(connection)
        if seen.outcome in (Outcome.OK, Outcome.NOT_OBSERVED):
            return seen
        gap = connection.lacks(*self.unknown_with) if self.unknown_with else None
        if gap is not None:
            return unseen(f"cannot be known: {gap.text}")
        if self.by_address and connection.is_translated:
            return unseen(
                "cannot be known: the capture has packets before and after their addresses are translated"
            )
        return seen


_CLAIMS = {claim.alias: claim for claim in catalogue.family("rfc8684").claims}
_REGISTERED: dict[str, Row] = {}


ANY = tuple(Lack)
#: A breach on a captured subflow stands, whatever went over a path that was not captured.
ON_SUBFLOW = tuple(each for each in Lack if each is not Lack.PATH)


def row(
    alias: str, unknown_with: tuple[Lack, ...] = (), by_address: bool = False
) -> Callable[[Check], Check]:
    """Register the check that judges the catalogue's claim of that alias.

    Without `unknown_with`, the packets that show a breach are its whole proof. ANY is for what is absent
    from the capture, or has to come before something else in it.
    """

    def register(check: Check) -> Check:
        where = f"{check.__module__}.{check.__qualname__}"
        if alias not in _CLAIMS:
            raise LabError(
                f"{alias} is not an alias in the catalogue",
                where,
                "correct the alias, or add the claim to mptcp_lab/catalogue/rfc8684.toml",
            )
        if alias in _REGISTERED:
            other = _REGISTERED[alias].judge
            raise LabError(
                f"{alias} is registered already, by {other.__module__}.{other.__qualname__}",
                where,
                "give each claim one check",
            )
        _REGISTERED[alias] = Row(_CLAIMS[alias], check, unknown_with, by_address)
        return check

    return register


def registered() -> tuple[Row, ...]:
    """Return all rows whose modules are imported, in the order of the catalogue."""
    return tuple(_REGISTERED[alias] for alias in _CLAIMS if alias in _REGISTERED)


def ok(*packets: int | None, detail: str = "") -> Observation:
    """The requirement holds, as these packets show."""
    return Observation(Outcome.OK, _numbers(packets), detail)


def breach(detail: str, *packets: int | None) -> Observation:
    """The requirement does not hold, as these packets show."""
    return Observation(Outcome.BREACH, _numbers(packets), detail)


def known(detail: str, *packets: int | None) -> Observation:
    """A deviation that the catalogue's corrections explain, as these packets show."""
    return Observation(Outcome.KNOWN, _numbers(packets), detail)


def unseen(detail: str) -> Observation:
    """The capture says nothing about the requirement, and why."""
    return Observation(Outcome.NOT_OBSERVED, (), detail)


def _numbers(packets: Iterable[int | None]) -> tuple[int, ...]:
    return tuple(sorted({each for each in packets if each is not None}))


def worst(observations: Iterable[Observation], nothing: str) -> Observation:
    """Several observations of one requirement in one: breach, known deviation, ok, `nothing` observed."""
    seen = [each for each in observations if each.outcome is not Outcome.NOT_OBSERVED]
    if not seen:
        return unseen(nothing)
    outcome = next(each for each in _WORST_FIRST if any(one.outcome is each for one in seen))
    these = [each for each in seen if each.outcome is outcome]
    packets = _numbers(number for each in these for number in each.packets)
    details = dict.fromkeys(each.detail for each in these if each.detail)
    return Observation(outcome, packets, "; ".join(details))


_WORST_FIRST = (Outcome.BREACH, Outcome.KNOWN, Outcome.OK)


def without(findings: list[Finding], when_none: Observation) -> Observation:
    """A breach for what the analyser found, else `when_none`."""
    if findings:
        return breach(findings[0].detail, *(each.packet for each in findings[:5]))
    return when_none
