"""A test that applies faults until it is killed: test_dying.py runs it in a separate pytest."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from mptcp_lab.probe import Probe
from mptcp_lab.probe.client import Pending
from mptcp_lab.probe.ssh import SshTarget

TTL_SECONDS = 1.5
RUN, LEASE_SECONDS = "faulty", 600.0
APPLIED = "faults applied so far"
# The faults that each host gets. Tests compare the host's state before them and after their undo.
MANY: tuple[tuple[str, dict[str, Any]], ...] = (
    ("drop", {"sport": 7000}),
    ("link_down", {"device": "eth1"}),
    ("limits", {"subflows": 3}),
    ("endpoint_remove", {"address": "198.18.2.{host}"}),
    ("rate", {"device": "eth2", "mbit": 50}),
    ("sysctl", {"name": "net.ipv4.conf.eth2.rp_filter", "value": 1}),
)


def apply_many(probe: Probe, number: int, ttl: float = TTL_SECONDS) -> list[Pending]:
    """Start to apply every fault on host `number` of a pair, one after another."""
    filled = [
        (kind, {key: v.format(host=number) if key == "address" else v for key, v in params.items()})
        for kind, params in MANY
    ]
    probe.call("lease_take", owner="faulty", run=RUN, ttl=LEASE_SECONDS)
    return [probe.start("fault", kind=kind, ttl=ttl, params=params, run=RUN) for kind, params in filled]


def test_faults_until_killed() -> None:
    number, name, *paths = json.loads(os.environ["FAULTY"])
    socket, identity, known_hosts = map(Path, paths)
    with Probe.open(
        SshTarget(name, "root", None, 22, socket, (identity,), known_hosts), within=60.0
    ) as probe:
        print(APPLIED, flush=True)
        for pending in apply_many(probe, number):
            pending.result(60.0)
            print(APPLIED, flush=True)
        time.sleep(60)  # until killed
