"""Settings of the inventory that a host's kernel lacks."""

from __future__ import annotations

from typing import Any

import pytest

from mptcp_lab.inventory.model import Host
from mptcp_lab.suite.state.settings import settings_left_out

ON_6_1 = dict.fromkeys(("net.mptcp.enabled", "net.mptcp.stale_loss_cnt"), "1")
ON_6_12 = ON_6_1 | {"net.mptcp.blackhole_timeout": "0"}
WANTED = {"lab_mptcp_sysctls": {"blackhole_timeout": 0, "stale_loss_cnt": 4}}


@pytest.mark.parametrize(
    ("variables", "mptcp", "sysctls", "expected"),
    [
        (WANTED, True, ON_6_1, ["net.mptcp.blackhole_timeout"]),
        (WANTED, True, ON_6_12, []),
        (WANTED, False, ON_6_1, []),
        (WANTED, True, {"net.mptcp.mptcp_enabled": "1"}, []),
        ({}, True, ON_6_1, []),
    ],
    ids=["6.1", "6.12", "mptcp off", "v0.9x", "nothing asked for"],
)
def test_left_out(
    variables: dict[str, Any], mptcp: bool, sysctls: dict[str, str], expected: list[str]
) -> None:
    host = Host("client", frozenset({"clients"}), (), (), mptcp, variables)
    assert settings_left_out(host, sysctls) == expected
