"""Use testinfra on the lab's hosts, with the open probes as its connections."""

from __future__ import annotations

from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host as TestinfraHost

from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import Probe
from mptcp_lab.suite.state.units import units


class ProbeBackend(BaseBackend):
    """Runs testinfra's commands through a probe: in a few milliseconds, without a second SSH connection."""

    NAME = "probe"

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe.host)
        self._probe = probe

    def run(self, command: str, *args: str, **_: Any) -> CommandResult:
        """Run a shell command, quoted as testinfra does."""
        line = self.get_command(command, *args)
        done = self._probe.run(["sh", "-c", line], timeout=30)
        return self.result(done.returncode, line.encode(), done.stdout, done.stderr)


def facts(probe: Probe) -> TestinfraHost:
    """Return testinfra's view of a host."""
    return TestinfraHost(ProbeBackend(probe))


def stopped_units(machine: Machine) -> list[str]:
    """Return the units of a machine's services that are not both active and enabled."""
    service = facts(machine.probe).service
    return [
        unit for unit in units(machine.host) if not (service(unit).is_running and service(unit).is_enabled)
    ]
