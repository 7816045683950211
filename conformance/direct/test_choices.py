"""DIRECT-26: scheduler, path manager and congestion control are chosen by name."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct import choices, client_daemon
from mptcp_lab.suite.direct.live import live_connection
from mptcp_lab.suite.expectations import direct_flow, expected_pairs, wait_for_joins
from mptcp_lab.suite.requirements import FULL_MESH, ORIGIN, TWO_PATHS
from mptcp_lab.suite.split.forwarders import userspace_paths


@claim("DIRECT-26", case="scheduler", requires=(ORIGIN, FULL_MESH))
def test_schedulers(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Under every scheduler that the kernel lists, a connection gets its subflows and its stream is whole."""
    names = choices.available_names(client, choices.SCHEDULER)
    evidence.document("schedulers that the client lists", names)
    for name in names:
        with choices.chosen_name(client, choices.SCHEDULER, name), live_connection(client, server) as data:
            wait_for_joins(data.connection, expected_pairs(client, server))
            data.carry()
            data.check_intact()


@claim("DIRECT-26", case="path-manager", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_path_managers(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A connection keeps the path manager under which it began, whatever is chosen after that."""
    with direct_flow(client, server) as earlier:
        first = earlier.start()
        wait_for_joins(earlier, expected_pairs(client, server))
        with userspace_paths(client), live_connection(client, server) as later:
            later.carry()
            refused = choices.order_subflow(client, server, earlier.stream)
            accepted = choices.order_subflow(client, server, later.streams[0])
            wait_for_joins(later.connection, choices.ordered_pairs(client, server))
            pairs = later.connection.pairs()
            later.check_intact()
        ended = earlier.end(first)
    evidence.document("orders to the user-space path manager", {"earlier": refused, "later": accepted})
    assert refused, "the connection under the kernel's path manager took an order from user space"
    assert accepted == "", f"the connection under the user-space path manager refused an order: {accepted}"
    assert pairs == choices.ordered_pairs(client, server).addresses, "subflows without a command"
    assert ended.intact, ended.difference


@claim("DIRECT-26", case="unknown")
@pytest.mark.parametrize("setting", ["scheduler", "path_manager"], ids=["scheduler", "path-manager"])
def test_unknown_names(client: Machine, setting: str) -> None:
    """The kernel refuses a name that it does not list, and the name before it stays."""
    choices.check_refused(client, f"net.mptcp.{setting}")


@claim("DIRECT-26", case="congestion-control", requires=(ORIGIN, FULL_MESH))
def test_congestion_control(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A connection's congestion control is that of its subflows, later ones too; others keep the default."""
    default = client.probe.sysctls()[choices.CONGESTION_CONTROL]
    other = choices.another_congestion_control(client)
    with live_connection(client, server) as plain, live_connection(client, server) as set_apart:
        choices.set_congestion_control(set_apart.streams[0], other)
        for data in (plain, set_apart):
            wait_for_joins(data.connection, expected_pairs(client, server))
            data.carry()
        found = [choices.congestion_controls(client, data.streams[0]) for data in (plain, set_apart)]
        for data in (plain, set_apart):
            data.check_intact()
    evidence.document("congestion control of the subflows", {"default": found[0], other: found[1]})
    assert found == [{default}, {other}], f"congestion control of the subflows: {found}"


@claim("DIRECT-26", case="endpoints-ignored", requires=(ORIGIN, TWO_PATHS))
def test_endpoints_ignored(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Under the user-space path manager endpoints in the kernel do nothing to a connection."""
    client_daemon.check_endpoints_ignored(client, server, evidence)


@claim("DIRECT-26", case="id-0", requires=(ORIGIN, TWO_PATHS))
def test_id_0(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """User space opens a further subflow with id 0 from another address."""
    client_daemon.check_id_0(client, server, evidence)
