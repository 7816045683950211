"""The scenarios of ordinary traffic: what they ask of a host's kernel and of an inventory."""

from __future__ import annotations

import ast
import inspect
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mptcp_lab.agent.lab_agent.faults.flip import DOFFS
from mptcp_lab.errors import Unsupported
from mptcp_lab.inventory import load
from mptcp_lab.machines.session import Machine
from mptcp_lab.paths import ROOT
from mptcp_lab.suite.rfc8684 import both_kernels, ordinary, repetition
from mptcp_lab.suite.rfc8684.ordinary import CHANGED_OCTET, find_other_address, find_reachable_address

#: NFTA_PAYLOAD_OFFSET and its length were one octet each before Linux 6.18, which answers ERANGE beyond.
LAST_OCTET = 255


def test_every_kernel_can_change_the_octet_behind_each_tcp_header() -> None:
    assert max(DOFFS) * 4 + CHANGED_OCTET <= LAST_OCTET


def test_an_address_off_the_paths_is_announced_and_its_lack_is_named() -> None:
    lab = load(ROOT / "inventories" / "embedded")
    server = lab.hosts["server1"]
    assert find_other_address(lab, server) == "198.18.10.31"
    with pytest.raises(Unsupported, match="an address to announce"):
        find_other_address(lab, replace(server, nics=lab.path_nics(server)))


def test_an_address_is_announced_only_where_the_client_has_a_route_to_it() -> None:
    lab = load(ROOT / "inventories" / "embedded")
    server = Machine(lab, lab.hosts["server1"], cast(Any, None))

    def client(exit_status: int) -> Machine:
        def run(argv: list[str]) -> SimpleNamespace:
            assert argv[-1] == "198.18.10.31"
            return SimpleNamespace(returncode=exit_status)

        return Machine(lab, lab.hosts["client"], cast(Any, SimpleNamespace(run=run)))

    assert find_reachable_address(client(0), server) == "198.18.10.31"
    with pytest.raises(Unsupported, match="no route to"):
        find_reachable_address(client(2), server)


#: Counters that Linux 6.1 has (net/mptcp/mib.c), of those that scenarios wait for.
COUNTERS_OF_6_1 = {
    "AddAddr", "EchoAdd", "MPFailTx", "MPFastcloseRx", "MPJoinPortAckRx", "MPPrioTx", "MPTCPRetrans", "RmAddr"
}  # fmt: skip
WAITS = {"wait_for_growth", "_counter_growth", "_lasts_until"}


def test_scenarios_wait_for_counters_that_linux_6_1_has() -> None:
    for module in (ordinary, both_kernels):
        calls = [
            each for each in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(each, ast.Call)
        ]
        waited = {
            argument.value
            for call in calls
            if isinstance(call.func, ast.Name) and call.func.id in WAITS
            for argument in call.args
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
        }
        assert waited, f"{module.__name__} waits for no counter"
        assert waited <= COUNTERS_OF_6_1 | ordinary.INSTEAD.keys()


@pytest.mark.parametrize(("now", "changed"), [("120", [3]), ("3", []), ("0", []), (None, [])])
def test_a_server_repeats_an_announcement_soon_unless_it_does_already_or_never(
    now: str | None, changed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mptcp_lab.patience.factor", lambda: 1.0)
    found = []

    def fault(kind: str, *, name: str, value: int) -> nullcontext[None]:
        assert (kind, name) == ("sysctl", repetition.TIMEOUT)
        found.append(value)
        return nullcontext()

    probe = SimpleNamespace(sysctls=lambda: {repetition.TIMEOUT: now} if now else {}, fault=fault)
    with repetition.repeating_soon(cast(Any, SimpleNamespace(probe=probe))):
        pass
    assert found == changed
