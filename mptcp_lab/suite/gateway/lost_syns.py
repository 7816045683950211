"""Describe what a client's kernel does if SYNs with MP_CAPABLE are lost (RFC 8684 section 3.7)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mptcp_lab.errors import Unsupported
from mptcp_lab.machines.session import Machine

RETRANSMISSIONS = "net.mptcp.syn_retrans_before_tcp_fallback"  # Linux 6.15
BLACKHOLE_TIMEOUT = "net.mptcp.blackhole_timeout"  # Linux 6.12
#: Before the setting existed, Linux 6.12 had the number in its code (net/mptcp/ctrl.c,
#: mptcp_active_detect_blackhole).
BEFORE_THE_SETTING = 2


def retransmissions_before_fallback(client: Machine) -> int:
    """Return how often a client's kernel repeats a SYN with MP_CAPABLE before it sends one without.

    Raises:
        Unsupported: the kernel never sends one without (before Linux 6.12).
    """
    sysctls = client.probe.sysctls()
    if RETRANSMISSIONS in sysctls:
        return int(sysctls[RETRANSMISSIONS])
    if BLACKHOLE_TIMEOUT in sysctls:
        return BEFORE_THE_SETTING
    why = f"Linux {client.probe.kernel} repeats SYNs with MP_CAPABLE until connect() fails (6.12 falls back)"
    raise Unsupported("fallback after lost SYNs", why, client.name)


@contextmanager
def blackhole_timeout(client: Machine, seconds: int) -> Iterator[None]:
    """Set for how many seconds lost SYNs switch MPTCP off on a client (0: never), until the block ends.

    On a kernel without this setting, lost SYNs never switch MPTCP off, so nothing is done.
    """
    if BLACKHOLE_TIMEOUT not in client.probe.sysctls():
        yield
        return
    with client.probe.fault("sysctl", name=BLACKHOLE_TIMEOUT, value=seconds):
        yield
