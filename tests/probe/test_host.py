"""Test the facts that a probe reads, the events that it reports, and its captures."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mptcp_lab.errors import Unsupported
from mptcp_lab.probe import Probe, ProbeError, changes, eventually

SERVER = "198.18.1.2"


def test_counters_and_nics_move_with_traffic(client: Probe, server: Probe) -> None:
    counters, nics = client.counters(), client.nics()
    with (
        server.listen(SERVER, 7000) as listener,
        client.connect(SERVER, 7000) as out,
        listener.accept() as into,
    ):
        receiving = into.receive(100_000)
        out.send(100_000)
        receiving.wait(5)
    delta = client.counters().delta(counters)
    assert delta.mptcp("MPCapableSYNTX") == 1
    assert not delta.has("NoSuchCounter")
    with pytest.raises(Unsupported, match=r"counter MPTcpExt\.NoSuchCounter"):
        assert delta.mptcp("NoSuchCounter") == 0
    assert "MPTcpExt.MPCapableSYNTX" in delta.changes()
    moved = {device: after.delta(nics[device]) for device, after in client.nics().items()}
    assert moved["eth1"].tx_bytes + moved["eth2"].tx_bytes > 100_000


def test_endpoints_and_limits(client: Probe, server: Probe) -> None:
    (endpoint,) = client.endpoints()
    assert (endpoint.address, endpoint.device, endpoint.port) == ("198.18.2.1", "eth2", 0)
    assert endpoint.flags == {"subflow", "fullmesh"}
    assert server.endpoints()[0].flags == {"signal"}
    assert (client.limits().subflows, client.limits().add_addr_accepted) == (8, 8)


def test_capabilities_are_found_by_use(client: Probe) -> None:
    found = client.capabilities()
    assert found["mptcp"].ok and found["tcp_is_mptcp"].ok and found["mptcp_full_info"].ok
    assert found["nft"].ok and found["packet_socket"].ok
    assert not found["legacy"].ok
    for capability in found.values():
        assert capability.ok or capability.reason


def test_clock_pairs_both_clocks(client: Probe) -> None:
    first, second = client.clock(), client.clock()
    assert abs(first.realtime_of(second.monotonic) - second.realtime) < 0.001
    assert first.spread < 0.001


def test_network_state_is_stable_and_shows_what_changed(client: Probe) -> None:
    before = client.network_state()
    assert changes(before, client.network_state()) == []
    for change, undo, told in (
        ("address add 198.18.1.99/24 dev eth1", "address del 198.18.1.99/24 dev eth1", "198.18.1.99"),
        (
            "route add 203.0.113.0/24 dev eth1 table 77",
            "route del 203.0.113.0/24 dev eth1 table 77",
            "203.0.113.0",
        ),
        ("rule add from 198.18.1.9 table 77", "rule del from 198.18.1.9 table 77", "198.18.1.9"),
        ("mptcp limits set subflows 7", "mptcp limits set subflows 8 add_addr_accepted 8", "limits"),
    ):
        assert client.run(["ip", *change.split()]).returncode == 0
        found = changes(before, client.network_state())
        assert client.run(["ip", *undo.split()]).returncode == 0
        assert any(told in line for line in found), found
    assert changes(before, client.network_state()) == []


def test_changes_in_words() -> None:
    before = {
        "limits": {"subflows": 8},
        "rules4": [{"priority": 0}, {"priority": 1}],
        "endpoints": [{"id": 1}],
    }
    after = {"limits": {"subflows": 2}, "rules4": [{"priority": 1}, {"priority": 0}], "endpoints": []}
    assert changes(before, after) == [
        "endpoints: gone: id=1",
        "limits.subflows: was 8, is 2",
        "rules4: order changed",
    ]
    assert changes(before, before) == []


def test_events_of_a_connection_and_an_address(client: Probe, server: Probe) -> None:
    with client.watch_events() as watch:
        with server.listen(SERVER, 7000), client.connect(SERVER, 7000):
            created = watch.wait_for(lambda event: event["type"] == "created", within=3)
            assert created["daddr"] == SERVER and created["dport"] == 7000
            watch.wait_for(lambda e: e["type"] == "sub_established" and e["saddr"] == "198.18.2.1", within=3)
        watch.wait_for(lambda e: e["type"] == "closed" and e["token"] == created["token"], within=3)
        client.run("ip address add 198.18.2.99/24 dev eth2".split())
        client.run("ip address del 198.18.2.99/24 dev eth2".split())
        gone = watch.wait_for(lambda event: event["type"] == "address_removed", within=3)
    assert gone["address"] == "198.18.2.99/24" and gone["device"] == "eth2"
    assert gone["at"] > created["at"]


def test_a_capture_is_kept_where_something_went_wrong_meanwhile(client: Probe) -> None:
    kept: list[bytes] = []
    client.on_capture = lambda _host, pcapng: kept.append(pcapng)
    with pytest.raises(RuntimeError, match="meanwhile"), client.capture(["eth1"]):
        raise RuntimeError("meanwhile")
    assert kept[0][:4] == b"\x0a\x0d\x0d\x0a"


def test_a_capture_holds_every_header_and_no_payload(client: Probe, server: Probe, tmp_path: Path) -> None:
    outer = [client.nics()["eth1"]]
    with server.listen(SERVER, 7000) as listener, client.capture(["eth1", "eth2"]) as capture:
        inner = [client.nics()["eth1"]]
        with client.connect(SERVER, 7000) as out, listener.accept() as into:
            receiving = into.receive(5 << 20)
            sent = out.send(5 << 20, seed=1).wait(10)
            received = receiving.wait(10)
        eventually(lambda: client.counters().mptcp("MPCurrEstab"), lambda open_now: open_now == 0, within=15)
        inner.append(client.nics()["eth1"])
        file = tmp_path / "capture.pcapng"
        file.write_bytes(capture.stop())
        outer.append(client.nics()["eth1"])
    counts = capture.counts
    assert sum(count.dropped for count in counts.values()) == 0
    least, most = (after.delta(before) for before, after in (inner, outer))
    assert least.rx_packets + least.tx_packets <= counts["eth1"].packets <= most.rx_packets + most.tx_packets
    read = ["tshark", "-r", str(file), "-T", "fields", "-E", "separator=,"]
    fields = ["frame.interface_name", "frame.time_epoch", "frame.len", "frame.cap_len", "tcp.len"]
    lines = subprocess.run(
        [*read, *(word for field in fields for word in ("-e", field)), "-Y", "tcp.dstport==7000"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    rows = [line.split(",") for line in lines]
    assert {row[0] for row in rows} == {"eth1", "eth2"}
    assert sum(int(row[4]) for row in rows) >= 5 << 20  # more if MPTCP sends some data twice
    assert max(int(row[3]) for row in rows) == 160
    # The clocks agree within 1 ms: the first data was captured after connect() and before it was received.
    assert received.first is not None
    first_data = min(float(row[1]) for row in rows if int(row[4]))
    assert (
        sent.clock.realtime_of(out.at) - 0.001
        < first_data
        < received.clock.realtime_of(received.first) + 0.001
    )


def test_run_reports_and_kills(client: Probe) -> None:
    done = client.run(["sh", "-c", "cat; echo wrong >&2; exit 3"], stdin="hello")
    assert (done.returncode, done.stdout, done.stderr, done.timed_out) == (3, "hello", "wrong\n", False)
    slow = client.run(["sh", "-c", "sleep 60 & wait"], timeout=0.2)
    assert slow.timed_out
    with pytest.raises(ProbeError, match="ENOENT"):
        client.run(["no-such-tool"])


def test_wrong_calls_are_told(client: Probe) -> None:
    with pytest.raises(ProbeError, match="no operation 'nonsense'"):
        client.call("nonsense")
    with pytest.raises(ProbeError, match="not open here"):
        client.call("facts", stream="stream-0")
    with pytest.raises(ProbeError, match="use one of"):
        client.read("nonsense")
    with pytest.raises(ProbeError, match="ENODEV"):
        client.capture(["no-such-nic"])
