"""Test that the origin serves hundreds of connections at once without mixing their data."""

from __future__ import annotations

import json
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

from mptcp_lab.probe import Probe, Stream, eventually
from mptcp_lab.probe.client import AGENT
from tests.probe.hosts import Pair
from tests.probe.test_origin import counts_or_none

SERVER, PORT, MANY = "198.18.1.2", 7600, 400


def test_many_connections_at_once(pair: Pair, client: Probe, server: Probe) -> None:
    config = pair.server.folder / "load.json"
    config.write_text(json.dumps({"name": "load", "listeners": [{"address": SERVER, "port": PORT}]}))
    service = subprocess.Popen(pair.server.inside(["python3", str(AGENT), "origin", "--config", str(config)]))
    origin = server.origin("load")
    eventually(lambda: counts_or_none(origin), lambda counts: counts is not None, within=5, what="origin up")

    def begin(number: int) -> Stream:
        stream = client.connect(SERVER, PORT)
        stream.send(10_000, seed=number, header=f"MPTCPLAB/1 sink n{number}\n".encode()).wait(20)
        return stream

    with ThreadPoolExecutor(8) as pool:
        streams = list(pool.map(begin, range(MANY)))
    assert eventually(origin.counts, lambda counts: counts["open"] == MANY, within=5)["accepted"] == MANY
    for stream in streams:
        stream.close()
    eventually(origin.counts, lambda counts: counts["open"] == 0, within=10)
    records = origin.connections(timeline=False)
    assert {record.tag for record in records} == {f"n{number}" for number in range(MANY)}
    assert {record.bytes_received for record in records} == {10_000}
    service.send_signal(signal.SIGTERM)
    assert service.wait(5) == 0
