"""The command line: arguments, exit statuses, and how hosts are reached."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mptcp_lab.doctor.arguments import build_parser
from mptcp_lab.doctor.collect import Question
from mptcp_lab.doctor.command import main
from mptcp_lab.doctor.inventory_pairs import questions_of, ssh_of
from mptcp_lab.doctor.remote import parse_remote
from mptcp_lab.errors import LabError
from mptcp_lab.inventory import load
from mptcp_lab.paths import ROOT
from mptcp_lab.probe.openssh import Ssh, explain, remote_command

HEAVY = ("yaml", "paramiko", "ansible", "pytest", "jinja2")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "name CLIENT and SERVER"),
        ("a b", "--port is needed"),
        ("a --port 1", "two hosts are needed"),
        ("a b --port 1 --remote 192.0.2.1:1", "name CLIENT and SERVER, or --remote"),
        ("--remote 192.0.2.1:1 --via p", "go with CLIENT and SERVER"),
        ("a b --port 1 --server-port 2", "--server-port goes with --via"),
        ("a b --port 1 --conceal", "--conceal goes with --bundle"),
        ("--inventory x --bundle y", "--bundle is about one pair"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_status_2(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1"])
def test_a_port_is_a_number_in_range(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["a", "b", f"--port={port}"])
    assert stopped.value.code == 2
    assert "is no port" in capsys.readouterr().err


def test_the_help_has_hosts_exit_statuses_and_examples() -> None:
    text = build_parser("mptcp-lab doctor").format_help()
    headings = "HOSTS,WHAT IT DOES ON THE HOSTS,WHAT IT SENDS,FINDINGS,EXIT STATUS,EXAMPLES,FILES,SEE ALSO"
    for heading in headings.split(","):
        assert f"\n{heading}\n" in text
    for sent in ("ARP probes", "datagrams", "connections"):
        assert f"\n  {sent}  " in text
    assert "there is no default" in " ".join(text.split())
    assert all(len(line) <= 110 for line in text.splitlines())


@pytest.mark.parametrize(
    ("text", "found"),
    [("192.0.2.1:443", ("192.0.2.1", 443)), ("[2001:db8::1]:80", ("2001:db8::1", 80))],
)
def test_a_remote_is_an_address_and_a_port(text: str, found: tuple[str, int]) -> None:
    assert parse_remote(text) == found


@pytest.mark.parametrize(
    "text", ["host:1", "192.0.2.1", "192.0.2.1:0", "2001:db8::1:80", "[192.0.2.1]:80", ""]
)
def test_another_remote_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="no address and port"):
        parse_remote(text)


@pytest.mark.parametrize(
    ("gone", "says", "step"),
    [
        ("the channel closed (Host key verification failed.)", "not in your known_hosts", "ssh a true"),
        ("the channel closed (u@a: Permission denied (publickey).)", "refuses your keys", "ssh-add"),
        (
            "the channel closed (ssh: Could not resolve hostname a: x)",
            "no host of this name",
            "~/.ssh/config",
        ),
        ("the channel closed (sh: 1: exec: python3: not found)", "it has no python3", "install python3"),
        ("the channel closed (its python3 is 3.6.8)", "the doctor needs 3.9", "newer python3"),
        (
            "the channel closed (ssh: connect to host a: Connection refused)",
            "Connection refused",
            "ssh a true",
        ),
    ],
)
def test_a_host_that_is_not_reached_has_its_cause_and_the_next_step(gone: str, says: str, step: str) -> None:
    error = str(explain("a", gone, Ssh()))
    assert error.startswith("a: ")
    assert says in error
    assert step in error.partition("next: ")[2]


def test_a_name_that_looks_like_an_option_never_reaches_ssh(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", "1", "--", "-oProxyCommand=touch /tmp/x", "b"]) == 4
    assert "this is no host's name" in capsys.readouterr().err


def test_the_command_on_the_host_passes_every_login_shell() -> None:
    assert not set(remote_command()) & {"'", "\n", "!"}


def test_the_options_of_ssh_come_before_the_host() -> None:
    words = Ssh(options=("-F", "file")).command("a")
    assert words[:2] == ["ssh", "-T"]
    assert words[-5:-1] == ["-F", "file", "--", "a"]
    assert "BatchMode=yes" in words


def test_hosts_of_hardware_are_reached_as_their_variables_say(tmp_path: Path) -> None:
    lab = load(ROOT / "inventories" / "hardware.example")
    ssh = ssh_of(lab, tmp_path)
    assert {name: words[-1] for name, words in ssh.hosts.items()} == {
        name: host.variables.get("ansible_host", name) for name, host in lab.hosts.items()
    }
    assert questions_of(lab)


def test_a_lab_that_is_down_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="the lab is not up"):
        ssh_of(load(ROOT / "inventories" / "embedded"), tmp_path)


def test_hosts_that_speak_no_mptcp_are_not_asked() -> None:
    lab = load(ROOT / "inventories" / "embedded")
    plain = replace(lab, hosts={name: replace(host, mptcp=False) for name, host in lab.hosts.items()})
    with pytest.raises(LabError, match="no two hosts"):
        questions_of(plain)


def test_a_proxy_makes_two_legs() -> None:
    question = Question("a", "b", 80, via="p", server_port=8080)
    assert question.hosts == ("a", "p", "b")
    assert question.legs == (("a", "p", 80), ("p", "b", 8080))


def test_the_doctor_needs_the_standard_library_only() -> None:
    program = (
        f"import sys, mptcp_lab.doctor.command, mptcp_lab.doctor.bundle, mptcp_lab.doctor.rules as rules;"
        f"rules.gather(); print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("user", "sudo_works", "called"), [("1000", True, 2), ("1000", False, 1), ("0", True, 0)]
)
def test_the_program_becomes_root_by_sudo_where_that_works(
    tmp_path: Path, user: str, sudo_works: bool, called: int
) -> None:
    log = tmp_path / "log"
    stubs = {"id": f"echo {user}", "sudo": f'echo "$1 $2" >>{log}; {"exit 0" if sudo_works else "exit 1"}'}
    for name, line in {**stubs, "python3": f"echo ran >>{log}"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SSH_CONNECTION": ""}
    subprocess.run(["sh", "-c", remote_command()], env=environment, stdin=subprocess.DEVNULL, check=True)
    lines = log.read_text().splitlines()
    assert [line for line in lines if line.startswith("-n")] == ["-n true", "-n python3"][:called]
    assert ("ran" in lines) == (called < 2)
