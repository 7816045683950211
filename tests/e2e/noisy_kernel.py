"""A pytest plugin: during the first check, the kernel of the lab seems to print a recorded warning."""

from __future__ import annotations

import pytest

from mptcp_lab.machines.kernel_logs import THIS_MACHINE, KernelLogs

WARNING = [
    "WARNING: CPU: 1 PID: 4567 at net/mptcp/protocol.c:1350 mptcp_sendmsg_frag+0x8f1/0xa40",
    "Modules linked in: mptcp_diag inet_diag",
    "---[ end trace 0000000000000000 ]---",
]


def pytest_configure(config: pytest.Config) -> None:
    take, printed = KernelLogs.take, [{}, {THIS_MACHINE: WARNING}]  # the first reading opens the log

    def take_more(logs: KernelLogs) -> dict[str, list[str]]:
        found = take(logs)
        for name, lines in (printed.pop(0) if printed else {}).items():
            found[name] = [*found[name], *lines]
        return found

    KernelLogs.take = take_more  # type: ignore[method-assign]
