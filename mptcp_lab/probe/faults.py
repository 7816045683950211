"""Faults on a host: lifted by the controller, or on the host itself when their time is over."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from mptcp_lab.errors import Inconclusive, Unsupported
from mptcp_lab.patience import patient
from mptcp_lab.probe.client import ProbeClient, ProbeError

APPLY_WITHIN = LIFT_WITHIN = 30.0
TTL_MOST = 3600.0  # of the probe


class FaultExpired(Inconclusive):
    """A fault's time was over before it was lifted: what was seen last was seen without it."""


class NoLease(Inconclusive):
    """A host refused a fault because this run does not hold its lease (any more)."""


class Fault:
    """A fault on a host. As a context manager it is lifted at the end of the block."""

    def __init__(self, probe: ProbeClient, name: str, kind: str, ttl: float) -> None:
        self.kind = kind
        self.ttl = ttl
        self._probe = probe
        self._name: str | None = name

    def lift(self) -> None:
        """Lift it; doing so again does nothing. Raises FaultExpired, or ProbeError when undoing failed."""
        if self._name is None:
            return
        name, self._name = self._name, None
        if not self._probe.ask(bool, "lift", LIFT_WITHIN, fault=name):
            raise FaultExpired(
                self._probe.host,
                f"fault {self.kind} ended by itself after {self.ttl:g} s, before it was lifted",
                "run it again when the host has less to do; in a check of yours, give the fault a longer ttl",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.lift()
        except FaultExpired:
            if error is None:  # else the block's own error is the news
                raise


def apply(probe: ProbeClient, kind: str, ttl: float, params: dict[str, Any]) -> Fault:
    """Apply a fault for at most ``ttl`` seconds, more where the lab is slow.

    Raises Unsupported (capability), NoLease or ProbeError.
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
