"""Define rows: a row is one claim of the catalogue and the pure function that judges a connection by it.

Id, level and sentence come from the catalogue (mptcp_lab/catalogue/rfc8684.toml), which is read once.
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
    """The outcome of checking one requirement on one connection."""

    OK = "ok"
    KNOWN = "known"  # a deviation from the RFC that a correction of the catalogue explains
    BREACH = "breach"
    NOT_OBSERVED = "not-observed"


@dataclass(frozen=True, slots=True)
class Observation:
    """The outcome, the numbers of the packets that show it, and a detail in words."""

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
        """Return the R-number, such as R42."""
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
        """Judge a connection; `./lab pcap` and the suite both use this function.

        Connections of version 0 (RFC 6824) are not judged. A breach is not reported if packets that could
        disprove it are missing from the capture.
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
#: For breaches on one captured subflow: packets on a path that was not captured cannot disprove them.
ON_SUBFLOW = tuple(each for each in Lack if each is not Lack.PATH)


def row(
    alias: str, unknown_with: tuple[Lack, ...] = (), by_address: bool = False
) -> Callable[[Check], Check]:
    """Register the check that judges the catalogue's claim of that alias.

    Without `unknown_with`, the packets that show a breach prove it, whatever the capture lacks. Use ANY if
    the breach is that a packet is absent, or comes too late.

    Raises:
        LabError: the alias is not in the catalogue, or has a check already.
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


def registered_rows() -> tuple[Row, ...]:
    """Return all rows whose modules are imported, in the order of the catalogue."""
    return tuple(_REGISTERED[alias] for alias in _CLAIMS if alias in _REGISTERED)


def ok(*packets: int | None, detail: str = "") -> Observation:
    """Return the observation that the requirement holds, as these packets show."""
    return Observation(Outcome.OK, _numbers(packets), detail)


def breach(detail: str, *packets: int | None) -> Observation:
    """Return the observation that the requirement does not hold, as these packets show."""
    return Observation(Outcome.BREACH, _numbers(packets), detail)


def known_deviation(detail: str, *packets: int | None) -> Observation:
    """Return the observation of a deviation that a correction of the catalogue explains."""
    return Observation(Outcome.KNOWN, _numbers(packets), detail)


def unseen(detail: str) -> Observation:
    """Return the observation that the capture does not show the requirement; `detail` is the reason."""
    return Observation(Outcome.NOT_OBSERVED, (), detail)


def _numbers(packets: Iterable[int | None]) -> tuple[int, ...]:
    return tuple(sorted({each for each in packets if each is not None}))


def worst(observations: Iterable[Observation], nothing: str) -> Observation:
    """Combine observations of one requirement into the worst outcome.

    The order is breach, known deviation, ok. Without any of them, `nothing` is the reason in words.
    """
    seen = [each for each in observations if each.outcome is not Outcome.NOT_OBSERVED]
    if not seen:
        return unseen(nothing)
    outcome = next(each for each in _WORST_FIRST if any(one.outcome is each for one in seen))
    these = [each for each in seen if each.outcome is outcome]
    packets = _numbers(number for each in these for number in each.packets)
    details = dict.fromkeys(each.detail for each in these if each.detail)
    return Observation(outcome, packets, "; ".join(details))


_WORST_FIRST = (Outcome.BREACH, Outcome.KNOWN, Outcome.OK)


def breach_or(findings: list[Finding], when_none: Observation) -> Observation:
    """Return a breach if the analyser has findings, else `when_none`."""
    if findings:
        return breach(findings[0].detail, *(each.packet for each in findings[:5]))
    return when_none
