"""The doctor on two real hosts over OpenSSH: it reads, connects, names causes, and leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mptcp_lab.doctor.command import main
from mptcp_lab.doctor.connection_reading import CaptureSummary
from mptcp_lab.doctor.readings import PairReading, from_document
from mptcp_lab.doctor.unreadable import Unreadable
from mptcp_lab.paths import ROOT
from mptcp_lab.probe import Probe, changes
from tests.doctor.conftest import FIRST_ENDPOINT, PORT, Site
from tests.probe.hosts import Host

SCHEMA = json.loads((ROOT / "mptcp_lab/doctor/doctor.schema.json").read_text())
Output = pytest.CaptureFixture[str]


@contextmanager
def sysctl(host: Host, name: str, value: str) -> Iterator[None]:
    before = host.run("sysctl", "-n", name).strip()
    host.run("sysctl", "-w", f"{name}={value}")
    try:
        yield
    finally:
        host.run("sysctl", "-w", f"{name}={before}")


def examine(site: Site, *more: str, capsys: Output) -> tuple[int, dict[str, Any]]:
    """Run the command, and return exit status and JSON document."""
    status = main(site.arguments("--json", *more))
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, SCHEMA)
    return status, document


def record(site: Site, path: Path, *more: str) -> PairReading:
    """Run the command, and return the reading that it recorded."""
    main(site.arguments("--record", str(path), *more))
    assert path.stat().st_mode & 0o777 == 0o600
    return from_document(json.loads(path.read_text()))


def test_two_healthy_hosts_have_no_finding(site: Site, capsys: Output) -> None:
    assert main(site.arguments()) == 0
    printed = capsys.readouterr().out
    assert "2 of 2 expected subflows" in printed
    assert "No finding: 2 hosts read" in printed
    assert len(printed.splitlines()) <= 24


def test_both_ends_of_the_connection_are_captured(site: Site, tmp_path: Path) -> None:
    made = record(site, tmp_path / "reading").connection
    assert made is not None
    assert made.is_mptcp
    assert made.listener_after
    for capture in (made.client_capture, made.server_capture):
        assert isinstance(capture, CaptureSummary)
        assert (capture.handshake.syn_option, capture.handshake.synack_option) == (True, True)
        join = capture.join("198.18.2.1", "198.18.2.2")
        assert join is not None
        assert (join.syn_option, join.synack_option, join.ack_option) == (True, True, True)
    assert made.server_counter("MPJoinAckRx") >= 1


def test_what_is_switched_off_is_found_at_its_host(site: Site, capsys: Output) -> None:
    with sysctl(site.pair.client, "net.mptcp.enabled", "0"):
        status, document = examine(site, capsys=capsys)
    assert (status, document["status"]) == (1, "findings")
    assert [(each["rule"], each["host"]) for each in document["findings"]] == [("off-at-client", site.client)]
    assert document["pairs"][0]["connections"][0]["attempts"][1]["error"] == ""


def test_a_host_is_as_it_was_afterwards(site: Site) -> None:
    hosts = (site.pair.client, site.pair.server)
    with Probe.open(hosts[0].target()) as one, Probe.open(hosts[1].target()) as other:
        before = [each.network_state() for each in (one, other)]
        files = [host.run("find", "/run") for host in hosts]
        assert main(site.arguments()) == 0
        after = [each.network_state() for each in (one, other)]
        assert [host.run("find", "/run") for host in hosts] == files
    assert not [difference for pair in zip(before, after, strict=True) for difference in changes(*pair)]


def test_a_silent_service_is_joined_without_payload(site: Site, tmp_path: Path) -> None:
    """Where the server announces nothing, the keepalive's acknowledgement completes the handshake."""
    client, server = site.pair.client, site.pair.server
    server.ip("mptcp endpoint flush")
    client.ip("address add 198.18.1.11/24 dev eth1")
    client.ip("mptcp endpoint add 198.18.1.11 dev eth1 subflow")
    try:
        made = record(site, tmp_path / "reading", "--address", "198.18.1.2").connection
    finally:
        client.run("ip", "mptcp", "endpoint", "flush")
        client.ip("address delete 198.18.1.11/24 dev eth1")
        client.ip(FIRST_ENDPOINT)
        client.ip("mptcp endpoint add 198.18.2.1 dev eth2 subflow fullmesh")
        server.ip("mptcp endpoint add 198.18.2.2 dev eth2 signal")
    assert made is not None
    assert made.info is not None
    assert made.info["bytes_sent"] == 0
    assert {(p.client, p.state) for p in made.pairs} >= {
        ("198.18.1.1", "established"),
        ("198.18.1.11", "established"),
    }


def test_a_server_that_is_not_read_is_tried_from_each_address(site: Site, capsys: Output) -> None:
    server, here = f"198.18.1.2:{PORT}", ["-F", str(site.config), "--from", site.client]
    assert main(["--remote", server, *here]) == 0
    printed = capsys.readouterr().out
    assert "198.18.1.1 (eth1) > MPTCP to 198.18.1.2" in printed
    assert "MP_CAPABLE answered, version 1" in printed
    with sysctl(site.pair.client, "net.ipv4.conf.eth1.arp_announce", "0"):
        assert main(["--remote", "198.18.1.2:7099", *here]) == 1
    assert "ECONNREFUSED" in capsys.readouterr().out


def test_without_root_the_report_says_what_was_not_read(site: Site, tmp_path: Path, capsys: Output) -> None:
    """An ordinary user without sudo: the connection is made, and what needs root is unreadable."""
    holders = {host.name: host.inside([]) for host in (site.pair.client, site.pair.server)}
    cases = "\n".join(f"{name}) set -- {' '.join(words)} ;;" for name, words in holders.items())
    become = "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all env PATH=/usr/bin:/bin"
    script = (
        '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\ncommand=$3\n'
        f'case $2 in\n{cases}\nesac\nexec "$@" {become} sh -c "$command"\n'
    )
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text(script)
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{program.parent}:/usr/sbin:/usr/bin:/sbin:/bin")
        found = record(site, tmp_path / "reading")
    assert found.client.uid == 65534
    assert isinstance(found.client.nft, Unreadable)
    assert found.server is not None
    assert {each.protocol for each in found.server.listeners_on(PORT)} == {"mptcp"}
    assert found.connection is not None
    assert found.connection.is_mptcp
    assert found.connection.client_capture == Unreadable("needs root")
    assert f"Not read on {site.client}: " in (printed := capsys.readouterr().out)
    assert "the login is not root, and sudo -n does not work" in " ".join(printed.split())


def test_a_host_that_is_not_reached_is_one_sentence(site: Site, capsys: Output) -> None:
    assert (
        main(["-F", str(site.config), "-o", "ProxyCommand=false", site.client, site.server, "--port", "1"])
        == 4
    )
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert error.startswith(f"mptcp-lab doctor: {site.client}: it cannot be reached (")
