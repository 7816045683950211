"""The flags that the inventory gives to endpoints are those that the kernel has."""

from __future__ import annotations

from typing import Any

from mptcp_lab.machines.reach import target
from mptcp_lab.probe import Probe
from tests.e2e.conftest import Configured

PROGRAM = "/usr/local/lib/mptcp-lab-endpoint"
FLAGS = {"eth1": {"subflow", "fullmesh", "backup"}, "eth2": {"subflow", "laminar"}}
USUAL = {"eth1": {"subflow", "fullmesh"}, "eth2": {"subflow", "fullmesh"}}


def flags(configured: Configured) -> dict[str, set[str]]:
    """Return, by device, the flags of the client's endpoints, as its kernel reports them."""
    lab = configured.own.lab
    with Probe.open(target(lab, lab.hosts["client"])) as probe:
        return {endpoint.device: set(endpoint.flags) for endpoint in probe.endpoints()}


def test_a_host_has_the_flags_that_its_nics_ask_for(configured: Configured) -> None:
    """Laminar too, which iproute2 lacks; without a full mesh, its checks are unsupported by name."""
    machines = configured.own.folder / "hosts.yml"
    usual = machines.read_text()

    def ask(groups: dict[str, Any]) -> None:
        for nic in groups["clients"]["hosts"]["client"]["lab_nics"][:2]:
            nic["endpoint"] = sorted(FLAGS[nic["device"]])

    assert flags(configured) == USUAL
    try:
        configured.own.edit(ask)
        configured.play("--limit=client")
        assert flags(configured) == FLAGS
        run = configured.suite("--claim=DIRECT-3")
        assert run.verdicts() == {"DIRECT-3": "unsupported"}, run.output
        assert "gives eth2 laminar subflow, without fullmesh" in run.reason("DIRECT-3")
        configured.own.ssh("client", "systemctl restart mptcp-lab-mptcp")
        assert flags(configured) == FLAGS
    finally:
        machines.write_text(usual)
        configured.play("--limit=client")
    assert flags(configured) == USUAL
    assert configured.own.ssh_may_fail("client", f"ls {PROGRAM}") == ""
