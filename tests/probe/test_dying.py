"""Who dies during faults (pytest, the probe, sshd's session), at any moment: the hosts are what they were."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mptcp_lab.inventory.load import ROOT
from mptcp_lab.probe import NetworkState, NeverHappened, Probe, changes
from tests.probe.faulty import APPLIED, MANY, apply_many
from tests.probe.hosts import Host, Pair, make_pair, returns_to

MOMENTS = 50
PAIRS = 5
ROUNDS = MOMENTS // (2 * PAIRS)
VICTIMS = ("probe", "sshd", "pytest")
START_WITHIN_SECONDS = 60.0
BACK_WITHIN_SECONDS = 30.0


@dataclass(frozen=True)
class Death:
    """Who dies: after so many faults, and then so many seconds into the next."""

    victim: str
    faults: int
    seconds: float


@dataclass
class Watched:
    """A host (first or second of its pair) with a probe that watches it from before the first death."""

    host: Host
    number: int
    probe: Probe
    before: NetworkState = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.probe.network_state()

    def await_before(self, told: str) -> None:
        """Fail when the host is not again what it was."""
        try:
            returns_to(self.probe, self.before, within=BACK_WITHIN_SECONDS)
        except NeverHappened as late:
            pytest.fail(f"{told}: {late}; faults on record: {self.probe.faults()}")


@pytest.fixture
def pairs(pair: Pair) -> Iterator[list[list[Watched]]]:
    """Pairs of hosts, each host watched."""
    with ExitStack() as stack:
        made = [pair, *(make_pair(pair.client.keys, stack, f"{n}") for n in range(1, PAIRS))]
        yield [
            [
                Watched(host, number, stack.enter_context(Probe.open(host.target(), START_WITHIN_SECONDS)))
                for number, host in ((1, each.client), (2, each.server))
            ]
            for each in made
        ]


def dies(host: Host, number: int, death: Death) -> None:
    """Apply faults, and kill the victim in their midst."""
    if death.victim == "pytest":
        pytest_dies(host, number, death)
        return
    probe = Probe.open(host.target(), START_WITHIN_SECONDS)
    session = [server.pid for server in host.servers if server.poll() is None][-1]
    for pending in apply_many(probe, number)[: death.faults]:
        pending.result(START_WITHIN_SECONDS)
    time.sleep(death.seconds)  # the random moment itself
    os.kill(int(probe.hello["pid"]) if death.victim == "probe" else session, signal.SIGKILL)
    probe.close()


def pytest_dies(host: Host, number: int, death: Death) -> None:
    """The same in a pytest of its own, which is killed."""
    program = str(Path(__file__).with_name("faulty.py"))
    target = host.target()
    where = [number, target.name, *map(str, (target.unix_socket, *target.identities, target.known_hosts))]
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pytest",
            "-qs",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:hypothesispytest",
            program,
        ],
        cwd=ROOT,
        env={**os.environ, "FAULTY": json.dumps(where)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = (line for line in process.stdout if APPLIED in line)  # one before the first fault, too
        seen = list(itertools.islice(lines, 1 + death.faults))
        assert process.poll() is None and len(seen) == 1 + death.faults
        time.sleep(death.seconds)  # the random moment itself
        process.kill()


def one_pair(watched: list[Watched], deaths: list[Death], told: str) -> int:
    """Let both hosts' users die, again and again; return how often a fault outlived its user."""
    outlived = 0
    for round_ in zip(deaths[::2], deaths[1::2], strict=True):
        with ThreadPoolExecutor() as both:
            list(both.map(dies, [w.host for w in watched], [w.number for w in watched], round_))
        outlived += sum(bool(changes(each.before, each.probe.network_state())) for each in watched)
        for each in watched:
            each.await_before(f"{told}, {round_}")
    return outlived


def test_dying_at_random_moments_leaves_nothing(pairs: list[list[Watched]]) -> None:
    seed = time.time_ns()
    draw = random.Random(seed)
    victims = itertools.cycle(VICTIMS)
    deaths = [
        [
            Death(next(victims), draw.randrange(len(MANY) + 1), draw.uniform(0.0, 0.05))
            for _ in range(2 * ROUNDS)
        ]
        for _ in pairs
    ]
    with ThreadPoolExecutor() as pool:
        outlived = sum(pool.map(one_pair, pairs, deaths, [f"seed {seed}"] * len(pairs)))
    assert outlived >= MOMENTS // 10, "hardly any fault outlived its user: this shows nothing"
