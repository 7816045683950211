"""Test the origin service through the probe on its host."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mptcp_lab.probe import ConnectFailed, Origin, OriginRecord, Probe, ProbeError, Stream, eventually
from mptcp_lab.probe.client import AGENT
from tests.probe.hosts import Pair

SERVER = "198.18.1.2"
LISTENERS = [
    {"address": SERVER, "port": 7500, "protocol": "mptcp"},
    {"address": SERVER, "port": 7501, "protocol": "tcp", "proxy_protocol": True},
]
V2 = b"\r\n\r\n\0\r\nQUIT\n"
#: The first octets of a connection to the listener that expects the PROXY protocol, and what is recorded.
BAD_STARTS = {
    "v2-without-ports": (V2 + bytes([0x21, 0x11, 0, 8, 192, 0, 2, 7, 192, 0, 2, 8]), "too short for TCP4"),
    "v2-empty": (V2 + bytes([0x21, 0x21, 0, 0]), "too short for TCP6"),
    "v2-huge": (V2 + bytes([0x21, 0x11, 255, 255]), "65535 bytes, more than"),
    "v2-command": (V2 + bytes([0x25, 0x11, 0, 0]), "command 5"),
    "v2-version": (V2 + bytes([0x11, 0x11, 0, 0]), "version 1"),
    "v1-port-is-negative": (b"PROXY TCP4 192.0.2.7 192.0.2.8 -1 2\r\n", "malformed port"),
    "v1-port-is-high": (b"PROXY TCP4 192.0.2.7 192.0.2.8 1 65536\r\n", "malformed port"),
    "v1-port-is-text": (b"PROXY TCP4 192.0.2.7 192.0.2.8 1 x\r\n", "malformed port"),
    "v1-address-is-text": (b"PROXY TCP4 192.0.2.7 \xff 1 2\r\n", "malformed address"),
    "v1-family-is-wrong": (b"PROXY TCP6 192.0.2.7 192.0.2.8 1 2\r\n", "malformed address"),
    "v1-long": (b"PROXY UNKNOWN " + b"x" * 100 + b"\r\n", "longer than 107"),
    "length-is-negative": (b"PROXY UNKNOWN\r\nMPTCPLAB/1 source t bytes=-5\n", "bytes=-5"),
    "length-is-huge": (b"PROXY UNKNOWN\r\nMPTCPLAB/1 duplex t bytes=9999999999999\n", "bytes=9999"),
    "length-is-text": (b"PROXY UNKNOWN\r\nMPTCPLAB/1 source t bytes=1_0\n", "bytes=1_0"),
    "pattern-is-unknown": (b"PROXY UNKNOWN\r\nMPTCPLAB/1 source t bytes=1 pattern=x\n", "pattern 'x'"),
    "chunk-is-zero": (b"PROXY UNKNOWN\r\nMPTCPLAB/1 source t bytes=1 chunk=0\n", "chunk=0"),
    "interval-is-negative": (b"PROXY UNKNOWN\r\nMPTCPLAB/1 source t interval_ms=-1\n", "interval_ms=-1"),
    "greeting-is-long": (b"PROXY UNKNOWN\r\nMPTCPLAB/1 sink " + b"t" * 600 + b"\n", "within 512 bytes"),
    "tag-has-escapes": (b"PROXY UNKNOWN\r\nMPTCPLAB/1 sink \x1b[31m\n", "expected 'MPTCPLAB/1"),
}


@contextmanager
def service(
    pair: Pair, server: Probe, listeners: list[Any], *before: str, **options: object
) -> Iterator[tuple[Origin, int]]:
    """Run an origin on the server and yield it with its process id; it must exit with 0 on SIGTERM.

    ``before`` is put before the origin's command.
    """
    name = f"b{listeners[0]['port']}"
    config = pair.server.folder / f"{name}.json"
    config.write_text(json.dumps({"name": name, "listeners": listeners, **options}))
    command = [*before, "python3", str(AGENT), "origin", "--config", str(config)]
    process = subprocess.Popen(pair.server.inside(command))
    try:
        origin = server.origin(name)
        eventually(lambda: counts_or_none(origin), lambda counts: counts is not None, within=5, what="origin")
        yield origin, process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        with pytest.raises(ProbeError, match="no origin service answers"):
            origin.counts()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def origin(pair: Pair, server: Probe) -> Iterator[Origin]:
    with service(pair, server, LISTENERS) as (origin, _):
        yield origin


def counts_or_none(origin: Origin) -> object:
    try:
        return origin.counts()
    except ProbeError:
        return None


def greet(
    client: Probe, mode: str, tag: str, options: str = "", port: int = 7500, before: bytes = b""
) -> Stream:
    stream = client.connect(SERVER, port)
    stream.send(0, header=before + f"MPTCPLAB/1 {mode} {tag} {options}\n".encode()).wait(5)
    return stream


def record(origin: Origin, tag: str) -> OriginRecord:
    """Wait until the connection with this tag has ended, and return its record."""
    ended = eventually(
        lambda: [one for one in origin.connections(tag=tag) if not one.open],
        bool,
        within=5,
        what=f"{tag} to end",
    )
    return ended[0]


def test_sink_counts_and_answers(client: Probe, origin: Origin) -> None:
    before = origin.counts()["accepted"]
    with greet(client, "sink", "s1") as stream:
        sent = stream.send(1 << 20, seed=4).wait(10)
        stream.shutdown()
        answer = stream.receive().wait(10)
    known = record(origin, "s1")
    summary = json.dumps({"bytes": 1 << 20, "sha256": sent.sha256}).encode() + b"\n"
    assert answer.sha256 == hashlib.sha256(summary).hexdigest()
    assert (known.bytes_received, known.sha256_received) == (1 << 20, sent.sha256)
    assert (known.end, known.mode, known.protocol, known.is_mptcp) == ("eof", "sink", 262, True)
    assert known.peer == stream.local
    assert known.facts is not None and known.received.points[-1][1] == 1 << 20
    assert [one.number for one in origin.connections(since=before)] == [known.number]


@pytest.mark.parametrize("size", [0, 1, 65536, 5_000_000])
def test_echo_gives_back(client: Probe, origin: Origin, size: int) -> None:
    with greet(client, "echo", f"e{size}") as stream:
        back = stream.receive()
        sent = stream.send(size, seed=size).wait(10)
        stream.shutdown()
        assert back.wait(10).sha256 == sent.sha256
    assert record(origin, f"e{size}").sha256_sent == sent.sha256


def test_source_and_duplex_send_the_pattern(client: Probe, origin: Origin) -> None:
    with greet(client, "source", "o1", "bytes=300000 seed=9") as stream:
        got = stream.receive().wait(10)
    with greet(client, "duplex", "d1", "bytes=300000 seed=9") as stream:
        back = stream.receive()
        sent = stream.send(200_000, seed=1).wait(10)
        stream.shutdown()
        assert back.wait(10).sha256 == got.sha256
    assert got.nbytes == 300_000
    assert record(origin, "o1").sha256_sent == got.sha256
    assert record(origin, "d1").sha256_received == sent.sha256


def test_a_paced_source_ends_when_it_is_stopped(client: Probe, origin: Origin) -> None:
    options = f"bytes={1 << 40} seed=9 chunk=1000 interval_ms=2"
    with greet(client, "source", "o2", options) as stream:
        receiving = stream.receive()
        eventually(lambda: receiving.progress().nbytes, lambda nbytes: nbytes > 10_000, within=5)
        assert origin.stop_sending(tag="o2") == 1
        got = receiving.wait(10)
        assert origin.connections(tag="o2")[0].bytes_sent == got.nbytes
    assert got.end == "eof" and got.nbytes % 1000 == 0
    assert got.timeline.chunks >= got.nbytes / 2000  # paced: hardly two chunks come at once
    assert record(origin, "o2").sha256_sent == got.sha256


def test_live_facts_and_paused_reading(client: Probe, origin: Origin) -> None:
    with greet(client, "sink", "p1") as stream:
        (known,) = eventually(lambda: origin.connections(tag="p1"), bool, within=3)
        assert known.open and origin.facts(known.number).is_mptcp is True
        assert origin.pause_reading(tag="p1") == 1
        sending = stream.send(64 << 20, pattern="zero")
        stuck = eventually(
            lambda: (sending.progress().nbytes, sending.progress().nbytes),
            lambda pair: 0 < pair[0] == pair[1] < 64 << 20,
            within=5,
        )
        assert origin.connections(tag="p1")[0].bytes_received < stuck[0]
        assert origin.resume_reading(tag="p1") == 1
        assert sending.wait(20).end == "complete"


def test_paused_accepting(client: Probe, origin: Origin) -> None:
    before = origin.counts()["accepted"]
    origin.pause_accepting()
    with client.connect(SERVER, 7500):
        assert origin.counts()["accepted"] == before
        origin.resume_accepting()
        eventually(lambda: origin.counts()["accepted"], lambda now: now == before + 1, within=3)


@pytest.mark.parametrize("version", [1, 2])
def test_the_proxy_header_is_read(client: Probe, origin: Origin, version: int) -> None:
    text = b"PROXY TCP4 192.0.2.7 192.0.2.8 4001 4002\r\n"
    binary = b"\r\n\r\n\0\r\nQUIT\n" + bytes(
        [0x21, 0x11, 0, 12, 192, 0, 2, 7, 192, 0, 2, 8, 15, 161, 15, 162]
    )
    header = text if version == 1 else binary
    with greet(client, "echo", f"x{version}", port=7501, before=header) as stream:
        back = stream.receive(100)
        sent = stream.send(100).wait(5)
        assert back.wait(5).sha256 == sent.sha256
    known = record(origin, f"x{version}")
    assert known.proxy == {
        "version": version,
        "family": "TCP4",
        "source": ["192.0.2.7", 4001],
        "destination": ["192.0.2.8", 4002],
    }


def test_a_reset_and_a_bad_start_are_recorded(client: Probe, origin: Origin) -> None:
    stream = greet(client, "sink", "r1")
    eventually(lambda: origin.connections(tag="r1"), bool, within=3)
    stream.close(reset=True)
    assert (record(origin, "r1").end, record(origin, "r1").error) == ("error", "ECONNRESET")
    before = origin.counts()["accepted"]
    with client.connect(SERVER, 7500) as stream:
        stream.send(0, header=b"GET / HTTP/1.1\r\n").wait(5)
        ended = eventually(
            lambda: origin.connections(since=before), lambda all_: all_ and not all_[0].open, within=3
        )
    assert ended[0].end == "bad-start"


@pytest.mark.parametrize("case", BAD_STARTS)
def test_bad_octets_end_their_own_connection_only(client: Probe, origin: Origin, case: str) -> None:
    octets, told = BAD_STARTS[case]
    before = origin.counts()["accepted"]
    with client.connect(SERVER, 7501, protocol="tcp") as stream:
        stream.send(0, header=octets).wait(5)
        (ended,) = eventually(
            lambda: origin.connections(since=before), lambda found: found and not found[0].open, within=5
        )
    assert ended.end == "bad-start"
    assert told in str(ended.error)
    assert origin.counts()["open"] == 0


def test_silence_is_bounded_and_a_listener_without_descriptors_does_not_spin(
    pair: Pair, client: Probe, server: Probe
) -> None:
    descriptors, attempts = 24, 40
    listeners = [{"address": SERVER, "port": 7510, "protocol": "tcp"}]
    limit = ("prlimit", f"--nofile={descriptors}:{descriptors}")
    with service(pair, server, listeners, *limit, greeting_seconds=3) as (origin, pid):
        streams = [client.connect(SERVER, 7510, protocol="tcp") for _ in range(attempts)]
        held = Path(f"/proc/{pid}/fd")
        eventually(lambda: len(list(held.iterdir())), lambda now: now >= descriptors, within=5)
        before = busy_seconds(pid)
        client.run(["sleep", "1"])  # a listener in a busy loop would use this whole second
        assert busy_seconds(pid) - before < 0.5
        # The service disconnects silent clients, and then accepts those in the backlog.
        eventually(lambda: counts_or_none(origin), lambda now: now and now["accepted"] == attempts, within=30)
        eventually(origin.counts, lambda now: now["open"] == 0, within=10)
        records = origin.connections(timeline=False)
        assert {record.error for record in records} == {"no greeting within 3 s"}
        for stream in streams:
            stream.close()
        with greet(client, "sink", "again", port=7510) as stream:
            stream.shutdown()
            assert record(origin, "again").end == "eof"


def test_one_peer_has_so_many_connections_and_no_more(pair: Pair, client: Probe, server: Probe) -> None:
    listeners = [{"address": SERVER, "port": 7511, "protocol": "tcp"}]
    with service(pair, server, listeners, most_per_peer=3) as (origin, _):
        streams = [greet(client, "sink", f"p{number}", port=7511) for number in range(3)]
        with suppress(ConnectFailed):  # the reset may come before connect() has returned
            client.connect(SERVER, 7511, protocol="tcp")
        counts = eventually(origin.counts, lambda now: now["refused"], within=5)
        assert (counts["accepted"], counts["open"], counts["refused"]) == (3, 3, 1)
        streams[0].close()
        eventually(origin.counts, lambda now: now["open"] == 2, within=5)
        with greet(client, "sink", "fourth", port=7511) as stream:
            stream.shutdown()
            assert record(origin, "fourth").end == "eof"


def busy_seconds(pid: int) -> float:
    """Return the processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_wrong_configuration_is_one_clear_error(pair: Pair) -> None:
    config = pair.server.folder / "wrong.json"
    config.write_text(json.dumps({"name": "w", "listeners": [{"address": "0.0.0.0", "port": 1}]}))
    done = subprocess.run(
        pair.server.inside(["python3", str(AGENT), "origin", "--config", str(config)]),
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert done.returncode == 2
    assert "lab addresses" in done.stderr and "example" in done.stderr
    assert "Traceback" not in done.stderr
