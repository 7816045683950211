"""Test the patience factor: it is measured, stored, can be overridden, and applies to every wait."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, cast

import pytest

from mptcp_lab import patience
from mptcp_lab.errors import LabError
from mptcp_lab.labs.keys import ssh_config
from mptcp_lab.labs.lab_paths import LabPaths
from mptcp_lab.machines import session
from mptcp_lab.probe import NeverHappened, Probe, eventually, waiting


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each test without a factor from the environment, and reset the factor afterwards."""
    monkeypatch.delenv(patience.ENVIRONMENT, raising=False)
    yield
    patience.use(1.0)


@pytest.mark.parametrize(
    ("ratio", "factor"),
    [(0.5, 1.0), (1.0, 1.0), (patience.BUSY, 1.0), (12.0, 12.0), (1000.0, patience.MOST)],
    ids=["fast", "normal", "busy", "emulated", "hung"],
)
def test_a_normal_machine_has_one(ratio: float, factor: float) -> None:
    assert patience.compute_factor(ratio * patience.PYTHON_S, patience.PYTHON_S) == factor


def test_the_fastest_of_some_tries_counts() -> None:
    times = iter([0.0, 9.0, 10.0, 10.5, 11.0, 14.0])
    assert patience.fastest(["true"], tries=3, clock=lambda: next(times)) == 0.5


def test_a_machine_that_is_only_busy_keeps_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that waits for its turn takes time, and no CPU time."""
    monkeypatch.setattr(
        patience, "START_PYTHON", ("python3", "-I", "-S", "-c", "import time; time.sleep(0.5)")
    )
    assert patience.measure_this_machine() == 1.0


def test_it_is_kept_in_the_lab_s_state(tmp_path: Path) -> None:
    assert patience.read_factor(tmp_path) is None
    patience.use(14.2)
    patience.keep(tmp_path)
    assert patience.read_factor(tmp_path) == 14.2
    (tmp_path / patience.FILE).write_text("half a li")
    assert patience.read_factor(tmp_path) is None


def test_the_environment_overrides_and_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(patience.ENVIRONMENT, "3")
    patience.use(14.0)
    patience.keep(tmp_path)
    assert (patience.patient(10.0), patience.read_factor(tmp_path)) == (30.0, 14.0)


@pytest.mark.parametrize("given", ["much", "0", "1e9", "nan"])
def test_a_wrong_override_is_named(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(patience.ENVIRONMENT, given)
    with pytest.raises(LabError, match="MPTCP_LAB_PATIENCE"):
        patience.patient(1.0)


def test_a_condition_is_waited_for_by_the_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a fake clock that advances by half a second at each evaluation of the condition."""
    now = 0.0

    def look() -> float:
        nonlocal now
        now += 0.5
        return now

    monkeypatch.setattr(waiting.time, "monotonic", lambda: now)
    monkeypatch.setattr(waiting.time, "sleep", lambda _: None)
    with pytest.raises(NeverHappened):
        eventually(look, until=lambda when: when >= 15.0, within=10.0)
    patience.use(4.0)
    now = 0.0
    assert eventually(look, until=lambda when: when >= 15.0, within=10.0) == 15.0


def test_openssh_waits_by_the_factor(tmp_path: Path) -> None:
    assert "ConnectTimeout 5\n" in ssh_config(LabPaths(tmp_path, "lab"), ["client"])
    patience.use(14.0)
    assert "ConnectTimeout 70\n" in ssh_config(LabPaths(tmp_path, "lab"), ["client"])


class Asked:
    """A fake probe that records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, float]]] = []

    def order(self, op: str, **arguments: float) -> None:
        self.calls.append((op, arguments))


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [(patience.PROBE_S, []), (20 * patience.PROBE_S, [("patience", {"factor": 20.0})])],
    ids=["normal", "emulated"],
)
def test_hosts_that_nobody_brought_up_are_measured(seconds: float, calls: list[Any]) -> None:
    probe = Asked()
    session.measure({"client": cast(Probe, probe)}, seconds)
    assert probe.calls == calls


WAITS = ("settimeout(", "communicate(timeout=", ".wait(timeout=", ".wait_for(")
#: The allowed exceptions. The peer of the first socket is the probe on the same host, which is reading; the
#: second socket gets a timeout that is multiplied already.
BARE = [
    "service.py: client.settimeout(2)  # the peer is the probe on this host, reading",
    "ssh.py: sock.settimeout(within)",
]


def test_no_wait_goes_without_it() -> None:
    root = Path(patience.__file__).parent
    places = chain((root / "agent").rglob("*.py"), (root / "probe").glob("*.py"))
    bare = [
        f"{path.name}: {line.strip()}"
        for path in places
        for line in path.read_text().splitlines()
        if any(word in line for word in WAITS) and "patient(" not in line
    ]
    assert [line for line in bare if line not in BARE] == []
