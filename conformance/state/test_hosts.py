"""STATE-1 to STATE-6: the hosts are as the inventory and the playbooks describe them."""

import errno
from dataclasses import asdict

from mptcp_lab.inventory import Lab
from mptcp_lab.machines.session import Session
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.requirements import LOCK, find_lock
from mptcp_lab.suite.state.drift import differences, drift_from_lock, rehearsal
from mptcp_lab.suite.state.facts import stopped_units
from mptcp_lab.suite.state.forwarding import wrong_filter, wrong_settings
from mptcp_lab.suite.state.units import PRINTED, listeners, wrong_listeners

ANY_IPV4 = "0.0.0.0"  # noqa: S104 - looked for, not bound to


@claim("STATE-1")
def test_mptcp_sockets(machines: Session, evidence: EvidenceBox) -> None:
    """A host that has to speak MPTCP opens an MPTCP socket, and any other host refuses to open one."""
    found = machines.read_all(lambda machine: machine.probe.capabilities()["mptcp"])
    evidence.document("socket(IPPROTO_MPTCP)", found)
    for name, machine in machines.machines.items():
        if machine.host.mptcp:
            assert found[name].ok, f"{name}: {found[name].reason}"
        else:
            assert found[name].errno == errno.ENOPROTOOPT, (
                f"{name} opens MPTCP sockets: net.mptcp.enabled is not 0"
            )


@claim("STATE-2")
def test_units(machines: Session, evidence: EvidenceBox) -> None:
    """The units of every host's services are active and enabled."""
    found = machines.read_all(stopped_units)
    wrong = [f"{name}: {unit}" for name, stopped in found.items() for unit in stopped]
    for name, stopped in found.items():
        for unit in stopped:
            journal = machines.machines[name].probe.run(["journalctl", "-u", unit, "-n", "30"]).stdout
            evidence.text(f"journal of {unit} on {name}", journal)
    assert not wrong, f"not both active and enabled: {wrong}"


@claim("STATE-3")
def test_listeners(machines: Session, evidence: EvidenceBox) -> None:
    """Every listener of the inventory exists on each of its addresses, with or without MPTCP as it should."""
    wrong: list[str] = []
    for name, machine in machines.machines.items():
        mptcp, tcp = listeners(machine.probe)
        evidence.document(f"listeners on {name}", {"mptcp": sorted(mptcp), "tcp": sorted(tcp - mptcp)})
        ours = {service.port for service in machine.host.services}
        wrong += wrong_listeners(machines.lab, machine.host, mptcp, tcp)
        wild = {port for address, port in tcp if address.strip("[]*") in ("", "::", ANY_IPV4)}
        if machines.lab.flavour != "embedded":  # such a host has other programs too, at least SSH
            wild &= ours
        wild -= {service.port for service in machine.host.services if service.listen in PRINTED}
        assert not wild, f"{name} listens on every address, ports {sorted(wild)}"
    assert not wrong, f"no such listener: {'; '.join(wrong)}"


@claim("STATE-4")
def test_rendering(lab: Lab, evidence: EvidenceBox) -> None:
    """Every rendered file and all live state on the hosts equals a fresh rendering from the inventory."""
    printed = rehearsal(lab.source)
    evidence.text("ansible-playbook lab.yml --check --diff", printed)
    drift = differences(printed)
    assert not drift, "drifted: " + "; ".join(drift)


@claim("STATE-5", requires=LOCK)
def test_lock(lab: Lab, machines: Session, evidence: EvidenceBox) -> None:
    """Kernel, packages, files and settings equal those of the lock; the files equal a fresh rendering too."""
    drift = drift_from_lock(machines, find_lock(lab))
    evidence.document("drift", [asdict(each) for each in drift])
    assert not drift, "drifted: " + "; ".join(map(str, drift))


@claim("STATE-6")
def test_forwarding(machines: Session, evidence: EvidenceBox) -> None:
    """Packets are forwarded only between the lab's NICs; redirects and router advertisements are ignored."""
    wrong = []
    for machine in machines.machines.values():
        wrong += wrong_settings(machine) + wrong_filter(machine)
    evidence.document("wrong", wrong)
    assert not wrong, "; ".join(wrong)
