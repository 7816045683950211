"""The lease on a lab's hosts: it admits one run at a time, and expires when the run that holds it dies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Self

from mptcp_lab.errors import LabBroken, LabBusy, LabError
from mptcp_lab.patience import patient
from mptcp_lab.probe.client import Nonsense, ProbeClient, ProbeError
from mptcp_lab.probe.shapes import read_as
from mptcp_lab.text import to_one_line


class LeaseBusy(LabBusy):
    """Another run, ``owner``, holds the lease on a host ``until`` this time (UTC)."""

    def __init__(self, host: str, owner: str, until: datetime) -> None:
        super().__init__(
            f"{to_one_line(owner)} holds the lab until {until:%H:%M:%S} UTC (unless that run renews it)",
            host,
            "wait until then, or ask the owner to stop the run",
        )
        self.owner = owner
        self.until = until


class LeaseLost(LabBroken):
    """This run's lease has expired or was taken over: the run must not change any host from now on."""


class Lease:
    """A run's lease on all hosts of a lab; a thread renews it until it is released or lost."""

    def __init__(
        self, probes: Mapping[str, ProbeClient], run: str, ttl: float, on_lost: Callable[[], None]
    ) -> None:
        self._probes = probes
        self._run = run
        self._ttl = ttl
        self._on_lost = on_lost
        self._lost: LeaseLost | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._prolong, name="lease", daemon=True)

    @classmethod
    def take(
        cls,
        probes: Mapping[str, ProbeClient],
        owner: str,
        run: str,
        ttl: float = 30.0,
        on_lost: Callable[[], None] = lambda: None,
    ) -> Self:
        """Acquire the lease on every host, or on none, for ``ttl`` seconds at a time.

        Hosts are locked in the order of their names, so that two runs cannot each acquire half of them.
        ``on_lost`` is called once, from a thread, when the lease is lost.

        Raises:
            LeaseBusy: another run holds the lease on a host.
        """
        ttl = patient(ttl)
        lease = cls(dict(sorted(probes.items())), run, ttl, on_lost)
        taken: list[ProbeClient] = []
        try:
            for probe in lease._probes.values():
                _take(probe, owner, run, ttl)
                taken.append(probe)
        except BaseException:
            for probe in taken:
                probe.call("lease_release", run=run)
            raise
        for probe in taken:
            probe.run_id = run
        lease._thread.start()
        return lease

    def check(self) -> None:
        """Raise `LeaseLost` if the lease was lost."""
        if self._lost is not None:
            raise self._lost

    def release(self) -> None:
        """Release the lease on every host; on an unreachable host it remains until it expires."""
        self._ended.set()
        self._thread.join()
        for probe in self._probes.values():
            probe.run_id = ""
            try:
                probe.call("lease_release", run=self._run)
            except LabError:
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _prolong(self) -> None:
        while not self._ended.wait(self._ttl / 3):
            for name, probe in self._probes.items():
                try:
                    probe.order("lease_refresh", run=self._run, ttl=self._ttl)
                except LabError as error:
                    self._lost = LeaseLost(f"the lease is lost: {error.what}", name, "start the run again")
                    self._on_lost()
                    return


def _take(probe: ProbeClient, owner: str, run: str, ttl: float) -> None:
    try:
        probe.ask(dict, "lease_take", owner=owner, run=run, ttl=ttl)
    except ProbeError as error:
        if error.kind != "lease-busy":
            raise
        try:
            until = datetime.fromtimestamp(read_as(float, error.more.get("until")), UTC)
            owner = read_as(str, error.more.get("owner"))
        except (OSError, OverflowError, ValueError) as problem:
            raise Nonsense(probe.host, "lease_take", str(problem)) from None
        raise LeaseBusy(probe.host, owner, until) from None
