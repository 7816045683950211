"""Hosts lift faults in time by themselves, whatever becomes of the keeper, the probe or the host."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mptcp_lab.machines.lease import Lease
from mptcp_lab.machines.reach import target
from mptcp_lab.probe import Probe, changes, eventually
from tests.e2e.conftest import Configured
from tests.e2e.snapshot import NETWORK, differences, snapshot

HOST = "client"
LATE_SECONDS = 20.0  # a busy machine
#: More than systemd's default limit, five starts in ten seconds.
KILLS = 6
KEEPERS = "mptcp-lab-keeper-*.service"


@dataclass
class Faulty:
    """A host with a probe that holds its lease; another one applies faults and dies."""

    configured: Configured
    watching: Probe

    def run(self, command: str) -> str:
        return self.watching.run(["sh", "-c", command], timeout=30).stdout

    def keepers(self) -> list[str]:
        """Return the keepers' processes."""
        return [pid for pid in self.run(f"systemctl show -P MainPID '{KEEPERS}'").split() if pid != "0"]

    def units(self) -> list[str]:
        """Return the units that lift faults and are there."""
        return self.run("systemctl list-units --all --plain --no-legend 'mptcp-lab-[kl]*'").splitlines()

    def orphan(self, ttl: float) -> None:
        """Apply a fault by a probe that is killed at once."""
        lab = self.configured.own.lab
        probe = Probe.open(target(lab, lab.hosts[HOST]))
        probe.run_id = self.watching.run_id
        probe.fault("limits", ttl=ttl, subflows=1)
        assert self.run(f"kill -{int(signal.SIGKILL)} {probe.hello['pid']}") == ""
        probe.close()

    def faults(self) -> int:
        return len(self.watching.faults())

    def subflows(self) -> int:
        return self.watching.limits().subflows


@pytest.fixture
def faulty(configured: Configured) -> Iterator[Faulty]:
    lab = configured.own.lab
    with Probe.open(target(lab, lab.hosts[HOST])) as probe, Lease.take({HOST: probe}, "a test", "keeper"):
        before = probe.network_state()
        yield Faulty(configured, probe)
        eventually(lambda: changes(before, probe.network_state()), lambda left: not left, within=LATE_SECONDS)


def test_many_kills_do_not_end_the_keeper(faulty: Faulty) -> None:
    before = faulty.subflows()
    faulty.orphan(ttl=12)
    faulty.run("systemctl stop 'mptcp-lab-lift-*.timer'")  # the keeper is alone with it
    limit = faulty.run(f"systemctl show -P StartLimitIntervalUSec '{KEEPERS}'").strip()
    assert limit == "0", "a busy machine may be too slow to reach it"
    for _ in range(KILLS):
        victims = eventually(faulty.keepers, until=bool, within=LATE_SECONDS, what="a keeper")
        faulty.run(f"kill -9 {' '.join(victims)}")
        eventually(faulty.keepers, until=lambda now, old=victims: now != old, within=LATE_SECONDS)
    assert faulty.faults() == 1
    eventually(faulty.faults, until=lambda left: left == 0, within=12 + LATE_SECONDS, what="no fault")
    assert faulty.subflows() == before


@pytest.mark.parametrize("number", ["TERM", "INT", "HUP"])
def test_a_polite_signal_does_not_end_it_either(faulty: Faulty, number: str) -> None:
    faulty.orphan(ttl=8)
    faulty.run("systemctl stop 'mptcp-lab-lift-*.timer'")
    victims = eventually(faulty.keepers, until=bool, within=LATE_SECONDS)
    faulty.run(f"kill -{number} {' '.join(victims)}")
    eventually(faulty.faults, until=lambda left: left == 0, within=8 + LATE_SECONDS, what="no fault")


def test_stopping_the_keeper_leaves_no_fault_in_force(faulty: Faulty) -> None:
    before = faulty.subflows()
    faulty.orphan(ttl=5)
    faulty.run(f"systemctl stop '{KEEPERS}'")
    assert faulty.keepers() == [] and faulty.faults() == 1 and faulty.subflows() == 1
    eventually(faulty.faults, until=lambda left: left == 0, within=5 + LATE_SECONDS, what="no fault")
    assert faulty.subflows() == before and faulty.keepers() == []


def test_the_oom_killer_spares_it_and_nothing_is_left_in_the_end(faulty: Faulty) -> None:
    with faulty.watching.fault("limits", subflows=1):
        (keeper,) = faulty.keepers()
        assert faulty.run(f"systemctl show -P OOMScoreAdjust '{KEEPERS}'").strip() == "-1000"
        spared = faulty.run("sh -c 'echo -1000 >/proc/self/oom_score_adj; cat /proc/self/oom_score_adj'")
        # A container of the embedded lab may not be allowed to be spared; the keeper is where others can be.
        assert faulty.run(f"cat /proc/{keeper}/oom_score_adj") == spared
        assert any(".timer" in unit for unit in faulty.units())
    eventually(
        faulty.units, until=lambda left: not any(".timer" in unit for unit in left), within=LATE_SECONDS
    )
    eventually(faulty.units, until=lambda left: not left, within=10 + LATE_SECONDS, what="the keeper's end")


def test_a_host_that_reboots_during_faults_is_what_it_was(configured: Configured) -> None:
    before = snapshot(configured.own, NETWORK)
    boot = configured.own.ssh(HOST, "cat /run/machine-id /proc/1/stat | cut -d' ' -f1,22")
    lab = configured.own.lab
    probe = Probe.open(target(lab, lab.hosts[HOST]))
    with Lease.take({HOST: probe}, "a test", "reboot"):
        probe.fault("limits", ttl=600, subflows=1)
        probe.fault("link_down", ttl=600, device="eth1")
        configured.own.ssh_may_fail(HOST, "systemctl --no-block reboot")
        command = "cat /run/machine-id /proc/1/stat | cut -d' ' -f1,22"
        eventually(
            lambda: configured.own.ssh_may_fail(HOST, command),
            until=lambda now: now and now != boot,
            within=60,
            what="the next boot",
        )
    probe.close()
    eventually(
        lambda: list(differences(before, snapshot(configured.own, NETWORK))),
        until=lambda left: not left,
        within=60,
        what="the state of before",
    )
    assert configured.own.ssh(HOST, "ls /run/mptcp-lab/faults 2>/dev/null || true") == ""
