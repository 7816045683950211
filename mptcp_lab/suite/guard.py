"""Guard the checks: one that uses a broken host is inconclusive, and the cause is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass

import pytest

from mptcp_lab.errors import LabBroken, LabError
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NeverHappened, eventually
from mptcp_lab.results.causes import Cause as FailureCause
from mptcp_lab.suite.diagnosis import find_cause
from mptcp_lab.suite.preconditions import Cause, read

#: How long a unit that a check stopped or killed may take, after the check, to be up and listening again.
SETTLE_WITHIN_SECONDS = 5.0
#: Longer collections are not searched for machines: they hold packets.
MOST_SEARCHED = 8


class Guard:
    """Records what is broken on each host, and which hosts the current check uses."""

    def __init__(self, may_use_broken: Callable[[pytest.Item], bool]) -> None:
        """Create a guard; `may_use_broken` returns whether a check may use broken hosts, as STATE may."""
        self._may_use_broken = may_use_broken
        self._machines: Mapping[str, Machine] = {}
        self._broken: dict[str, list[Cause]] = {}
        self._used: set[str] = set()
        self._given: set[str] = set()
        self._repaired: set[str] = set()
        self._refuses = False

    def watch(self, machines: Mapping[str, Machine]) -> None:
        """Read every host, and record from now on which of them are used."""
        self._broken = read(machines.values())
        self._machines = machines
        for machine in machines.values():
            machine.probe.on_use = self._use

    def begin(self, item: pytest.Item) -> None:
        """Start a check: read the broken hosts again, since they may be repaired by now.

        STATE checks may use broken hosts.
        """
        self._refuses = False
        for machine in self._machines.values():
            machine.handled.clear()
        self._read_again(list(self._broken))
        self._used, self._given = set(), set()
        self._refuses = not self._may_use_broken(item)

    def require(self, item: pytest.Item) -> None:
        """Raise `Inconclusive` if a machine in the check's own fixtures is broken."""
        for machine in _machines_in(_arguments(item)):
            self._use(machine.name)

    def end(self, item: pytest.Item) -> None:
        """Record the machines in the check's own fixtures, or in all of its fixtures if it used no host.

        This happens before the fixtures are torn down.
        """
        given = _arguments(item) if self._used else getattr(item, "funcargs", None)
        self._given = {machine.name for machine in _machines_in(given or {})}

    @contextmanager
    def allowing_all_hosts(self) -> Iterator[None]:
        """Let the block use every host, without recording it as used by the check."""
        refuses, used = self._refuses, self._used
        self._refuses, self._used = False, set()
        try:
            yield
        finally:
            self._refuses, self._used = refuses, used

    def explain(self, item: pytest.Item) -> LabError | None:
        """Return the error about a broken host that a failed check needed; None if no cause explains it.

        A STATE check fails because of the causes that it finds. Only a cause that no STATE claim finds, such
        as a full disk, explains its failure.
        """
        needed = self._needed_hosts()
        known = {cause for causes in self._broken.values() for cause in causes}

        def find_causes() -> list[Cause]:
            self._read_again(needed)
            return [cause for name in needed for cause in self._broken.get(name, ()) if explains(cause)]

        def explains(cause: Cause) -> bool:
            if cause.engine in self._machines[cause.host].handled:
                return False
            return not (cause.claim and self._may_use_broken(item))

        try:
            with self.allowing_all_hosts():
                if not known.intersection(causes := find_causes()):
                    causes = _wait_for_recovery(find_causes)
        except LabBroken as error:
            return error
        except LabError:
            return None  # the check's own failure is more useful than this error
        return min(causes, key=lambda cause: not cause.is_about_host).error() if causes else None

    def diagnose(self, item: pytest.Item) -> FailureCause | None:
        """Return what the doctor's rules find wrong with the hosts that a failed check needed.

        A STATE check names what is wrong itself.
        """
        if self._may_use_broken(item):
            return None
        with self.allowing_all_hosts():
            return find_cause(self._machines, self._needed_hosts())

    @property
    def unsound(self) -> set[str]:
        """Return the hosts with a cause that affects the whole host."""
        return {name for name, causes in self._broken.items() if any(each.is_about_host for each in causes)}

    def take_repaired(self) -> set[str]:
        """Return the hosts that were unsound and have been repaired since the last call."""
        taken, self._repaired = self._repaired, set()
        return taken

    def _read_again(self, names: Sequence[str]) -> None:
        if not names:
            return
        before = self.unsound
        found = read(self._machines[name] for name in names)
        others = {name: causes for name, causes in self._broken.items() if name not in names}
        self._broken = others | found
        self._repaired |= before - self.unsound

    def _needed_hosts(self) -> list[str]:
        """Return the hosts that a check used or was given, and the gateways: any packet may pass them."""
        names = self._used | self._given
        return [
            name
            for name, machine in self._machines.items()
            if name in names or "gateways" in machine.host.functions
        ]

    def _use(self, host: str) -> None:
        """Record that the check uses a host; raise `Inconclusive` if a cause affects the whole host."""
        self._used.add(host)
        if self._refuses:
            for cause in self._broken.get(host, ()):
                if cause.is_about_host:
                    raise cause.error()


def _wait_for_recovery(found: Callable[[], list[Cause]]) -> list[Cause]:
    """Wait until nothing is broken any more; return what still is after `SETTLE_WITHIN_SECONDS`."""
    try:
        return eventually(found, until=lambda causes: not causes, within=SETTLE_WITHIN_SECONDS)
    except NeverHappened:
        return found()


def _arguments(item: pytest.Item) -> dict[str, object]:
    """Return the values of the fixtures that a check's function has as arguments."""
    names = getattr(getattr(item, "_fixtureinfo", None), "argnames", ())
    return {name: value for name, value in (getattr(item, "funcargs", None) or {}).items() if name in names}


def _machines_in(value: object, depth: int = 4) -> Iterator[Machine]:
    """Yield the machines in a value: in dataclass fields, mappings, tuples and lists."""
    if isinstance(value, Machine):
        yield value
    elif depth and is_dataclass(value):
        for field in fields(value):
            yield from _machines_in(getattr(value, field.name), depth - 1)
    elif depth and isinstance(value, Mapping):
        yield from _machines_in(tuple(value.values()), depth)
    elif depth and isinstance(value, tuple | list) and len(value) <= MOST_SEARCHED:
        for each in value:
            yield from _machines_in(each, depth - 1)
