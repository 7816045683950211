"""Test the check of endpoints that the kernel made by itself: their id is to stay, their flags may change."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mptcp_lab.probe import NewEndpoint, ProbeError
from mptcp_lab.suite.direct.implicit import check_may_be_replaced

ADDRESS, IDENTITY = "198.18.2.10", 5


class Host:
    """A host with one implicit endpoint, whose kernel has a fault or none."""

    name = "client"

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.probe: Any = self
        self.endpoint = NewEndpoint(ADDRESS, frozenset({"implicit"}), IDENTITY)

    def endpoints(self) -> list[Any]:
        return [SimpleNamespace(**vars(self.endpoint))]

    def add(self, endpoint: NewEndpoint) -> None:
        """Refuse another id as the kernel does, unless the fault is that it does not."""
        if endpoint.id and self.fault != "takes another id":
            if self.fault == "changes the id although it refuses":
                self.endpoint = NewEndpoint(ADDRESS, self.endpoint.flags, endpoint.id)
            raise ProbeError("client", "change_endpoints", {"kind": "os", "message": "EEXIST", "errno": 17})
        identity = 9 if self.fault == "loses the id" else IDENTITY
        flags = self.endpoint.flags if self.fault == "keeps the flags" else frozenset(endpoint.flags)
        self.endpoint = NewEndpoint(ADDRESS, flags, identity)


def test_kernel_without_a_fault_passes() -> None:
    host: Any = Host("")
    check_may_be_replaced(host, host)


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("takes another id", "gave 198.18.2.10 the id 37"),
        ("changes the id although it refuses", "left the id 37, not 5"),
        ("loses the id", "to keep its id"),
        ("keeps the flags", "be signal"),
    ],
)
def test_fault_is_seen(fault: str, word: str) -> None:
    host: Any = Host(fault)
    with pytest.raises(AssertionError, match=word):
        check_may_be_replaced(host, host)
