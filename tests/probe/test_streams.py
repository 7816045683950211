"""Test connections and transfers between two hosts with the kernel's MPTCP."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator

import pytest

from mptcp_lab.agent.lab_agent.streams import next_due
from mptcp_lab.machines.lease import Lease
from mptcp_lab.probe import (
    IPPROTO_MPTCP,
    IPPROTO_TCP,
    ConnectFailed,
    Listener,
    Probe,
    ProbeError,
    TransferFailed,
    eventually,
)

SERVER = "198.18.1.2"


@pytest.fixture
def listener(server: Probe) -> Iterator[Listener]:
    with server.listen(SERVER, 7000) as listener:
        yield listener


def test_bytes_arrive_unchanged_and_are_timed(client: Probe, listener: Listener) -> None:
    with client.connect(SERVER, 7000) as out, listener.accept() as into:
        receiving = into.receive()
        sent = out.send(300_001, seed=7, chunk=1000).wait(10)
        out.shutdown()
        received = receiving.wait(10)
    assert received.nbytes == sent.nbytes == 300_001
    assert received.sha256 == sent.sha256
    assert received.end == "eof"
    assert received.first is not None and received.last is not None and received.first <= received.last
    assert received.timeline.points[-1][1] == 300_001
    assert sent.timeline.chunks >= 301


def test_the_pattern_depends_on_seed_and_kind(client: Probe, listener: Listener) -> None:
    digests = set()
    with client.connect(SERVER, 7000) as out, listener.accept() as into:
        for seed, pattern in ((1, "random"), (2, "random"), (1, "zero")):
            receiving = into.receive(70_000)
            out.send(70_000, seed=seed, pattern=pattern)
            digests.add(receiving.wait(10).sha256)
    assert len(digests) == 3
    assert hashlib.sha256(bytes(70_000)).hexdigest() in digests


def test_full_duplex_and_one_byte_writes(client: Probe, listener: Listener) -> None:
    with client.connect(SERVER, 7000) as a, listener.accept() as b:
        transfers = [
            a.send(200, seed=1, chunk=1),
            b.send(1 << 20, seed=2),
            a.receive(1 << 20),
            b.receive(200),
        ]
        up, down, got_down, got_up = (transfer.wait(10) for transfer in transfers)
    assert (up.sha256, down.sha256) == (got_up.sha256, got_down.sha256)
    assert up.timeline.chunks == 200


def test_the_header_is_sent_and_not_counted(client: Probe, listener: Listener) -> None:
    with client.connect(SERVER, 7000) as out, listener.accept() as into:
        assert out.send(10, header=b"0123456789").wait(5).nbytes == 10
        assert into.receive(20).wait(5).nbytes == 20


def test_between_two_chunks_is_half_an_interval_at_least(client: Probe, listener: Listener) -> None:
    with client.connect(SERVER, 7000) as out, listener.accept() as into:
        receiving = into.receive(100)
        result = out.send(100, chunk=10, interval=0.02).wait(5)
        assert receiving.wait(5).nbytes == 100
    assert result.first is not None and result.last is not None
    assert result.last - result.first >= 9 * 0.02 / 2
    assert result.max_gap == result.timeline.gaps[0].seconds


@pytest.mark.parametrize(("now", "expected"), [(5.0, 5.5), (5.25, 5.5), (5.5, 5.75), (9.0, 9.25)])
def test_a_late_chunk_is_not_followed_by_another_at_once(now: float, expected: float) -> None:
    assert next_due(5.0, now, 0.5) == expected


def test_a_send_can_be_finished(client: Probe, listener: Listener) -> None:
    with client.connect(SERVER, 7000) as out, listener.accept() as into:
        receiving = into.receive()
        sending = out.send(1 << 40, chunk=1000, interval=0.001)
        eventually(sending.progress, lambda progress: progress.nbytes >= 5000, within=5)
        sent = sending.finish()
        out.shutdown()
        received = receiving.wait(5)
    assert sent.end == "complete" and 5000 <= sent.nbytes < 1 << 40
    assert (received.nbytes, received.sha256) == (sent.nbytes, sent.sha256)


def test_echo_comes_back(client: Probe, listener: Listener) -> None:
    with client.connect(SERVER, 7000) as out, listener.accept() as into:
        into.echo()
        back = out.receive()
        sent = out.send(1 << 20, seed=3).wait(10)
        out.shutdown()
        assert back.wait(10).sha256 == sent.sha256


def test_facts_tell_mptcp_and_its_subflows(client: Probe, server: Probe, listener: Listener) -> None:
    # A join needs a listener on its destination address.
    with server.listen("198.18.2.2", 7000), client.connect(SERVER, 7000) as out, listener.accept() as into:
        out.send(1000)
        into.receive(1000).wait(5)
        # With fullmesh, 198.18.2.1 joins both known addresses of B.
        facts = eventually(out.facts, lambda facts: len(facts.subflows) >= 3, within=5, what="three subflows")
        tuples = {(subflow.local, subflow.remote) for subflow in facts.subflows}
        accepted = into.facts()
    assert ("198.18.1.1", SERVER) in tuples
    assert ("198.18.2.1", "198.18.2.2") in tuples
    assert facts.is_mptcp is True and facts.protocol == IPPROTO_MPTCP and facts.info is not None
    assert all(subflow.tcp is not None and subflow.tcp["rtt_us"] > 0 for subflow in facts.subflows)
    assert accepted.info is not None
    assert facts.info["token"] != accepted.info["token"]
    assert facts.inode != accepted.inode


def test_a_plain_client_makes_plain_tcp(client: Probe, listener: Listener) -> None:
    with client.connect(SERVER, 7000, protocol="tcp") as out, listener.accept() as into:
        for facts in (out.facts(), into.facts()):
            assert (facts.protocol, facts.is_mptcp, facts.info, facts.subflows) == (
                IPPROTO_TCP,
                False,
                None,
                (),
            )
            assert facts.info_errno == errno.EOPNOTSUPP
            assert facts.tcp is not None


def test_an_mptcp_client_of_a_plain_listener_falls_back(client: Probe, server: Probe) -> None:
    with server.listen(SERVER, 7001, protocol="tcp") as listener, client.connect(SERVER, 7001) as out:
        listener.accept()
        facts = out.facts()
    assert facts.is_mptcp is False
    assert facts.protocol == IPPROTO_MPTCP
    assert facts.info_errno == errno.EOPNOTSUPP


def test_connect_reports_errno_and_seconds(client: Probe) -> None:
    with pytest.raises(ConnectFailed) as refused:
        client.connect(SERVER, 9)
    assert refused.value.errno == errno.ECONNREFUSED
    with pytest.raises(ConnectFailed) as silent:
        client.connect("198.18.1.77", 9, within=0.2)
    assert silent.value.errno == errno.ETIMEDOUT
    assert silent.value.seconds >= 0.2


def test_source_and_device_are_obeyed(client: Probe, listener: Listener) -> None:
    with client.connect(SERVER, 7000, source="198.18.1.1", device="eth1") as out:
        assert out.local is not None and out.local.address == "198.18.1.1"
    with pytest.raises(ConnectFailed) as failed:
        client.connect(SERVER, 7000, source="198.18.9.9")
    assert failed.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize("protocol", ["mptcp", "tcp"])
def test_a_reset_arrives_as_one(client: Probe, listener: Listener, protocol: str) -> None:
    with client.connect(SERVER, 7000, protocol=protocol) as out, listener.accept() as into:
        out.send(10)
        into.receive(10).wait(5)
        receiving = into.receive()
        out.close(reset=True)
        with pytest.raises(TransferFailed, match="ECONNRESET") as failed:
            receiving.wait(5)
    assert failed.value.result is not None and failed.value.result.errno == errno.ECONNRESET


def test_closing_ends_a_waiting_transfer(client: Probe, listener: Listener) -> None:
    with client.connect(SERVER, 7000) as out, listener.accept() as into:
        receiving = into.receive()
        with pytest.raises(TransferFailed, match="did not end"):
            receiving.wait(0.05)
        into.close()
        assert receiving.wait(5).end == "cancelled"
        assert out.local is not None


def test_a_listener_counts_and_may_hold(client: Probe, server: Probe) -> None:
    with server.listen(SERVER, 7003, hold=True) as listener, client.connect(SERVER, 7003):
        with pytest.raises(ProbeError, match="no connection to accept"):
            listener.accept(within=0.05)
        assert listener.accepted_count == 0
        listener.release()
        with listener.accept():
            assert listener.accepted_count == 1


def test_options_are_tried_one_by_one(client: Probe, server: Probe) -> None:
    options = [(1, 9, b"\1\0\0\0"), (6, 18, b"\1\0\0\0"), (6, 250, b"\0\0\0\0")]
    with server.listen(SERVER, 7006), client.connect(SERVER, 7006) as out:
        for keepalive, timeout, unknown in (
            out.try_options(options),
            client.try_options("mptcp", SERVER, options),
        ):
            assert (keepalive.set_errno, keepalive.before, keepalive.after) == (None, "00000000", "01000000")
            assert timeout.set_errno is None or timeout.set_errno > 0
            assert unknown.set_errno == errno.ENOPROTOOPT and unknown.after is None


def test_no_wildcard(server: Probe) -> None:
    for address in ("0.0.0.0", "::"):
        with pytest.raises(ProbeError, match="lab addresses"):
            server.listen(address, 7004)
    with pytest.raises(ProbeError, match="lab addresses"):
        server.listen(SERVER, 7004, shape="wildcard")


@pytest.mark.parametrize(
    ("address", "shape", "accepted"),
    [
        ("0.0.0.0", "wildcard", [SERVER, f"::ffff:{SERVER}"]),
        ("::", "dual-stack", [SERVER, f"::ffff:{SERVER}", "2001:db8:1::2"]),
        ("::", "ipv6-only", ["2001:db8:1::2"]),
    ],
)
def test_all_addresses_on_request(
    client: Probe, server: Probe, address: str, shape: str, accepted: list[str]
) -> None:
    with server.listen(address, 7005, shape=shape) as listener:
        for peer in (SERVER, f"::ffff:{SERVER}", "2001:db8:1::2"):
            if peer in accepted:
                with client.connect(peer, 7005) as out, listener.accept():
                    assert out.facts().is_mptcp
            else:
                with pytest.raises(ConnectFailed):
                    client.connect(peer, 7005)


def test_ipv6(client: Probe, server: Probe) -> None:
    address = "2001:db8:1::2"
    with (
        server.listen(address, 7000) as listener,
        client.connect(address, 7000) as out,
        listener.accept() as into,
    ):
        assert into.peer == out.local
        assert out.facts().subflows[0].local == "2001:db8:1::1"


def test_a_subflow_is_killed_from_outside(client: Probe, listener: Listener) -> None:
    """The kernel resets one subflow; a subflow that the stream does not have is refused."""
    with client.connect(SERVER, 7000) as out, listener.accept() as into:
        first = out.facts().subflows[0]
        out.kill_subflow(first)
        eventually(
            lambda: [each.rport for each in into.facts().subflows if each.is_established],
            until=lambda ports: first.lport not in ports,
            within=5,
            what="the end of the subflow at the peer",
        )
        eventually(
            lambda: [(each.local, each.lport) for each in out.facts().subflows],
            until=lambda ends: (first.local, first.lport) not in ends,
            within=5,
            what="the end of the subflow at its own end",
        )
        with pytest.raises(ProbeError, match="no subflow"):
            out.kill_subflow(first)


def test_a_chunk_waits_until_the_earlier_ones_are_acknowledged(client: Probe, listener: Listener) -> None:
    """While the client hears nothing, the server has the first chunk, and no second one is written."""
    with client.connect(SERVER, 7000) as out, listener.accept() as into:
        receiving = into.receive(3000)
        with (
            Lease.take({"client": client}, "a test", "acks"),
            client.fault("drop", source=SERVER, sport=7000),
        ):
            sending = out.send(3000, chunk=1000, acknowledged=True)
            eventually(receiving.progress, lambda progress: progress.nbytes >= 1000, within=5)
            assert sending.progress().nbytes == 1000
        assert sending.wait(10).end == "complete"
        assert receiving.wait(10).nbytes == 3000
