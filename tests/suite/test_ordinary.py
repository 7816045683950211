"""The scenarios of ordinary traffic: what they ask of a host's kernel and of an inventory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mptcp_lab.agent.lab_agent.faults.flip import DOFFS
from mptcp_lab.errors import Unsupported
from mptcp_lab.inventory import load
from mptcp_lab.paths import ROOT
from mptcp_lab.suite.rfc8684.ordinary import CHANGED_OCTET, find_other_address

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
