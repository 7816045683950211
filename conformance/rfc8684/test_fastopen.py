"""R60: TCP Fast Open with MPTCP, over both families, with SYN cookies, with its cookie and its options."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.proxy.cookies import cookies_in_force
from mptcp_lab.suite.requirements import IPV6
from mptcp_lab.suite.rfc8684.fast_open import OFF, SERVER, check_data_in_syn
from mptcp_lab.suite.rfc8684.fast_open_options import USAGES, check_usage

SERVER_SETTINGS = pytest.mark.parametrize("server_setting", [SERVER, OFF], ids=["accepted", "refused"])


@claim("R60")
@SERVER_SETTINGS
def test_data_in_syn(client: Machine, server: Machine, evidence: EvidenceBox, server_setting: int) -> None:
    """Data in the SYN is delivered once, outside the data sequence space; if refused, it is sent again."""
    is_taken = check_data_in_syn(client, server, evidence, server_setting)
    assert is_taken == (server_setting == SERVER), f"data in the SYN was taken: {is_taken}"


@claim("R60", case="IPv6", requires=IPV6)
@SERVER_SETTINGS
def test_over_ipv6(client: Machine, server: Machine, evidence: EvidenceBox, server_setting: int) -> None:
    """Over IPv6 the data in the SYN is delivered once too, or sent again if refused."""
    is_taken = check_data_in_syn(client, server, evidence, server_setting, family=6)
    assert is_taken == (server_setting == SERVER), f"data in the SYN was taken: {is_taken}"


@claim("R60", case="cookies")
def test_with_cookies(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """With SYN cookies at the server, which then takes no data of a SYN, that data is sent again."""
    with cookies_in_force(server, evidence):
        is_taken = check_data_in_syn(client, server, evidence, SERVER)
    evidence.figure("data in the SYN taken", int(is_taken))


@claim("R60", case="by")
@pytest.mark.parametrize("usage", USAGES)
def test_usage(client: Machine, server: Machine, evidence: EvidenceBox, usage: str) -> None:
    """By cookie and by socket options, the data in the SYN is delivered once, or sent again if refused."""
    check_usage(client, server, USAGES[usage], evidence)
