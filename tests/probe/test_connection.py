"""Test how the controller connects to hosts, and how it detects that it has lost one."""

from __future__ import annotations

import ast
import dataclasses
import os
import signal
import sys
from pathlib import Path

import pytest

from mptcp_lab.errors import LabBroken
from mptcp_lab.probe import HostVanished, Probe, eventually
from mptcp_lab.probe.client import AGENT, Deadline
from mptcp_lab.probe.ssh import SshFailed, connect
from tests.probe.hosts import Host, Keys, Pair, make_key


def test_the_program_is_python_3_9_and_standard_library() -> None:
    for source in AGENT.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(), feature_version=(3, 9))):
            if isinstance(node, ast.Import):
                assert {name.name for name in node.names} <= sys.stdlib_module_names, source
            elif isinstance(node, ast.ImportFrom) and not node.level:
                assert str(node.module).partition(".")[0] in sys.stdlib_module_names, source


def test_hello_tells_who_it_is(client: Probe) -> None:
    assert client.hello["uid"] == 0
    assert client.hello["kernel"].count(".") >= 1
    assert client.hello["build"].startswith("#")
    assert client.hello["command_line"] and client.hello["architecture"]


def test_several_calls_are_outstanding_at_once(client: Probe) -> None:
    """The first one ends only after a later one has begun, and after another one was answered."""
    assert client.run(["mkfifo", "/run/held"]).returncode == 0
    slow = client.start("run", argv=["cat", "/run/held"], timeout=30)
    assert client.call("ping", payload="quick") == "quick"
    assert client.run(["sh", "-c", "echo released >/run/held; rm /run/held"]).returncode == 0
    assert slow.result()["stdout"] == "released\n"


def test_a_call_has_its_time(client: Probe) -> None:
    with pytest.raises(Deadline, match=r"no answer within 0.1 s"):
        client.call("run", 0.1, argv=["sleep", "1"], timeout=5)


def test_an_unknown_host_key_is_refused(pair: Pair, tmp_path: Path) -> None:
    target = pair.client.target()
    target.known_hosts.write_text("")
    with pytest.raises(SshFailed, match="holds no host key"):
        connect(target)
    other = make_key(tmp_path / "other")
    target.known_hosts.write_text(f"{target.name} {other}\n")
    with pytest.raises(SshFailed, match="is not the one in"):
        connect(target)
    target = dataclasses.replace(target, known_hosts=tmp_path / "missing")
    with pytest.raises(SshFailed, match="cannot read known hosts"):
        connect(target)


def test_an_unknown_user_key_is_refused(pair: Pair, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger")
    target = dataclasses.replace(pair.client.target(), identities=(tmp_path / "stranger",))
    with pytest.raises(
        SshFailed, match=r"login as root refused.*stranger is not in the user's authorized_keys"
    ):
        connect(target)


def test_one_right_key_among_others_is_enough(pair: Pair, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger")
    right = pair.client.target()
    keys = (tmp_path / "missing", tmp_path / "stranger", *right.identities)
    connect(dataclasses.replace(right, identities=keys)).close()


def test_a_command_may_carry_the_connection(pair: Pair) -> None:
    right = pair.client.target()
    command = f"nc -U {right.unix_socket}"
    with Probe.open(dataclasses.replace(right, unix_socket=None, proxy_command=command)) as probe:
        assert probe.run(["hostname"]).returncode == 0
    broken = dataclasses.replace(right, unix_socket=None, proxy_command="false")
    with pytest.raises(SshFailed, match="SSH failed"):
        connect(broken)


def test_a_host_that_is_down_is_told(pair: Pair, tmp_path: Path) -> None:
    target = dataclasses.replace(pair.client.target(), unix_socket=tmp_path / "ssh")
    with pytest.raises(LabBroken, match="nothing answers on"):
        Probe.open(target)


def test_nothing_is_left_when_a_probe_ends(pair: Pair, client: Probe) -> None:
    before = set(pair.client.processes())
    with Probe.open(pair.client.target()) as probe:
        probe.listen("198.18.1.1", 7009)
        probe.start("run", argv=["sleep", "60"], timeout=60)
        probe.capture(["eth1"])
        assert "7009" in pair.client.run("ss", "-ltnM")
    eventually(
        lambda: set(pair.client.processes()) - before, lambda left: not left, within=15, what="processes gone"
    )
    assert "7009" not in pair.client.run("ss", "-ltnM")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_host_that_is_killed_or_frozen_is_named_within_seconds(tmp_path: Path, number: int) -> None:
    host = Host(f"prb-lost-{os.getpid()}-{number}", Keys.make(tmp_path))
    try:
        probe = Probe.open(host.target())
        call = probe.start("run", argv=["sleep", "60"], timeout=60)
        host.signal_session(number)
        with pytest.raises(HostVanished, match=f"{host.name}.*during run"):
            call.result(30)
        with pytest.raises(HostVanished):
            probe.call("ping")
        probe.close()
    finally:
        host.signal_session(signal.SIGCONT)
        host.remove()
