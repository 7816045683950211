"""Judge whether an ADD_ADDR of IPv6 with port had to be sent, or might be dropped for want of space (R61)."""

from __future__ import annotations

from collections.abc import Mapping

#: With this setting (Linux 7.2) the kernel leaves the timestamps out of the packet with such an ADD_ADDR.
DROPS_TIMESTAMPS = "net.mptcp.add_addr_v6_port_drop_ts"


def find_loss(sent: int, dropped: int, sysctls: Mapping[str, str]) -> str:
    """Return what happened to the announcement that should not have; an empty text if it was treated right.

    `dropped` is the growth of `AddAddrTxDrop`, and `sysctls` are the announcing host's.

    Raises:
        Unsupported: whether it was dropped is not known, because the kernel lacks the counter.
    """
    if sent:
        return ""
    if sysctls.get(DROPS_TIMESTAMPS) == "1":
        return f"the announcement was not sent although {DROPS_TIMESTAMPS} makes room for it"
    return "" if dropped else "the announcement was neither sent nor dropped"
