"""A session with a lab: one probe per host, opened in parallel and kept open for the whole run."""

from __future__ import annotations

import getpass
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from mptcp_lab import patience
from mptcp_lab.inventory.model import Host, Lab, Nic, Service
from mptcp_lab.inventory.requirement import find_address
from mptcp_lab.labs.lab_paths import lab_paths
from mptcp_lab.machines.cables import cable_of, cable_out
from mptcp_lab.machines.lease import Lease
from mptcp_lab.machines.methods import with_methods
from mptcp_lab.machines.reach import target
from mptcp_lab.probe import Probe
from mptcp_lab.probe.ssh import SshTarget

T = TypeVar("T")
#: Generous, since the speed of a host is not known before its probe has opened.
OPEN_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Machine:
    """A host of the lab together with its probe."""

    lab: Lab
    host: Host
    probe: Probe
    #: Engines that the current check reloads or restarts: the check judges their state, the guard does not.
    handled: set[str] = field(default_factory=set, compare=False)

    @property
    def name(self) -> str:
        """Return the host's name."""
        return self.host.name

    @property
    def paths(self) -> tuple[Nic, ...]:
        """Return the NICs that carry subflows: up, on path segments, in the inventory's order."""
        return self.lab.path_nics(self.host)

    @property
    def devices(self) -> list[str]:
        """Return the device names of the lab's NICs that are up."""
        return [nic.device for nic in self.host.nics if nic.up]

    def sockets(self) -> int:
        """Return how many sockets the probe's process holds: one per connection, however many subflows."""
        folder = f"/proc/{self.probe.hello['pid']}/fd"
        links = self.probe.run(["find", folder, "-lname", "socket:*"]).stdout
        return len(links.splitlines())

    def address(self, path: int = 0, family: int = 4) -> str:
        """Return the address of a path NIC, counted from 0; raise `Unsupported` if it lacks the family."""
        return str(find_address(self.lab, self.host, path, family))


class Session:
    """All machines of a lab, each with an open probe."""

    def __init__(self, lab: Lab, probes: Mapping[str, Probe]) -> None:
        self.lab = lab
        self.check_lease: Callable[[], None] = lambda: None
        self.disturbances: set[str] = set()  # changes by others that were reported already
        self.compared = -1  # `operation_count` when the network states were last compared
        self.machines = {name: Machine(lab, lab.hosts[name], probe) for name, probe in probes.items()}
        self._captures: list[tuple[str, bytes]] = []
        for probe in probes.values():
            probe.on_capture = lambda host, pcapng: self._captures.append((host, pcapng))

    def read_all(self, read: Callable[[Machine], T]) -> dict[str, T]:
        """Return what `read` returns for each machine, by name; the machines are read in parallel."""
        with ThreadPoolExecutor(max(1, len(self.machines))) as pool:
            return dict(zip(self.machines, pool.map(read, self.machines.values()), strict=True))

    @property
    def operation_count(self) -> int:
        """Return how many operations all probes have started so far."""
        return sum(machine.probe.begun for machine in self.machines.values())

    def take_captures(self) -> list[tuple[str, bytes]]:
        """Return host name and pcapng bytes of every capture that ended since the last call."""
        taken, self._captures = self._captures, []
        return taken

    def machine_of(self, host: Host) -> Machine:
        """Return the machine of a host."""
        return self.machines[host.name]

    def backend(self, service: Service) -> tuple[Machine, Service]:
        """Return machine and service of a proxy's first backend."""
        return self.backends(service)[0]

    def backends(self, service: Service) -> tuple[tuple[Machine, Service], ...]:
        """Return machine and service of each of a proxy's backends, in the inventory's order."""
        machines = [(self.machines[backend.host], backend.port) for backend in service.backends]
        return tuple(
            (machine, next(s for s in machine.host.services if s.port == port)) for machine, port in machines
        )

    @contextmanager
    def cable_out(self, machine: Machine, nic: Nic) -> Iterator[None]:
        """Pull a NIC's cable at the lab's switch, and plug it in again at the end of the block."""
        with cable_out(cable_of(self.lab, machine.host, nic)):
            yield


@contextmanager
def session(lab: Lab) -> Iterator[Session]:
    """Open a probe on every host; raise `LabBroken`, which names the host, if one cannot be reached."""
    targets = [target(lab, host) for host in lab.hosts.values()]
    patience.use(patience.read_factor(lab_paths(lab.name).state) or 1.0)
    with ExitStack() as stack, ThreadPoolExecutor(max(1, len(targets))) as pool:
        opened = [pool.submit(_timed_open, each) for each in targets]
        for future in opened:
            if future.exception() is None:
                stack.callback(future.result()[0].close)
        probes = {each.name: future.result()[0] for each, future in zip(targets, opened, strict=True)}
        if not lab.local:  # `./lab up`, which measures local hosts, does not run for these
            measure(probes, max(future.result()[1] for future in opened))
        yield Session(with_methods(lab, probes), probes)


def _timed_open(each: SshTarget) -> tuple[Probe, float]:
    """Open a probe, and return it with the time in seconds that this took."""
    began = time.monotonic()
    return Probe.open(each, OPEN_TIMEOUT_S), time.monotonic() - began


def measure(probes: Mapping[str, Probe], slowest: float) -> None:
    """Set the patience factor, here and on the hosts, from the slowest opening of a probe in seconds."""
    patience.use(patience.compute_factor(slowest, patience.PROBE_S))
    if patience.factor() > 1.0:
        for probe in probes.values():
            probe.order("patience", factor=patience.factor())


@contextmanager
def lease(machines: Session) -> Iterator[None]:
    """Hold the lease on every host; raise `LeaseBusy`, with owner and expiry, if another run holds it."""
    owner = f"{getpass.getuser()}@{socket.gethostname()}, process {os.getpid()}"
    probes = {name: machine.probe for name, machine in machines.machines.items()}
    with Lease.take(probes, owner, run=uuid.uuid4().hex) as held:
        machines.check_lease = held.check
        yield
