"""The scenarios of ordinary traffic: what they ask of a host's kernel."""

from __future__ import annotations

from mptcp_lab.agent.lab_agent.faults.flip import DOFFS
from mptcp_lab.suite.rfc8684.ordinary import CHANGED_OCTET

#: NFTA_PAYLOAD_OFFSET and its length were one octet each before Linux 6.18, which answers ERANGE beyond.
LAST_OCTET = 255


def test_every_kernel_can_change_the_octet_behind_each_tcp_header() -> None:
    assert max(DOFFS) * 4 + CHANGED_OCTET <= LAST_OCTET
