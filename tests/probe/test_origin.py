"""The origin service, asked through the probe of its host."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
from collections.abc import Iterator

import pytest

from mptcp_lab.probe import Origin, OriginRecord, Probe, ProbeError, Stream, eventually
from mptcp_lab.probe.client import AGENT
from tests.probe.hosts import Pair

SERVER = "198.18.1.2"
LISTENERS = [
    {"address": SERVER, "port": 7500, "protocol": "mptcp"},
    {"address": SERVER, "port": 7501, "protocol": "tcp", "proxy_protocol": True},
]


@pytest.fixture(scope="module")
def origin(pair: Pair, server: Probe) -> Iterator[Origin]:
    config = pair.server.folder / "origin.json"
    config.write_text(json.dumps({"name": "b", "listeners": LISTENERS}))
    service = subprocess.Popen(pair.server.inside(["python3", str(AGENT), "origin", "--config", str(config)]))
    origin = server.origin("b")
    eventually(lambda: counts_or_none(origin), lambda counts: counts is not None, within=5, what="origin up")
    yield origin
    service.send_signal(signal.SIGTERM)
    assert service.wait(5) == 0
    with pytest.raises(ProbeError, match="no origin service answers"):
        origin.counts()


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
    """The connection with this tag, once it has ended."""
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
