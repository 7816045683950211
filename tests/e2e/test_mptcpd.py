"""DIRECT-10 with a client that mptcpd manages: the new NIC is taken up without a command, or it is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from tests.e2e.conftest import Configured
from tests.e2e.sabotage import broken

pytestmark = pytest.mark.long

CASE = "DIRECT-10[mptcpd]"
OWNER = "mptcpd"


def give_to(configured: Configured, owner: str) -> None:
    """Let the client's path manager have this owner."""
    path = configured.own.folder / "hosts.yml"
    document = yaml.safe_load(path.read_text())
    document["all"]["children"]["clients"]["hosts"]["client"]["lab_mptcp_owner"] = owner
    path.write_text(yaml.safe_dump(document))
    configured.play("--limit=client")


@pytest.fixture(scope="module")
def managed(configured: Configured) -> Iterator[Configured]:
    """The lab with mptcpd on its client; the kernel's own path manager is back afterwards."""
    give_to(configured, OWNER)
    try:
        yield configured
    finally:
        give_to(configured, "kernel")


def test_a_new_nic_is_taken_up_by_itself(managed: Configured) -> None:
    run = managed.suite("--claim=DIRECT-10")
    assert run.verdicts() == {"DIRECT-10[kernel]": "unsupported", CASE: "pass"}, run.output


def test_a_daemon_that_does_nothing_is_seen(managed: Configured) -> None:
    stop, go_on = (f"systemctl kill --signal={name} mptcp.service" for name in ("STOP", "CONT"))
    with broken(managed, "client", stop, go_on):
        run = managed.suite(f"--claim={CASE}")
    assert run.verdicts() == {CASE: "fail"}, run.output
    assert "an endpoint of mptcpd" in run.reason(CASE)
