"""Two virtual machines: kernels of their own, the roles on them, netem, a cut management NIC, another kernel.

Emulated, a boot takes a quarter of a minute at best, so these are `long`. Tests that change a machine for
good begin and end with a state that QEMU kept.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml

from mptcp_lab.embedded import hosts
from mptcp_lab.probe import Probe, eventually
from mptcp_lab.suite.targets import target
from mptcp_lab.vm import qemu
from mptcp_lab.vm.monitor import monitor
from tests.e2e.conftest import BIN, Configured, run_tool
from tests.labs import OwnLab, own_lab

pytestmark = pytest.mark.long
#: What a machine may take to answer again on a loaded machine where it is emulated.
ANSWERS_WITHIN = 600.0
#: After this long without a new connection a host takes a change of its network back: the role's default.
WAY_BACK_AFTER = 60.0
#: Its timer is exact to a second; an emulated machine takes a few to stop the unit.
TIMER_SLACK = 15.0


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnLab]:
    if not shutil.which(qemu.PROGRAM):
        pytest.skip(f"unsupported: {qemu.PROGRAM} is not installed (./lab up --inventory vm installs it)")
    lab = own_lab(tmp_path_factory.mktemp("inventory") / "vm", "test-vm", "vm")
    lab.down()
    try:
        lab.up()
        keep(lab, "up")
        yield lab
    finally:
        lab.down()
    assert lab.traces() == []


@pytest.fixture(scope="module")
def configured(own: OwnLab, tmp_path_factory: pytest.TempPathFactory) -> Configured:
    lab = Configured(own, tmp_path_factory.mktemp("results"))
    lab.first_play = lab.play()
    return lab


def keep(own: OwnLab, state: str) -> None:
    for name in own.lab.hosts:
        with monitor(own.place, name) as machine:
            machine.save(state)


def go_back(own: OwnLab, name: str, state: str) -> None:
    with monitor(own.place, name) as machine:
        machine.load(state)
    answers_again(own, name)


def answers_again(own: OwnLab, name: str, within: float = ANSWERS_WITHIN) -> None:
    eventually(lambda: hosts.answers(own.place, name), until=bool, within=within)


def play(own: OwnLab, playbook: str, *arguments: str) -> tuple[int, str]:
    command = [str(BIN / "ansible-playbook"), "-i", str(own.folder), f"playbooks/{playbook}.yml", *arguments]
    done = run_tool(command)
    return done.returncode, done.stdout + done.stderr


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


def cut_off_for(own: OwnLab, host: str) -> float:
    """Return for how long the lab's network was up before the way back took it away, by the host's clock."""
    times = "ActiveEnterTimestampMonotonic", "InactiveEnterTimestampMonotonic"
    shown = own.ssh(host, f"systemctl show -P {times[0]} -P {times[1]} mptcp-lab-network.service")
    up, down = sorted(int(line) for line in shown.split())
    return (down - up) / 1e6


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
    assert "takes the change back by itself 60 s after it" in " ".join(output.split())
    answers_again(own, "client")
    cut_off = cut_off_for(own, "client")
    assert cut_off <= WAY_BACK_AFTER + TIMER_SLACK, f"the host was back after {cut_off:.1f} s"
    assert "10.0.2.2" not in own.ssh("client", "ip -brief address")
    assert own.ssh("client", "cat /proc/sys/kernel/random/boot_id") == boot
    go_back(own, "client", "up")


def test_the_roles_converge_on_machines(configured: Configured) -> None:
    again = configured.play()
    recap = [line for line in again.splitlines() if "changed=" in line]
    assert recap and all("changed=0" in line and "failed=0" in line for line in recap), again


@contextmanager
def netem(own: OwnLab, disturbance: str) -> Iterator[None]:
    """Disturb what client sends on its second path; its kernel, unlike this one's, has netem."""
    with Probe.open(target(own.lab, own.lab.hosts["client"])) as probe:
        assert probe.capabilities()["netem"].ok, probe.capabilities()["netem"].reason
        with probe.fault("netem", device="eth2", delay_ms=1):
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


def test_the_kernel_role_goes_to_the_backports_kernel_and_mptcp_runs_on_it(own: OwnLab) -> None:
    before = own.ssh("server1", "uname -r").strip()
    code, output = play(own, "kernel", "--limit", "server1", "-e", "mptcp_kernel_source=backports")
    assert code != 0 and "lab_kernel_ok: true" in output
    consent = ["-e", '{"lab_kernel_ok": true, "lab_reboot_ok": true}']
    code, output = play(own, "kernel", "--limit", "server1", "-e", "mptcp_kernel_source=backports", *consent)
    assert code == 0, output
    after = own.ssh("server1", "uname -r").strip()
    assert after != before and tuple(map(int, after.split(".")[:2])) > (6, 12)
    assert before in own.ssh("server1", "cat /boot/grub/grub.cfg")
    own.ssh("server1", "python3 -c 'import socket; socket.socket(2, 1, 262)'")
    go_back(own, "server1", "up")
    assert own.ssh("server1", "uname -r").strip() == before
