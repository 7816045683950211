"""Compare the processes of a host's services before and after an attack."""

from __future__ import annotations

from dataclasses import dataclass

from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.state.units import units

PROPERTIES = "Id,ActiveState,SubState,NRestarts,MainPID"
#: Prints the child processes of each process in its arguments, a line per process.
CHILDREN = 'for pid; do cat "/proc/$pid/task/$pid/children" 2>/dev/null; echo; done'


@dataclass(frozen=True)
class Processes:
    """The units of a host, each with its state and its processes: a worker that died was replaced."""

    machine: Machine
    by_unit: dict[str, str]

    def check_unchanged(self) -> None:
        """Check that every unit has the state and the processes that it had."""
        now = read_processes(self.machine).by_unit
        changed = [
            f"{unit} was {was}, is {now[unit]}" for unit, was in self.by_unit.items() if now[unit] != was
        ]
        assert not changed, f"processes of {self.machine.name} ended: {'; '.join(changed)}"


def read_processes(machine: Machine) -> Processes:
    """Return the units of a host with their states and processes."""
    command = ["systemctl", "show", f"--property={PROPERTIES}", *units(machine.host)]
    found = [
        dict(line.split("=", 1) for line in block.splitlines())
        for block in machine.probe.run(command).stdout.strip().split("\n\n")
    ]
    main = [unit.get("MainPID", "0") for unit in found]
    children = machine.probe.run(["sh", "-c", CHILDREN, "sh", *main]).stdout.split("\n")
    return Processes(
        machine,
        {
            unit.pop(
                "Id"
            ): f"{' '.join(f'{name}={value}' for name, value in sorted(unit.items()))}{_describe(pids)}"
            for unit, pids in zip(found, children, strict=False)
        },
    )


def _describe(children: str) -> str:
    return f" with {children.strip()}" if children.strip() else ""
