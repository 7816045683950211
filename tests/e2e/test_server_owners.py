"""DIRECT-24 with a server that mptcpd or NetworkManager manages: the daemon's restart ends no connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from tests.e2e.conftest import Configured
from tests.e2e.test_owners import INSTALL, PURGE

pytestmark = pytest.mark.long

HOST = "server1"


def give_to(configured: Configured, owner: str) -> None:
    """Let the server's path manager have this owner."""
    path = configured.own.folder / "hosts.yml"
    document = yaml.safe_load(path.read_text())
    document["all"]["children"]["origins"]["hosts"][HOST]["lab_mptcp_owner"] = owner
    path.write_text(yaml.safe_dump(document))
    configured.play(f"--limit={HOST}")


@pytest.fixture(params=["mptcpd", "networkmanager"])
def owned(request: pytest.FixtureRequest, configured: Configured) -> Iterator[tuple[Configured, str]]:
    """The lab with a daemon on its server; the kernel's own path manager is back afterwards."""
    if request.param == "networkmanager":
        configured.own.ssh(HOST, INSTALL)
    give_to(configured, request.param)
    try:
        yield configured, request.param
    finally:
        give_to(configured, "kernel")
        if request.param == "networkmanager":
            configured.own.ssh(HOST, PURGE)


def test_the_owner_announces_and_may_be_restarted(owned: tuple[Configured, str]) -> None:
    configured, owner = owned
    run = configured.suite(f"--claim=DIRECT-24[{owner}]")
    assert run.verdicts() == {f"DIRECT-24[{owner}]": "pass"}, run.output
