"""The lab's speed: `python -m bench.lab [--rounds 5] [--json FILE] [--only up,converge]` (as root).

Brings up separate labs, so a lab that is up is left alone. The image must be there (`./lab up` builds it).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from bench.figures import Figure, table, write
from mptcp_lab.labs import lifecycle
from mptcp_lab.machines.reach import target
from mptcp_lab.paths import ROOT
from mptcp_lab.probe import Probe
from tests.labs import OwnLab, own_lab

BIN = Path(sys.executable).parent
CALLS = 2000
Checks = list[dict[str, Any]]
SCENARIOS = ("state", "direct", "proxy", "split", "gateway")
MEASUREMENTS = ("DIRECT-12", "PROXY-11")
CLAIMS_SHOWN = 8
REPETITIONS = 20  # as DIRECT-12 asks for


def seconds(action: Callable[[], object]) -> float:
    """Return how long an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def tool(*command: str) -> None:
    """Run one of the project's commands; it may end with the suite's softer exit codes."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        sys.exit(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )


def converge(lab: OwnLab) -> None:
    """Run lab.yml."""
    tool(str(BIN / "ansible-playbook"), "-i", str(lab.folder), "lab.yml")


def measure_up(lab: OwnLab, rounds: int) -> list[Figure]:
    """Time `up` and `down` of seven hosts, image present."""
    ups, downs = [], []
    for _ in range(rounds):
        lab.down()
        ups.append(seconds(lab.up))
        downs.append(seconds(lab.down))
    lab.up()
    return [
        Figure("seven hosts up, all answer over SSH", "s", tuple(ups), 2.0),
        Figure("down", "s", tuple(downs)),
    ]


def measure_converge(lab: OwnLab, rounds: int) -> list[Figure]:
    """Time lab.yml on fresh hosts, and with nothing to change."""
    fresh, again = [], []
    for _ in range(rounds):
        lab.down()
        lab.up()
        fresh.append(seconds(lambda: converge(lab)))
        again.append(seconds(lambda: converge(lab)))
    return [
        Figure("lab.yml on fresh hosts", "s", tuple(fresh), 60.0),
        Figure("lab.yml with nothing to change", "s", tuple(again), 20.0),
    ]


def grow(lab: OwnLab, times: int) -> None:
    """Give the lab that many of each of its hosts: client, client-2, ... with separate addresses."""

    def copy(children: dict[str, Any]) -> None:
        for group in children.values():
            for name, host in list(group["hosts"].items()):
                for number in range(1, times):
                    group["hosts"][f"{name}-{number + 1}"] = _move_host(host, 60 * number)

    lab.edit(copy)


def _move_host(host: dict[str, Any], by: int) -> dict[str, Any]:
    """Return a host with other addresses on the same segments."""
    nics = []
    for nic in host["lab_nics"]:
        ipv4, ipv6 = ip_interface(nic["ipv4"]), ip_interface(nic["ipv6"])
        moved = {
            "ipv4": f"{ipv4.ip + by}/{ipv4.network.prefixlen}",
            "ipv6": f"{ipv6.ip + by}/{ipv6.network.prefixlen}",
        }
        nics.append({**nic, **moved})
    return {**host, "lab_nics": nics}


def available() -> float:
    """Return how much memory the machine has left, in MiB."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) / 1024


def measure_growth(bench: OwnLab, rounds: int) -> list[Figure]:
    """Time and memory of 6, 12 and 24 hosts: up, a fresh run of lab.yml, one with nothing to change."""
    found: dict[tuple[str, str], list[float]] = {}
    bench.down()  # 25 hosts use up what a machine has of inotify instances
    for times in (1, 2, 4) * rounds:
        with tempfile.TemporaryDirectory() as folder:
            lab = own_lab(Path(folder) / "grown", "grown")
            grow(lab, times)
            for (what, unit), value in _costs(lab).items():
                found.setdefault((f"{len(lab.lab.hosts)} hosts: {what}", unit), []).append(value)
    bench.up()
    return [Figure(name, unit, tuple(values)) for (name, unit), values in found.items()]


def _costs(lab: OwnLab) -> dict[tuple[str, str], float]:
    before = available()
    try:
        return {
            ("up", "s"): seconds(lab.up),
            ("lab.yml on fresh hosts", "s"): seconds(lambda: converge(lab)),
            ("lab.yml with nothing to change", "s"): seconds(lambda: converge(lab)),
            ("memory", "MiB"): before - available(),
        }
    finally:
        lab.down()


def measure_calls(lab: OwnLab, rounds: int) -> list[Figure]:
    """Time calls of a probe over SSH."""
    medians, slowest = [], []
    with Probe.open(target(lab.lab, lab.lab.hosts["client"])) as probe:
        for _ in range(rounds):
            times = sorted(1000 * seconds(lambda: probe.call("ping")) for _ in range(CALLS))
            medians.append(statistics.median(times))
            slowest.append(times[int(0.99 * CALLS)])
    return [
        Figure("probe call over SSH, median", "ms", tuple(medians), 0.5),
        Figure("probe call over SSH, 99th percentile", "ms", tuple(slowest), 5.0),
    ]


def suite(lab: OwnLab, *arguments: str) -> Checks:
    """Run checks of the suite and return them with their durations and figures."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(BIN / "pytest"), "conformance/", f"--hosts={lab.folder}", f"--results={folder}/run"]
        tool(*command, *arguments)
        checks: Checks = json.loads(Path(folder, "run/result.json").read_text())["checks"]
    return [check for check in checks if check["verdict"] != "unsupported"]


def measure_suite(lab: OwnLab, rounds: int) -> list[Figure]:
    """Time the scenario families, and say what the time goes to, claim by claim."""
    wholes, means, plain = [], [], []
    by_claim: dict[str, list[float]] = {}
    for _ in range(rounds):
        started = time.perf_counter()
        checks = suite(lab, *(f"--family={family}" for family in SCENARIOS))
        wholes.append(time.perf_counter() - started)
        means.append(statistics.mean(c["duration"] for c in checks if c["id"] not in MEASUREMENTS))
        plain.append(next(check["duration"] for check in checks if check["case"] == "DIRECT-3"))
        for claim in {check["id"] for check in checks}:
            spent = sum(check["duration"] for check in checks if check["id"] == claim)
            by_claim.setdefault(claim, []).append(spent)
    longest = sorted(by_claim, key=lambda claim: -statistics.median(by_claim[claim]))[:CLAIMS_SHOWN]
    return [
        Figure("the scenario families", "s", tuple(wholes), 300.0),
        Figure("a check, mean without the measurements", "s", tuple(means), 1.5),
        Figure("a plain subflow check (DIRECT-3)", "s", tuple(plain), 0.4),
        *(Figure(f"of it {claim}", "s", tuple(by_claim[claim])) for claim in longest),
    ]


def measure_failover(lab: OwnLab, rounds: int) -> list[Figure]:
    """Measure gaps as DIRECT-12 does, by every fault, and the goodput of DIRECT-6."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        checks = suite(lab, "--claim=DIRECT-12", "--claim=DIRECT-6", f"--repetitions={REPETITIONS}")
        for check in checks:
            for figure in check["attempts"][-1]["figures"]:
                found.setdefault(f"{check['case']} {figure['name']}", []).append(figure["value"])
    figures = []
    for name, values in found.items():
        if "gap, median" in name:
            figures.append(Figure(name, "ms", tuple(values)))
        elif "clocks apart, median" in name:
            figures.append(Figure(name, "ms", tuple(values), 1.0))
        elif name.endswith("of plain TCP on every link"):
            figures.append(Figure(name, "", tuple(values), 0.95, at_least=True))
    return figures


PARTS = {
    "up": measure_up,
    "converge": measure_converge,
    "growth": measure_growth,
    "calls": measure_calls,
    "suite": measure_suite,
    "failover": measure_failover,
}
NEEDS_CONVERGED = ("suite", "failover")


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="bench.lab", description="Time the embedded lab and the suite.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to measure (default: %(default)s)")
    arguments = parser.parse_args()
    if unknown := set(arguments.only.split(",")) - set(PARTS):
        parser.error(f"--only: {', '.join(sorted(unknown))} is none of {', '.join(PARTS)}")
    lifecycle.require_root()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        lab = own_lab(Path(folder) / "bench", "bench")
        try:
            lab.down()
            lab.up()
            wanted = [name for name in PARTS if name in arguments.only.split(",")]
            for name in wanted:
                if name == next((each for each in wanted if each in NEEDS_CONVERGED), ""):
                    converge(lab)  # nothing to change where that was measured before
                figures += PARTS[name](lab, arguments.rounds)
        finally:
            lab.down()
    print(table(figures))
    if arguments.json:
        write(arguments.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
