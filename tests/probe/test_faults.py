"""Test that each fault has its effect, and that each one is lifted, whichever process dies."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mptcp_lab.errors import Inconclusive, Unsupported
from mptcp_lab.probe import (
    ConnectFailed,
    FaultExpired,
    Listener,
    NewEndpoint,
    NoLease,
    Probe,
    ProbeError,
    changes,
    eventually,
)
from tests.probe.hosts import Pair, returns_to

FAULTS = "/run/mptcp-lab/faults"
FORGED = f"{FAULTS}/f0f0f0f0.json"
CLIENT, SERVER, SPARE = "198.18.1.1", "198.18.1.2", "198.18.77.1"


@pytest.fixture
def listener(server: Probe) -> Iterator[Listener]:
    with server.listen(SERVER, 7000) as listener:
        yield listener


@pytest.fixture(autouse=True)
def untouched(leased: None, client: Probe, server: Probe) -> Iterator[None]:
    """Check that every test leaves both hosts in their earlier state."""
    before = [(probe, probe.network_state()) for probe in (client, server)]
    yield
    for probe, state in before:
        returns_to(probe, state, within=3)
        assert probe.faults() == []


def connects(client: Probe, **options: Any) -> str:
    """Try to connect, and return "mptcp", "tcp", or the errno's name."""
    try:
        with client.connect(SERVER, 7000, within=0.3, **options) as stream:
            return "mptcp" if stream.facts().is_mptcp else "tcp"
    except ConnectFailed as failed:
        return errno.errorcode[failed.errno]


@pytest.mark.parametrize(
    ("kind", "params", "outcome"),
    [
        ("drop", {"source": CLIENT}, "ETIMEDOUT"),
        ("drop", {"direction": "out", "destination": CLIENT, "sport": 7000}, "ETIMEDOUT"),
        ("drop", {"direction": "both", "device": "eth1", "dport": 7000}, "ETIMEDOUT"),
        ("drop", {"source": "198.18.1.77"}, "mptcp"),
        ("drop", {"dport": 7001}, "mptcp"),
        ("reject", {"source": "198.18.1.0/24", "dport": 7000}, "ECONNREFUSED"),
        ("strip_option", {"direction": "in", "dport": 7000}, "tcp"),
        ("strip_option", {"direction": "out", "packets": "synack", "sport": 7000}, "tcp"),
        ("drop_option", {"direction": "in", "dport": 7000}, "ETIMEDOUT"),
        ("tracker", {"dport": 7000}, "mptcp"),
        ("tracker", {"direction": "out", "blind": True, "sport": 7000}, "ETIMEDOUT"),
        ("rate", {"device": "eth1", "mbit": 10}, "mptcp"),
        ("link_down", {"device": "eth1"}, "ETIMEDOUT"),
        ("address_remove", {"device": "eth1", "address": SERVER}, "ETIMEDOUT"),
    ],
)
def test_a_fault_on_the_server_is_felt_and_lifted(
    client: Probe, server: Probe, listener: Listener, kind: str, params: dict[str, Any], outcome: str
) -> None:
    with server.fault(kind, **params):
        felt = connects(client)
        again = connects(client, protocol="tcp") if kind == "drop_option" else "mptcp"
    assert felt in (outcome, "EHOSTUNREACH" if outcome == "ETIMEDOUT" else outcome)
    assert again != "ETIMEDOUT"
    eventually(lambda: connects(client), lambda after: after == "mptcp", within=5)


def test_endpoints_change_one_by_one_under_their_fault(client: Probe) -> None:
    first = NewEndpoint(CLIENT, ["subflow"], 4, "eth1")
    second = NewEndpoint(SPARE, ["signal", "backup"], 7)
    with client.replace_endpoints(first) as control:
        assert [(each.id, each.address) for each in client.endpoints()] == [(4, CLIENT)]
        control.add(second)
        control.change(replace(first, flags=["subflow", "backup"]))
        assert [sorted(each.flags) for each in client.endpoints()] == [
            ["backup", "subflow"],
            ["backup", "signal"],
        ]
        control.delete(second)
        assert len(client.endpoints()) == 1
        control.flush()
        assert client.endpoints() == ()
        with pytest.raises(ProbeError, match="touches endpoints already"):
            client.fault("endpoint_add", address=SPARE, flags=["subflow"])
        with pytest.raises(ProbeError, match="touches endpoints already"):
            client.replace_endpoints()


def test_endpoints_come_back_with_their_ids_and_in_their_order(client: Probe) -> None:
    before = client.endpoints()
    with client.fault("endpoints"), client.fault("limits", subflows=3):
        for address, identity in ((SPARE, 19), (CLIENT, 13)):
            endpoint = {"address": address, "id": identity, "flags": ["subflow"]}
            client.order("change_endpoints", command="add", endpoint=endpoint)
        assert len(client.endpoints()) == len(before) + 2
    assert client.endpoints() == before
    with pytest.raises(ProbeError, match='while a fault "endpoints" is in force'):
        client.order("change_endpoints", command="flush")


def test_packets_are_counted_by_mark_class_and_ttl(client: Probe, listener: Listener) -> None:
    with client.connect(SERVER, 7000) as out, listener.accept() as into:
        out.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 77)
        own = int(client.run(["sysctl", "-n", "net.ipv4.ip_default_ttl"]).stdout)
        with client.fault("count", source=CLIENT, dport=7000, mark=77, tos=0x28, hops=own):
            receiving = into.receive(1000)
            out.send(1000).wait(5)
            receiving.wait(5)
            rules = [entry["rule"] for entry in client.read("nft") if "rule" in entry]
        counted = {
            rule["comment"]: each["counter"]["packets"]
            for rule in rules
            for each in rule["expr"]
            if "counter" in each
        }
    assert counted[f"{CLIENT} all"] == counted[f"{CLIENT} mark"] == counted[f"{CLIENT} hops"] > 0
    assert counted[f"{CLIENT} tos"] == 0


@pytest.fixture
def spare(client: Probe) -> Iterator[str]:
    """Yield a NIC that is down and has an address."""
    for command in (
        "link add spare type veth peer name plug",
        "link set spare up",  # the kernel then gives it a qdisc, which stays
        "link set spare down",
        f"address add {SPARE}/24 dev spare",
    ):
        assert client.run(["ip", *command.split()]).returncode == 0
    yield "spare"
    client.run(["ip", "link", "del", "spare"])


def test_a_new_nic_gets_its_address_after_its_link_and_keeps_nothing(client: Probe, spare: str) -> None:
    """Add an endpoint and raise limits when the address arrives, as mptcpd does; the undo restores both."""
    before = client.network_state()
    with client.watch_events() as watch, client.fault("link_up", device=spare, address=SPARE):
        came = watch.wait_for(lambda event: event["type"] == "address" and SPARE in str(event), within=5)
        assert client.run(["ip", "mptcp", "endpoint", "add", SPARE, "dev", spare, "subflow"]).returncode == 0
        assert client.run(["ip", "mptcp", "limits", "set", "subflows", "7"]).returncode == 0
        links = [event for event in watch.all() if event["type"] == "link"]
    assert links and links[0]["at"] <= came["at"]
    returns_to(client, before, within=3)


def test_link_down_brings_addresses_and_routes_back(client: Probe) -> None:
    for command in (
        "-4 route add 198.51.100.0/24 via 198.18.1.2 dev eth1 table 101 src 198.18.1.1",
        "-6 route add 2001:db8:ff::/48 via 2001:db8:1::2 dev eth1 table 101",
    ):
        assert client.run(["ip", *command.split()]).returncode == 0
    before = client.network_state()
    with client.fault("link_down", device="eth1"):
        assert len(changes(before, client.network_state())) > 3
    returns_to(client, before, within=3)
    for family in ("-4", "-6"):
        client.run(["ip", family, "route", "flush", "table", "101"])


@pytest.mark.parametrize(
    ("kind", "params", "told"),
    [
        ("endpoint_remove", {"address": "198.18.2.1"}, "endpoints"),
        (
            "endpoint_change",
            {"address": "198.18.2.1", "flags": ["subflow", "fullmesh", "backup"]},
            "endpoints",
        ),
        ("endpoint_add", {"address": "198.18.1.1", "device": "eth1", "flags": ["subflow"]}, "endpoints"),
        ("limits", {"subflows": 0}, "limits.subflows: was 8, is 0"),
        ("sysctl", {"name": "net.mptcp.enabled", "value": 0}, "net.mptcp.enabled: was 1, is 0"),
        ("sysctl", {"name": "net.ipv4.ip_forward", "value": 1}, "net.ipv4.ip_forward: was 0, is 1"),
        ("routes", {"commands": ["replace 198.18.1.0/24 via 198.18.2.2 metric 5"]}, "routes4"),
        ("routes", {"commands": ["add blackhole 203.0.113.0/24 table 77"]}, "routes4"),
        ("rules", {"commands": ["add from 198.18.1.1 lookup 77 priority 500"]}, "rules4"),
        ("rules", {"commands": ["del priority 32767"]}, "rules4"),
    ],
)
def test_a_fault_in_settings_shows_in_the_state(
    client: Probe, kind: str, params: dict[str, Any], told: str
) -> None:
    before = client.network_state()
    with client.fault(kind, **params):
        found = changes(before, client.network_state())
    assert any(told in line for line in found), found
    assert changes(before, client.network_state()) == []


@pytest.mark.parametrize("position", [0, 7])
def test_flip_changes_one_byte_and_mends_the_checksum(
    client: Probe, server: Probe, listener: Listener, position: int
) -> None:
    before = server.counters()
    flip: dict[str, Any] = {"position": position, "mask": 0xFF, "direction": "out", "dport": 7000}
    with client.connect(SERVER, 7000, protocol="tcp") as out, listener.accept() as into:
        receiving = into.receive(100)
        with client.fault("flip", **flip):
            sent = out.send(100, seed=1).wait(5)
            received = receiving.wait(5)
        assert received.sha256 != sent.sha256
    assert server.counters().delta(before)["Tcp", "InCsumErrors"] == 0


def test_a_stalled_process_goes_on(client: Probe) -> None:
    client.run(["mkfifo", "/run/held"])
    reader = ["sh", "-c", "echo $$ >/run/reader; exec cat /run/held"]
    reading = client.start("run", argv=reader, timeout=60)
    read_pid = ["sh", "-c", "cat /run/reader 2>/dev/null"]
    pid = eventually(lambda: client.run(read_pid).stdout.strip(), bool, within=10)
    with client.fault("stall", pid=int(pid)):
        assert client.run(["ps", "-o", "stat=", "-p", pid]).stdout.startswith("T")
    client.run(["sh", "-c", "echo released >/run/held; rm /run/held /run/reader"])
    assert reading.result()["stdout"] == "released\n"


def test_what_is_missing_is_named(client: Probe) -> None:
    found = client.capabilities()
    if found["netem"].ok:
        with client.fault("netem", device="eth1", delay_ms=1):
            pass
    else:
        with pytest.raises(Unsupported, match="netem"):
            client.fault("netem", device="eth1", delay_ms=1)
    if not client.hello["systemd"]:
        with pytest.raises(Unsupported, match="systemd"):
            client.fault("kill", unit="haproxy.service")


@pytest.mark.parametrize(
    ("kind", "params", "told"),
    [
        ("nonsense", {}, "use one of"),
        ("drop", {}, "at least one"),
        ("drop", {"source": "198.18.1.1; flush ruleset"}, "does not appear to be"),
        ("drop", {"device": "no-such-nic"}, "no-such-nic|ENODEV"),
        ("link_down", {"device": "lo"}, "loopback"),
        ("link_down", {"nic": "eth1"}, "unexpected keyword"),
        ("limits", {"subflows": 99}, "EINVAL"),
        ("sysctl", {"name": "kernel.hostname", "value": "x"}, "no such sysctl"),
        ("endpoint_remove", {"address": "198.18.1.1"}, "no endpoint"),
        ("routes", {"commands": ["add 203.0.113.0/24 via 192.0.2.9"]}, "ip -4 route add"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_and_leaves_nothing(
    client: Probe, kind: str, params: dict[str, Any], told: str
) -> None:
    with pytest.raises(ProbeError, match=told):
        client.fault(kind, **params)


def test_two_faults_on_the_same_thing_are_refused(client: Probe) -> None:
    with client.fault("limits", subflows=1), pytest.raises(ProbeError, match="touches limits already"):
        client.fault("limits", subflows=2)


def test_a_run_without_the_lease_is_refused(pair: Pair, client: Probe) -> None:
    before = client.network_state()
    with Probe.open(pair.client.target()) as other:
        for run in ("", "another"):
            other.run_id = run
            with pytest.raises(NoLease, match="does not hold the host's lease: tests holds it"):
                other.fault("limits", subflows=1)
    client.call("lease_release", run="tests")
    with pytest.raises(NoLease, match="nobody holds it"):
        client.fault("limits", subflows=1)
    client.call("lease_take", owner="tests", run="tests", ttl=30)
    assert issubclass(NoLease, Inconclusive)  # it decides no claim
    assert changes(before, client.network_state()) == []


def forge(client: Probe, undo: list[Any], owner: str = "0:0", mode: str = "600") -> None:
    """Write an expired fault record on the host, as an attacker with access to the lab's folder would."""
    record = {"id": "f0f0f0f0", "kind": "forged", "params": {}, "owner": 1, "run": "x", "touches": "x"}
    text = json.dumps({**record, "undo": undo, "since": 0, "deadline": 0, "tries": 0, "error": ""})
    write = f"mkdir -p {FAULTS} && cat >{FORGED} && chown {owner} {FORGED} && chmod {mode} {FORGED}"
    assert client.run(["sh", "-c", write], stdin=text).returncode == 0


@pytest.mark.parametrize(
    ("undo", "told"),
    [
        (["sysctls", {"values": {"/run/planted": "x"}}], "does not lie below /proc/sys/net"),
        (["sysctls", {"values": {"/proc/sys/net/../kernel/core_pattern": "x"}}], "does not lie below"),
        (["sysctls", {"values": {"/run/link/planted": "x"}}], "does not lie below"),
        (["nft_table", {"name": "x; add table inet planted"}], "no table"),
        (["unit", {"unit": "--root=/x planted"}], "no unit"),
        (["device", {"device": "-batch", "up": True, "addresses": [], "routes": []}], "no device"),
        (["link_up", {"device": "--help"}], "no device"),
        (["rules", {"family": "-batch", "lines": []}], "no family"),
        (["signal", {"number": 9, "pid": 1, "started": ""}], "signal 9"),
    ],
)
def test_a_forged_record_changes_nothing_but_what_a_fault_changes(
    client: Probe, undo: list[Any], told: str
) -> None:
    client.run(["sh", "-c", "touch /run/planted; ln -sfn /run /run/link"])
    forge(client, [undo])
    try:
        with pytest.raises(ProbeError, match=told):
            client.call("lift_record", fault="f0f0f0f0")
    finally:
        client.run(["rm", FORGED])
    assert client.run(["cat", "/run/planted"]).stdout == ""


@pytest.mark.parametrize(("owner", "mode"), [("65534:65534", "600"), ("0:0", "666"), ("0:65534", "620")])
def test_a_record_that_others_may_write_is_none(client: Probe, owner: str, mode: str) -> None:
    forge(client, [["limits", {"subflows": 0, "add_addr_accepted": 0}]], owner, mode)
    assert client.faults() == []
    client.run(["rm", FORGED])


def test_a_folder_that_others_may_write_is_refused(client: Probe) -> None:
    client.run(["chmod", "777", "/run/mptcp-lab"])
    try:
        with pytest.raises(ProbeError, match="does not belong to root alone"):
            client.fault("limits", subflows=1)
    finally:
        client.run(["chmod", "700", "/run/mptcp-lab"])


def test_a_fault_ends_by_itself(client: Probe) -> None:
    before = client.network_state()
    fault = client.fault("limits", ttl=0.5, subflows=1)
    assert changes(before, client.network_state())
    returns_to(client, before, within=3)
    assert issubclass(FaultExpired, Inconclusive)  # it decides no claim
    with pytest.raises(FaultExpired, match="expired after"):
        fault.lift()
    fault.lift()


def test_a_probe_that_ends_lifts_its_faults(pair: Pair, client: Probe) -> None:
    before = client.network_state()
    with Probe.open(pair.client.target()) as other:
        other.run_id = client.run_id
        other.fault("drop", source=SERVER)
        other.fault("link_down", device="eth1")
        assert changes(before, client.network_state())
    returns_to(client, before, within=2)
