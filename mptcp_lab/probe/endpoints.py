"""Replace the MPTCP endpoints of a host, and change them one by one, until the original ones are restored."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from mptcp_lab.probe.client import ProbeClient
from mptcp_lab.probe.faults import Fault


@dataclass(frozen=True)
class NewEndpoint:
    """An endpoint to add; with `id` 0 the kernel chooses a free id."""

    address: str
    flags: Collection[str]
    id: int = 0
    device: str = ""
    port: int = 0

    def document(self) -> dict[str, Any]:
        """Return the endpoint as the agent reads it."""
        return {**vars(self), "flags": sorted(self.flags)}


class EndpointControl:
    """The endpoints of a host under a fault "endpoints", which restores the original ones.

    Each command goes by netlink, so that flags which the host's `ip` does not know work too. It raises
    `ProbeError` with the kernel's errno if the kernel refuses it.
    """

    def __init__(self, probe: ProbeClient, fault: Fault) -> None:
        self._probe, self._fault = probe, fault

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._fault.__exit__(kind, error, trace)

    def _order(self, command: str, endpoint: NewEndpoint | None = None) -> None:
        document = endpoint.document() if endpoint else None
        self._probe.order("change_endpoints", command=command, endpoint=document)

    def add(self, endpoint: NewEndpoint) -> None:
        """Add an endpoint."""
        self._order("add", endpoint)

    def delete(self, endpoint: NewEndpoint) -> None:
        """Delete the endpoint with this id and address; the subflows that it made are closed."""
        self._order("delete", endpoint)

    def change(self, endpoint: NewEndpoint) -> None:
        """Set "backup" and "fullmesh" of the endpoint with this id and address as its flags say."""
        self._order("change", endpoint)

    def flush(self) -> None:
        """Delete all endpoints at once."""
        self._order("flush")
