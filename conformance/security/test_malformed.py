"""SECURITY-9: malformed options and wrong lengths, the same ones in every run."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.expectations import direct_target
from mptcp_lab.suite.requirements import ORIGIN
from mptcp_lab.suite.security import malformed
from mptcp_lab.suite.security.forging import forging_packets
from mptcp_lab.suite.security.harm import check_serves
from mptcp_lab.suite.security.processes import read_processes
from mptcp_lab.suite.traffic import Target


@claim("SECURITY-9")
def test_malformed_to_listener(
    client: Machine, attacker: Machine, target: Target, evidence: EvidenceBox
) -> None:
    """No service of a host ends, and the client is served, after malformed packets in each phase."""
    before = read_processes(target.machine)
    with forging_packets(attacker, 0, evidence) as forger:
        sent = malformed.attack_listener(attacker, forger, target)
    evidence.figure("malformed packets", sent)
    before.check_unchanged()
    check_serves(client, target)


@claim("SECURITY-9", requires=(ORIGIN,))
def test_malformed_to_client(
    client: Machine, server: Machine, attacker: Machine, evidence: EvidenceBox
) -> None:
    """A client whose server answers with malformed packets goes on, and other servers serve it."""
    before = read_processes(client)
    evidence.figure("malformed packets", malformed.attack_client(attacker, client))
    before.check_unchanged()
    check_serves(client, direct_target(server))
