"""Provide the fixtures of the checks: the lab's machines by their function, and the guard against traces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mptcp_lab import patience
from mptcp_lab.inventory import Lab
from mptcp_lab.machines.kernel_files import is_column
from mptcp_lab.machines.kernel_logs import KernelLogs, kernel_logs
from mptcp_lab.machines.session import Machine, Session, lease, session
from mptcp_lab.plugin import (
    EvidenceBox,
    case_of,
    describe,
    describe_run,
    diagnose_failures,
    explain_failures,
    fixtures_require,
    lab_of,
)
from mptcp_lab.probe import NetworkState
from mptcp_lab.suite.find.hosts import find_client, find_server, find_tcp_server
from mptcp_lab.suite.guard import Guard
from mptcp_lab.suite.kernel_reports import check_kernels_quiet
from mptcp_lab.suite.proxy.engines import versions
from mptcp_lab.suite.requirements import OF_FIXTURES
from mptcp_lab.suite.state.settings import settings_left_out
from mptcp_lab.suite.traces import compare, network_states, no_faults, wait_for_addresses

pytest_plugins = ["mptcp_lab.plugin"]


GUARD = pytest.StashKey[Guard]()


def pytest_configure(config: pytest.Config) -> None:
    """Create the guard, let it explain and diagnose failures, and register what the fixtures require."""
    config.stash[GUARD] = Guard(_is_about_the_lab)
    explain_failures(config, config.stash[GUARD].explain)
    diagnose_failures(config, config.stash[GUARD].diagnose)
    fixtures_require(config, OF_FIXTURES)


def _is_about_the_lab(item: pytest.Item) -> bool:
    """Return whether a check is about the state of hosts, so that it may use broken ones."""
    case = case_of(item)
    return case is None or case.claim.family == "state"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start the check in the guard."""
    item.config.stash[GUARD].begin(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Stop a check before it begins if its fixtures contain a broken machine."""
    item.config.stash[GUARD].require(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Record in the guard which machines the check's fixtures contain."""
    item.config.stash[GUARD].end(item)


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Lab:
    """Return the lab, as its inventory describes it."""
    return lab_of(pytestconfig)


@pytest.fixture(scope="session")
def machines(pytestconfig: pytest.Config, lab: Lab) -> Iterator[Session]:
    """Yield every machine of the lab, with a probe that stays open for the whole run."""
    with session(lab) as opened, lease(opened):
        engine = {"engine": "qemu"} if is_column(lab) else {}
        describe_run(pytestconfig, opened.lab, patience=max(1.0, patience.factor()), **engine)
        for machine in opened.machines.values():
            hello = machine.probe.hello
            found = {**versions(machine), "python": hello["python"]}
            describe(
                pytestconfig,
                machine.name,
                kernel=hello["kernel"],
                kernel_build=hello["build"],
                command_line=hello["command_line"],
                architecture=hello["architecture"],
                versions=found,
            )
            if lacking := settings_left_out(machine.host, machine.probe.sysctls()):
                describe(pytestconfig, machine.name, settings_left_out=lacking)
        pytestconfig.stash[GUARD].watch(opened.machines)
        yield opened


@pytest.fixture(scope="session")
def initial_states(pytestconfig: pytest.Config, machines: Session) -> dict[str, NetworkState]:
    """Return the network state of every host at the start of the run, without faults of earlier runs."""
    with pytestconfig.stash[GUARD].allowing_all_hosts():
        no_faults(machines)
        wait_for_addresses(machines)
        return network_states(machines)


@pytest.fixture(autouse=True)
def still_ours(machines: Session) -> None:
    """Stop a check before it begins if the run has lost its lease."""
    machines.check_lease()


@pytest.fixture(autouse=True)
def no_traces(
    request: pytest.FixtureRequest, machines: Session, initial_states: dict[str, NetworkState]
) -> Iterator[None]:
    """Fail a check that leaves a trace on any host, even if the check itself passed.

    Hundreds of checks only look at one session's packets (`ordinary`): if no probe has started an operation
    since the last comparison, there is nothing to compare. A host that broke during the run is not compared
    either. Once it is repaired, it is compared with its state after the repair.
    """
    guard = request.config.stash[GUARD]
    if repaired := guard.take_repaired():
        with guard.allowing_all_hosts():
            now = network_states(machines)
        initial_states.update({name: now[name] for name in repaired})
    yield
    if "ordinary" in request.fixturenames and machines.operation_count == machines.compared:
        return
    with guard.allowing_all_hosts():
        left = compare(machines, initial_states, initial_states.keys() - guard.unsound)
    machines.compared = machines.operation_count
    assert not left, "the check left traces: " + "; ".join(left)


@pytest.fixture(scope="session")
def logs(pytestconfig: pytest.Config, machines: Session) -> Iterator[KernelLogs]:
    """Follow the kernel logs of the lab from the start of the run; the result names unreadable ones."""
    probes = {name: machine.probe for name, machine in machines.machines.items()}
    with kernel_logs(machines.lab, probes) as followed:
        for name, why in followed.unreadable.items():
            for host in [name] if name in probes else probes:
                describe(pytestconfig, host, kernel_log=f"not read: {why}")
        yield followed


@pytest.fixture(autouse=True)
def quiet_kernels(machines: Session, logs: KernelLogs, evidence: EvidenceBox) -> Iterator[None]:
    """Fail a check during which a kernel reported a fault, such as a warning, an oops or a memory leak."""
    before = machines.operation_count
    yield
    if machines.operation_count != before:
        check_kernels_quiet(logs.take(), evidence)


@pytest.fixture(autouse=True)
def kept_captures(machines: Session, evidence: EvidenceBox) -> Iterator[None]:
    """Keep every capture of a check as evidence, also if the check passes."""
    yield
    for host, pcapng in machines.take_captures():
        evidence.pcap(f"capture at {host}", pcapng)


@pytest.fixture(scope="session")
def client(machines: Session) -> Machine:
    """Return A: the client, with two or more NICs."""
    return machines.machine_of(find_client(machines.lab))


@pytest.fixture(scope="session")
def server(machines: Session) -> Machine:
    """Return the B that speaks MPTCP, on the client's paths."""
    return machines.machine_of(find_server(machines.lab))


@pytest.fixture(scope="session")
def tcp_server(machines: Session) -> Machine:
    """Return the B that does not speak MPTCP."""
    return machines.machine_of(find_tcp_server(machines.lab))
