"""Read what hosts count of their open MPTCP connections (PROXY-14).

The gauge is MPCurrEstab. The sockets in use of /proc/net/protocols are no measure of open connections on a
host that has been in use: the kernel was seen to count too few there (Linux 6.18).
"""

from __future__ import annotations

from contextlib import ExitStack

from mptcp_lab.errors import Unsupported
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import eventually
from mptcp_lab.suite.traffic import Target

#: How many connections are open at once.
OPEN = 5
COUNTED_WITHIN_S = 10.0
GAUGE = "MPCurrEstab"


def _read(machine: Machine) -> int:
    counters = machine.probe.counters()
    if not counters.has(GAUGE):
        raise Unsupported(GAUGE, f"Linux {machine.probe.kernel} has no such gauge", machine.name)
    return counters.mptcp(GAUGE)


def _wait_for(machine: Machine, count: int, what: str) -> None:
    eventually(
        lambda: _read(machine),
        until=lambda now: now == count,
        within=COUNTED_WITHIN_S,
        what=f"{what} at {machine.name} ({GAUGE} {count})",
    )


def check_counted(machines: tuple[Machine, ...], target: Target, client: Machine, count: int) -> None:
    """Check that these hosts count each of a client's connections once while it is open, and not later."""
    before = [_read(machine) for machine in machines]
    with ExitStack() as stack:
        for _ in range(count):
            data = stack.enter_context(target.flow(client))
            data.stream.send(1, header=data.greeting("sink")).wait(COUNTED_WITHIN_S)
            data.record()
        for machine, then in zip(machines, before, strict=True):
            _wait_for(machine, then + count, f"{count} more connections")
    for machine, then in zip(machines, before, strict=True):
        _wait_for(machine, then, "as many connections as before")
