"""Test the reading of kernel logs: the kernel's own lines, and what a host without a log answers."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mptcp_lab.agent.lab_agent.basics import AgentError
from mptcp_lab.agent.lab_agent.kernel.log import KernelLog, is_from_kernel
from mptcp_lab.inventory import load
from mptcp_lab.machines.kernel_logs import THIS_MACHINE, KernelLogs, LogUnreadable, kernel_logs
from mptcp_lab.paths import ROOT
from mptcp_lab.probe import Probe


def make_the_kernel_print(name: str) -> None:
    """Rename a device in a new network namespace, which the kernel logs."""
    script = f"ip link add before type veth && ip link set before name {name}"
    subprocess.run(["unshare", "--net", "sh", "-c", script], check=True)


def test_only_what_the_kernel_printed_since_the_last_call() -> None:
    log = KernelLog()
    log.take()
    make_the_kernel_print("logged1")
    assert [line for line in log.take() if "logged1" in line]
    assert not [line for line in log.take() if "logged1" in line]
    log.close()


def test_a_probe_follows_the_log(client: Probe) -> None:
    client.kernel_log()
    begun = client.begun
    make_the_kernel_print("logged2")
    assert [line for line in client.kernel_log() if "logged2" in line]
    assert client.begun == begun, "reading the log counts as an operation of the check"


def test_the_embedded_lab_has_the_log_of_this_machine() -> None:
    lab = replace(
        load(ROOT / "inventories" / "embedded"), name="not-up"
    )  # the user's may run on another kernel
    with kernel_logs(lab, {}) as logs:
        assert not logs.unreadable
        make_the_kernel_print("logged3")
        assert [line for line in logs.take()[THIS_MACHINE] if "logged3" in line]


def test_lines_of_programs_are_left_out() -> None:
    assert is_from_kernel("4,812,5140900,-")
    assert not is_from_kernel("12,812,5140900,-")  # facility 1: a program that wrote to /dev/kmsg


def test_a_container_has_no_log(tmp_path: Path) -> None:
    placeholder = tmp_path / "kmsg"
    placeholder.touch()
    with pytest.raises(AgentError, match="a container has no kernel log"):
        KernelLog(str(placeholder))
    with pytest.raises(AgentError, match="No such file"):
        KernelLog(str(tmp_path / "missing"))


def test_a_log_that_cannot_be_read_any_more_is_named_and_others_go_on() -> None:
    def gone() -> list[str]:
        raise LogUnreadable("Operation not permitted")

    logs = KernelLogs({"client1": gone, "server1": lambda: ["a line"]}, {})
    assert logs.take() == {"server1": ["a line"]}
    assert logs.unreadable == {"client1": "Operation not permitted"}
