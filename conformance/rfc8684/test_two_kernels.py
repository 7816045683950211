"""Settings of one end or both, between two kernels: R14 R15 R43 R49."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct.endpoints import Ends
from mptcp_lab.suite.requirements import IPV6, ORIGIN, SERVER_TWO_PATHS, TWO_PATHS
from mptcp_lab.suite.rfc8684 import both_kernels


@claim("R15", case="asked-for-by")
@pytest.mark.parametrize("asking", ["server", "both"])
def test_checksums(client: Machine, server: Machine, evidence: EvidenceBox, asking: str) -> None:
    """If the server asks for checksums, or both ends do, every mapping of both has one."""
    machines = [server] if asking == "server" else [client, server]
    both_kernels.check_checksums(client, server, machines, evidence)


@claim("R14", case="forbidding-client", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
def test_forbidding_client(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A client that sets flag C joins the server's addresses itself."""
    both_kernels.check_joins_of_forbidding_client(Ends(client, server), evidence)


@claim("R43", case="several-ipv6", requires=(ORIGIN, SERVER_TWO_PATHS, IPV6))
def test_announced_again(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Over IPv6, each of two addresses without an echo is announced again, the unreachable one too."""
    both_kernels.check_announced_again(client, server, evidence)


@claim("R49", case="by-server")
def test_aborted_by_server(client: Machine, server: Machine) -> None:
    """A client learns of the server's abort by MP_FASTCLOSE, and its reader gets ECONNRESET."""
    both_kernels.check_aborted_by_server(client, server)
