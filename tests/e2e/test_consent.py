"""Consent: what others may notice is refused in one sentence, with what, why and which variable says yes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.conftest import BIN, Configured, run_tool


@dataclass(frozen=True)
class Refusal:
    """A playbook on somebody else's host, and the sentence that it ends with ("..." for the rest)."""

    name: str
    playbook: str
    host: str
    given: dict[str, Any]
    sentence: str
    consent: str
    before: str = ""
    looked_at: str = "dpkg-query --show; uname -r; cat /proc/sys/kernel/random/boot_id"
    also: dict[str, Any] = field(default_factory=dict)

    def command(self, lab: Configured, **more: Any) -> list[str]:
        """Return what to type, with these variables too."""
        variables = json.dumps({"lab_owned": False, **self.given, **self.also, **more})
        playbook = [
            str(BIN / "ansible-playbook"),
            "-i",
            str(lab.own.folder),
            f"playbooks/{self.playbook}.yml",
        ]
        return [*playbook, f"--limit={self.host}", "-e", variables]


# This lab's hosts share a kernel; another package that is missing stands in for a kernel's.
KERNEL = {"mptcp_kernel_source": "distribution", "kernel_container": False, "kernel_packages": ["mptcpize"]}
REFUSALS = (
    Refusal(
        "NIC restart",
        "network",
        "server2",
        {},
        "server2: the lab's NICs would be restarted, and the host is marked lab_owned: false;"
        " set lab_restart_nics_ok: true to allow it",
        "lab_restart_nics_ok",
        before="touch /usr/local/sbin/mptcp-lab-network",
        looked_at="systemctl show --property=ActiveEnterTimestamp mptcp-lab-network; ip address",
    ),
    Refusal(
        "packages",
        "mptcp",
        "client",
        {"lab_mptcp_owner": "mptcpd"},
        "client: mptcpd, mptcpd-plugins would be installed, and the host is marked lab_owned: false;"
        " set lab_packages_ok: true to allow it",
        "lab_packages_ok",
    ),
    Refusal(
        "kernel",
        "kernel",
        "client",
        KERNEL,
        "client: a kernel would be installed ( ... mptcpize ... ) beside the running {kernel};"
        " set lab_kernel_ok: true to allow it",
        "lab_kernel_ok",
        also={"lab_reboot_ok": True},
    ),
    Refusal(
        "reboot",
        "kernel",
        "client",
        KERNEL,
        "client: it runs {kernel} and would be rebooted into the kernel that is to be installed;"
        " set lab_reboot_ok: true to allow it",
        "lab_reboot_ok",
        also={"lab_kernel_ok": True},
    ),
)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_without_consent_nothing_happens_but_a_sentence(
    configured: Configured, refusal: Refusal, request: pytest.FixtureRequest
) -> None:
    if refusal.before:
        request.addfinalizer(lambda: run_tool(refusal.command(configured, **{refusal.consent: True})))
        configured.own.ssh(refusal.host, refusal.before)
    before = configured.own.ssh(refusal.host, refusal.looked_at)
    sentence = refusal.sentence.format(kernel=configured.own.ssh(refusal.host, "uname -r").strip())
    refused = run_tool(refusal.command(configured))
    assert refused.returncode == 2, refused.stdout
    printed = " ".join(refused.stdout.split())
    assert all(part in printed for part in sentence.split(" ... ")), printed
    assert configured.own.ssh(refusal.host, refusal.looked_at) == before
    allowed = run_tool([*refusal.command(configured, **{refusal.consent: True}), "--check"])
    assert allowed.returncode == 0, allowed.stdout
    assert f"say {refusal.consent}" not in allowed.stdout
