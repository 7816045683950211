"""Test that hosts return to their earlier state if pytest, the probe or the sshd session is killed."""

from __future__ import annotations

import contextlib
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

from mptcp_lab.paths import ROOT
from mptcp_lab.probe import NetworkState, NeverHappened, Probe, ProbeError, changes, eventually
from tests.probe.faulty import APPLIED, LEASE_SECONDS, MANY, RUN, apply_many
from tests.probe.hosts import Host, Pair, make_pair, returns_to

MOMENTS = 50
PAIRS = 5
ROUNDS = MOMENTS // (2 * PAIRS)
VICTIMS = ("probe", "sshd", "pytest")
START_WITHIN_SECONDS = 60.0
BACK_WITHIN_SECONDS = 30.0


@dataclass(frozen=True)
class Death:
    """The process to kill, after how many faults, and how many seconds after the last of them."""

    victim: str
    faults: int
    seconds: float


@dataclass
class Watched:
    """A host (first or second of its pair) with a probe that reads its state before and after the kills."""

    host: Host
    number: int
    probe: Probe
    before: NetworkState = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.probe.network_state()

    def await_before(self, told: str) -> None:
        """Fail if the host does not return to its earlier state in time."""
        try:
            returns_to(self.probe, self.before, within=BACK_WITHIN_SECONDS)
        except NeverHappened as late:
            pytest.fail(f"{told}: {late}; faults on record: {self.probe.faults()}")


@pytest.fixture(autouse=True)
def unleased(client: Probe, server: Probe) -> Iterator[None]:
    """Release the leases of the killed processes after each test."""
    yield
    for probe in (client, server):
        probe.call("lease_release", run=RUN)


@pytest.fixture
def pairs(pair: Pair) -> Iterator[list[list[Watched]]]:
    """Yield pairs of hosts with a watching probe on each."""
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
    """Apply faults to a host, and kill the victim while they are applied."""
    if death.victim == "pytest":
        pytest_dies(host, number, death)
        return
    probe = Probe.open(host.target(), START_WITHIN_SECONDS)
    session = [server.pid for server in host.servers if server.poll() is None][-1]
    for pending in apply_many(probe, number)[: death.faults]:
        pending.result(START_WITHIN_SECONDS)
    time.sleep(death.seconds)  # the random moment of the test; there is no condition to wait for
    os.kill(int(probe.hello["pid"]) if death.victim == "probe" else session, signal.SIGKILL)
    probe.close()


def pytest_dies(host: Host, number: int, death: Death) -> None:
    """Apply faults to a host from a separate pytest, and kill that pytest."""
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
        lines = (line for line in process.stdout if APPLIED in line)  # the first one precedes the faults
        seen = list(itertools.islice(lines, 1 + death.faults))
        assert process.poll() is None and len(seen) == 1 + death.faults
        time.sleep(death.seconds)  # the random moment of the test; there is no condition to wait for
        process.kill()


def one_pair(watched: list[Watched], deaths: list[Death], told: str) -> int:
    """Kill the users of both hosts in turn, and return how often a fault outlived its user."""
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


def keepers(host: Host) -> set[int]:
    """Return the process ids of the keepers that run on a host."""
    found = set()
    for pid in host.processes():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"keeper" in words:
                found.add(pid)
    return found


def test_a_killed_keeper_is_started_again_while_faults_are_in_force(pair: Pair) -> None:
    host = pair.client
    with Probe.open(host.target()) as watching, Probe.open(host.target()) as probe:
        before = watching.network_state()
        applied = [pending.result(START_WITHIN_SECONDS) for pending in apply_many(probe, 1, ttl=15.0)]
        assert len(applied) == len(MANY)
        # The keeper asks the OOM killer to spare it, if this machine allows that.
        asked = host.run("sh", "-c", "echo -1000 >/proc/self/oom_score_adj; cat /proc/self/oom_score_adj")
        assert {Path(f"/proc/{pid}/oom_score_adj").read_text() for pid in keepers(host)} == {asked}
        for _ in range(3):
            victims = eventually(lambda: keepers(host), until=bool, within=START_WITHIN_SECONDS)
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            eventually(lambda old=victims: keepers(host) - old, until=bool, within=START_WITHIN_SECONDS)
        os.kill(int(probe.hello["pid"]), signal.SIGKILL)
        returns_to(watching, before, within=BACK_WITHIN_SECONDS)
        assert watching.faults() == []


def test_a_full_run_folder_refuses_a_fault_and_lifts_those_in_force(pair: Pair) -> None:
    host = pair.client
    with Probe.open(host.target()) as probe:
        before = probe.network_state()
        fault, dying = (pending.result(START_WITHIN_SECONDS) for pending in apply_many(probe, 1, 3.0)[:2])
        assert fault != dying
        host.run("mount", "-o", "remount,size=2M", "/run")
        host.run("sh", "-c", "cat /dev/zero >/run/fill 2>/dev/null || true")
        try:
            with pytest.raises(ProbeError, match="ENOSPC"):
                probe.call("fault", kind="drop", ttl=5, params={"sport": 7001}, run=RUN)
            with pytest.raises(ProbeError, match="ENOSPC"):
                probe.call("lease_take", owner="faulty", run=RUN, ttl=LEASE_SECONDS)
            assert probe.call("lift", fault=fault) is True
            returns_to(probe, before, within=BACK_WITHIN_SECONDS)  # the keeper lifts the other faults
        finally:
            host.run("rm", "/run/fill")
            host.run("mount", "-o", "remount,size=50%", "/run")
        assert probe.faults() == []
        assert "new" not in host.run("ls", "/run/mptcp-lab/faults")


#: A library for LD_PRELOAD: it adds the seconds in a file to the wall clock of a host's programs.
STEPPED_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    char text[32] = {0};
    if (id == CLOCK_REALTIME && !result) {
        int file = open(STEP, O_RDONLY | O_CLOEXEC);
        if (file >= 0 && read(file, text, sizeof text - 1) > 0) now->tv_sec += atoll(text);
        if (file >= 0) close(file);
    }
    return result;
}
"""
DAY_SECONDS = 86400


def test_a_clock_that_is_stepped_neither_ends_faults_and_leases_nor_prolongs_them(
    pair: Pair, tmp_path: Path
) -> None:
    step, source, library = tmp_path / "step", tmp_path / "clock.c", tmp_path / "clock.so"
    step.write_text("0")
    source.write_text(STEPPED_CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", f'-DSTEP="{step}"', "-o", library, source, "-ldl"], check=True)
    config = pair.client.folder / "sshd_config"
    kept = config.read_text()
    config.write_text(f'{kept}ForceCommand LD_PRELOAD={library} sh -c "$SSH_ORIGINAL_COMMAND"\n')
    try:
        with Probe.open(pair.client.target()) as watching:
            before = watching.network_state()
            for seconds in (DAY_SECONDS, -DAY_SECONDS):
                probe = Probe.open(pair.client.target())
                for pending in apply_many(probe, 1, ttl=3.0):
                    pending.result(START_WITHIN_SECONDS)
                step.write_text(str(seconds))
                assert abs(probe.clock().realtime - time.time() - seconds) < 60
                probe.run(["sleep", "0.6"])  # three periods of the keeper
                assert len(probe.faults()) == len(MANY), "lifted before their time"
                probe.call("lease_refresh", run=RUN, ttl=LEASE_SECONDS)
                os.kill(int(probe.hello["pid"]), signal.SIGKILL)
                returns_to(watching, before, within=BACK_WITHIN_SECONDS)
                probe.close()
                step.write_text("0")
    finally:
        config.write_text(kept)
