"""Test that `up` converges and `down` leaves nothing, also after edits, dead hosts and a killed `up`."""

import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mptcp_lab.labs import fabric
from mptcp_lab.labs.containers import hosts
from mptcp_lab.labs.executor import LOCAL
from mptcp_lab.machines.cables import cable_of, pull
from mptcp_lab.paths import ROOT
from mptcp_lab.probe import eventually
from tests.labs import OwnLab, own_lab

NEW_NIC = {"segment": "path3", "device": "eth9", "ipv4": "198.18.3.99/24"}
NEW_HOST = {"lab_nics": [{"segment": "core", "device": "eth1", "ipv4": "198.18.10.77/24"}]}


@pytest.fixture
def fresh(tmp_path: Path):
    lab = own_lab(tmp_path / "fresh", "test-fresh")
    lab.down()
    yield lab
    lab.down()
    assert lab.traces() == []


def test_up_twice_changes_nothing_the_second_time(own: OwnLab) -> None:
    boots = {name: own.ssh(name, "cat /proc/sys/kernel/random/boot_id") for name in own.lab.hosts}
    assert own.up() is False
    assert boots == {name: own.ssh(name, "cat /proc/sys/kernel/random/boot_id") for name in own.lab.hosts}


def test_a_killed_host_is_brought_back_and_the_others_left_alone(own: OwnLab) -> None:
    boot = own.ssh("server1", "cat /proc/sys/kernel/random/boot_id")
    own.ssh("proxy1", "touch /root/kept")
    hosts.stop(own.paths, ["proxy1"])
    assert own.status()["proxy1"] == "down"
    assert own.up() is True
    assert set(own.status().values()) == {"up"}
    assert own.ssh("proxy1", "ls /root/kept").strip() == "/root/kept"
    assert own.ssh("server1", "cat /proc/sys/kernel/random/boot_id") == boot


def test_a_pulled_cable_is_plugged_in_again(own: OwnLab) -> None:
    client = own.lab.hosts["client"]
    pull(cable_of(own.lab, client, client.nics[0]))
    port = fabric.find(own.lab, "client", "eth1").port
    assert not plugged(own, port)
    assert own.up() is True
    assert plugged(own, port)


def plugged(own: OwnLab, port: str) -> bool:
    return any("UP" in link["flags"] for link in LOCAL.ip_json(own.paths.fabric, "link", "show", port))


def test_the_inventory_is_the_only_thing_to_edit(own: OwnLab) -> None:
    def add(groups: dict) -> None:
        groups["clients"]["hosts"]["client"]["lab_nics"].append(NEW_NIC)
        groups["origins"]["hosts"]["server3"] = NEW_HOST

    def remove(groups: dict) -> None:
        groups["clients"]["hosts"]["client"]["lab_nics"].pop()
        del groups["origins"]["hosts"]["server3"]

    own.edit(add)
    assert own.up() is True
    assert "eth9" in own.ssh("client", "ip -br link")
    assert "eth1" in own.ssh("server3", "ip -br link")
    own.edit(remove)
    assert own.up() is True
    assert "eth9" not in own.ssh("client", "ip -br link")
    assert "server3" not in hosts.list_running(own.paths)


def test_an_unplugged_host_has_no_port_any_more(own: OwnLab) -> None:
    """Check that unplug removes the port at once: with its namespace, it would go only some time later."""
    own.up()
    port = fabric.find(own.lab, "server2", "eth1").port
    assert port in fabric.port_states(own.paths)
    fabric.unplug(own.paths, ["server2"])
    assert port not in fabric.port_states(own.paths)
    hosts.stop(own.paths, ["server2"])
    assert own.up() is True
    assert "eth1" in own.ssh("server2", "ip -br link")


def test_a_rate_is_laid_on_both_ends_and_survives_a_reboot_of_the_network(own: OwnLab) -> None:
    cable = fabric.find(own.lab, "gateway", "eth1")
    fabric.set_rate(own.paths, cable, "50mbit")
    hosts.stop(own.paths, ["gateway"])
    own.up()
    assert "50Mbit" in own.ssh(
        "gateway", "ip -d link show eth1 >/dev/null; PATH=$PATH:/usr/sbin tc qdisc show dev eth1"
    )
    fabric.set_rate(own.paths, cable, None)
    assert "tbf" not in own.ssh("gateway", "PATH=$PATH:/usr/sbin tc qdisc show dev eth1")


def test_down_works_from_what_is_there_not_from_the_inventory(fresh: OwnLab) -> None:
    fresh.up()
    fresh.edit(lambda groups: groups["proxies"]["hosts"].clear())
    assert fresh.down() is True
    assert fresh.traces() == []
    assert fresh.down() is False


def test_two_labs_are_up_at_the_same_time(own: OwnLab, fresh: OwnLab) -> None:
    fresh.up()
    assert set(fresh.status().values()) == set(own.status().values()) == {"up"}
    fresh.ssh("client", "touch /root/fresh")
    assert "fresh" not in own.ssh("client", "ls /root")
    fresh.down()
    assert set(own.status().values()) == {"up"}


def test_down_cleans_up_after_an_up_that_was_killed_at_any_moment(fresh: OwnLab) -> None:
    moments = random.Random(8684)
    for _ in range(4):
        command = [sys.executable, "-m", "mptcp_lab.labs", "up", "--inventory", str(fresh.folder)]
        with subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as process:
            time.sleep(moments.uniform(0.4, 1.6))  # a random moment; there is no condition to wait for
            os.kill(process.pid, signal.SIGKILL)
        fresh.down()
        assert fresh.traces() == []


def test_an_interrupted_up_is_one_sentence_and_the_next_goes_on(fresh: OwnLab) -> None:
    command = [sys.executable, "-m", "mptcp_lab.labs", "up", "--inventory", str(fresh.folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        eventually(fresh.paths.record.exists, until=bool, within=60, what="hosts under way")
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("interrupted; next: ./lab up --inventory ")
    assert "Traceback" not in said
    assert fresh.up() is True
    assert set(fresh.status().values()) == {"up"}


def test_a_second_up_at_the_same_time_is_told_so(fresh: OwnLab) -> None:
    command = [sys.executable, "-m", "mptcp_lab.labs", "up", "--inventory", str(fresh.folder)]
    fresh.paths.labs.mkdir(parents=True, exist_ok=True)
    with fresh.paths.lock.open("a") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 4
    assert "is running" in second.stderr
