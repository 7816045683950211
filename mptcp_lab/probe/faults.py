"""Apply faults to a host; the controller lifts them, or the host itself when their time is over."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from mptcp_lab.errors import Inconclusive, Unsupported
from mptcp_lab.patience import patient
from mptcp_lab.probe.client import ProbeClient, ProbeError

APPLY_WITHIN = LIFT_WITHIN = 30.0
TTL_MOST = 3600.0  # seconds; the probe refuses a longer time


class FaultExpired(Inconclusive):
    """A fault expired before it was lifted, so that the last observations were made without it."""


class NoLease(Inconclusive):
    """A host refused a fault because this run does not, or no longer, hold its lease."""


class Fault:
    """A fault on a host; as a context manager, it is lifted at the end of the block."""

    def __init__(self, probe: ProbeClient, name: str, kind: str, ttl: float) -> None:
        self.kind = kind
        self.ttl = ttl
        self._probe = probe
        self._name: str | None = name

    def lift(self) -> None:
        """Lift the fault; a second call is a no-op.

        Raises:
            FaultExpired: the host had already lifted it because its time was over.
            ProbeError: the host could not undo it.
        """
        if self._name is None:
            return
        name, self._name = self._name, None
        if not self._probe.ask(bool, "lift", LIFT_WITHIN, fault=name):
            raise FaultExpired(
                self._probe.host,
                f"fault {self.kind} expired after {self.ttl:g} s, before it was lifted",
                "run the check again when the host is less busy, or give the fault a longer ttl in the check",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.lift()
        except FaultExpired:
            if error is None:  # else the block's exception matters more
                raise


def apply(probe: ProbeClient, kind: str, ttl: float, params: dict[str, Any]) -> Fault:
    """Apply a fault for at most ``ttl`` seconds times the patience factor.

    Raises:
        Unsupported: the host lacks a capability that the fault needs.
        NoLease: this run does not hold the host's lease.
        ProbeError: the host could not apply the fault.
    """
    ttl = min(patient(ttl), TTL_MOST)
    try:
        started = probe.start("fault", kind=kind, ttl=ttl, params=params, run=probe.run_id)
        name = started.read(str, APPLY_WITHIN)
    except ProbeError as error:
        if error.kind == "no-lease":
            raise NoLease(probe.host, error.what, "take the lease first (mptcp_lab.machines.lease)") from None
        if error.kind != "unsupported":
            raise
        raise Unsupported(str(error.more.get("capability", kind)), error.what, probe.host) from None
    return Fault(probe, name, kind, ttl)
