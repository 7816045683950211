"""Operations that read and change the host: facts, counters, endpoints, commands."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from ..basics import Json, read_clock, set_patience
from ..examine.document import examine
from ..examine.network import look_up
from ..faults.registry import change_endpoints, recover_faults
from ..kernel.capabilities import read_capabilities
from ..kernel.host import (
    IP_READINGS,
    read_command_line,
    read_counters,
    read_nics,
    read_sysctls,
    read_tool,
)
from ..kernel.log import KernelLog
from ..kernel.network_state import network_state, watched_readings
from ..kernel.path_manager import PathManager
from .base import Operations


class HostOperations(Operations):
    """Read the host, change its endpoints, and run commands."""

    def __init__(self) -> None:
        super().__init__()
        self._capabilities: Json | None = None
        self._kernel_log: KernelLog | None = None
        self._readings = watched_readings()

    def op_hello(self) -> Json:
        """Return the host's name, versions, ids and clocks, and the faults that earlier probes left."""
        return {
            "host": platform.node(),
            "kernel": platform.release(),
            "build": platform.version(),
            "command_line": read_command_line(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
            "pid": os.getpid(),
            "uid": os.getuid(),
            "systemd": Path("/run/systemd/system").is_dir(),
            "faults": self._left_faults(),
            "clock": read_clock(),
        }

    def _left_faults(self) -> list[Json]:
        """Return the faults that earlier probes left, and lift those that have expired."""
        return recover_faults()

    def op_capabilities(self) -> Json:
        """Return the result of read_capabilities, which runs once per probe."""
        if self._capabilities is None:
            self._capabilities = read_capabilities()
        return self._capabilities

    def op_patience(self, factor: float) -> None:
        """Multiply every wait of this probe by `factor`."""
        set_patience(factor)

    def op_clock(self) -> Json:
        """See read_clock."""
        return read_clock()

    def op_ping(self, payload: Any = None) -> Any:
        """Return the payload."""
        return payload

    def op_counters(self) -> Json:
        """See read_counters."""
        return read_counters()

    def op_nics(self) -> Json:
        """See read_nics."""
        return read_nics()

    def op_endpoints(self) -> list[Json]:
        """Return the MPTCP endpoints."""
        with PathManager() as manager:
            return manager.endpoints()

    def op_change_endpoints(self, command: str, endpoint: Json | None = None) -> None:
        """See change_endpoints."""
        change_endpoints(command, endpoint)

    def op_limits(self) -> Json:
        """Return the MPTCP limits."""
        with PathManager() as manager:
            return manager.limits()

    def op_steer(self, command: str, token: int, **about: Any) -> None:
        """See PathManager.steer."""
        with PathManager() as manager:
            manager.steer(command, token, **about)

    def op_examine(self, ports: list[int]) -> Json:
        """See examine."""
        return examine(ports)

    def op_look_up(self, pairs: list[list[str]]) -> list[Json]:
        """See look_up."""
        return look_up(pairs)

    def op_sysctls(self) -> Json:
        """See read_sysctls."""
        return read_sysctls()

    def op_read(self, what: str) -> Any:
        """Return one of IP_READINGS, as the tool prints it."""
        if what not in IP_READINGS:
            raise ValueError(f"{what!r}: use one of {', '.join(IP_READINGS)}")
        return read_tool(what)

    def op_network_state(self) -> Json:
        """See network_state."""
        return network_state(self._readings)

    def op_kernel_log(self) -> list[str]:
        """Return the kernel's log lines since the last call; the first call begins to follow the log."""
        if self._kernel_log is None:
            self._kernel_log = KernelLog()
        return self._kernel_log.take()

    def op_run(self, argv: list[str], timeout: float = 10.0, stdin: str = "") -> Json:
        """Run a command with a timeout in seconds; see Commands.run."""
        return self.commands.run(argv, timeout, stdin)
