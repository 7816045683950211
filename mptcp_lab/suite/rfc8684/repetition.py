"""Let a server soon repeat an announcement whose echo did not come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

from mptcp_lab import patience
from mptcp_lab.machines.session import Machine

TIMEOUT = "net.mptcp.add_addr_timeout"
#: Long enough for a check to see a repetition and to let the echo of the next one pass.
SOON_S = 3


@contextmanager
def repeating_soon(server: Machine) -> Iterator[None]:
    """Shorten the time after which a server repeats an ADD_ADDR; it stays as it is where it is shorter, or 0.

    Kernels before 6.18 wait for this time, 120 s by default. Later ones follow the round-trip time.
    """
    now, soon = int(server.probe.sysctls().get(TIMEOUT, 0)), ceil(SOON_S * patience.factor())
    if now <= soon:
        yield
        return
    with server.probe.fault("sysctl", name=TIMEOUT, value=soon):
        yield
