"""Two virtual machines: kernels of their own, kept states, the roles on them, netem, a cut management NIC.

Emulated, these take minutes, so they are `long`; tests/vm/conftest.py says what they begin from.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from mptcp_lab import patience
from mptcp_lab.labs.command import run
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.vms.machines import kept_state
from mptcp_lab.machines.reach import target
from mptcp_lab.probe import Probe
from tests.e2e.conftest import Configured
from tests.labs import OwnLab, leased_fault
from tests.vm.conftest import answers_again, begin, go_back, play

pytestmark = pytest.mark.long
#: After this long without a new connection a host takes a change of its network back, on a normal machine.
WAY_BACK_AFTER = 60.0
#: Its timer is exact to a second; an emulated machine takes a few to stop the unit.
TIMER_SLACK = 15.0
#: Clocks are set to a second, and asking takes its time where it is emulated.
CLOCK_SLACK = 10.0
DRAW = "cat /proc/sys/kernel/random/uuid"


def test_machines_have_a_kernel_of_their_own_and_a_second_up_leaves_them_alone(own: OwnLab) -> None:
    assert set(own.status().values()) == {"up"}
    kernel = own.ssh("client", "uname -r").strip()
    assert kernel.startswith("6.12.") and kernel != os.uname().release
    boot = own.ssh("client", "cat /proc/sys/kernel/random/boot_id")
    assert own.up() is False
    assert own.ssh("client", "cat /proc/sys/kernel/random/boot_id") == boot


def test_every_machine_runs_systemd_without_failed_units(own: OwnLab) -> None:
    for name in own.lab.hosts:
        assert own.ssh(name, "systemctl is-system-running --wait").strip() == "running"


def test_a_machine_reaches_nothing_but_the_lab(own: OwnLab) -> None:
    assert own.ssh("client", "ip -j route show default").strip() == "[]"
    assert "unreachable" in own.ssh("client", "ip route get 192.0.2.1 2>&1 || true")


def test_a_restored_machine_is_what_it_was(own: OwnLab) -> None:
    own.ssh("client", "touch /root/later")
    go_back(own, "client", "up")
    assert "later" not in own.ssh("client", "ls /root")


def test_a_woken_machine_is_the_new_lab_s_own(own: OwnLab, tmp_path: Path) -> None:
    """Down and up wakes what was kept: the same boot, another host key, new random numbers, the time."""
    about = "cat /proc/sys/kernel/random/boot_id"
    boot, drawn = own.ssh("client", about), own.ssh("client", DRAW)
    known = (own.paths.state / "known_hosts").read_text()
    own.down()
    begin(own)
    assert own.ssh("client", about) == boot
    assert own.ssh("client", DRAW) != drawn
    assert (own.paths.state / "known_hosts").read_text() != known
    assert abs(time.time() - float(own.ssh("client", "date +%s"))) < CLOCK_SLACK
    assert "crng reseeded due to virtual machine fork" in own.ssh("client", "dmesg")
    kept, blank = kept_state(own.paths, own.lab.hosts["client"]), tmp_path / "ssh_config"
    config = (own.paths.state / "ssh_config").read_text()
    blank.write_text("".join(line for line in config.splitlines(True) if "IdentityFile" not in line))
    with pytest.raises(EmbeddedError, match="Permission denied"):
        run("ssh", "-F", str(blank), "-i", str(kept / "id_ed25519"), "client", "true")


def cut_off_for(own: OwnLab, host: str) -> float:
    """Return for how long the change was in force before the way back replaced it, by the host's clock."""
    journal = "journalctl -b -o short-unix --no-pager -u mptcp-lab-network.service"
    lines = [line.split(maxsplit=3) for line in own.ssh(host, journal).splitlines() if "systemd[1]" in line]
    finished = [float(line[0]) for line in lines if line[3].startswith("Finished ")]
    return finished[-1] - finished[-2]


def test_a_change_that_cuts_management_off_is_taken_back_by_the_host(own: OwnLab) -> None:
    """A lab NIC on management's own network takes the answers to SSH away: the timed undo gives them back."""
    variables, machines = own.folder / "group_vars/all.yml", own.folder / "hosts.yml"
    right = variables.read_text(), machines.read_text()
    boot = own.ssh("client", "cat /proc/sys/kernel/random/boot_id")

    def cut(groups: dict) -> None:
        groups["clients"]["hosts"]["client"]["lab_nics"][1]["ipv4"] = "10.0.2.2/24"

    try:
        own.edit(cut)
        segments = yaml.safe_load(right[0])
        segments["lab_segments"]["path2"]["ipv4"] = "10.0.2.0/24"
        variables.write_text(yaml.safe_dump(segments))
        code, output = play(own, "network", "--limit", "client")
    finally:
        variables.write_text(right[0])
        machines.write_text(right[1])
    assert code != 0, output
    after = int(WAY_BACK_AFTER * (patience.read_factor(own.paths.state) or 1.0))
    assert f"undoes the change {after} s after it was made" in output
    answers_again(own, "client")
    cut_off = cut_off_for(own, "client")
    assert cut_off <= after + TIMER_SLACK, f"the host was back after {cut_off:.1f} s"
    shown = own.ssh("client", "ip -brief address")
    assert "10.0.2.2" not in shown
    assert "198.18.2.10/24" in shown, "what was confirmed last is in force again"
    assert own.ssh("client", "cat /proc/sys/kernel/random/boot_id") == boot
    go_back(own, "client", "up")


@contextmanager
def netem(own: OwnLab, disturbance: str) -> Iterator[None]:
    """Disturb what client sends on its second path; its kernel, unlike this one's, has netem."""
    with Probe.open(target(own.lab, own.lab.hosts["client"])) as probe:
        assert probe.capabilities()["netem"].ok, probe.capabilities()["netem"].reason
        with leased_fault(probe, "netem", device="eth2", delay_ms=1):
            assert "delay 1ms" in own.ssh("client", "tc qdisc show dev eth2")
    # Not as a fault: the suite waits until those of others are over.
    own.ssh("client", f"tc qdisc replace dev eth2 root netem {disturbance}")
    try:
        yield
    finally:
        own.ssh("client", "tc qdisc del dev eth2 root")


def test_direct_holds_with_netem_delay_on_one_path(configured: Configured) -> None:
    with netem(configured.own, "delay 20ms"):
        run = configured.suite("--claim", "DIRECT-2", "--claim", "DIRECT-3", "--claim", "DIRECT-7")
    verdicts = run.verdicts()
    assert {case.split("[")[0] for case in verdicts} == {"DIRECT-2", "DIRECT-3", "DIRECT-7"}, run.output
    assert set(verdicts.values()) == {"pass"}, run.output


def test_direct_3_is_red_where_netem_loses_all_of_a_path(configured: Configured) -> None:
    with netem(configured.own, "loss 100%"):
        run = configured.suite("--claim", "DIRECT-3")
    assert run.verdicts()["DIRECT-3"] == "fail", run.output
    assert "subflows" in run.reason("DIRECT-3")
