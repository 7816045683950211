"""Two suites on one lab: the second names the holder, a dead one's lease expires, a lost one stops."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mptcp_lab.paths import ROOT
from mptcp_lab.probe import eventually
from tests.e2e.conftest import BIN, Configured, SuiteRun, environment, run_tool, suite_run

LEASE = "/run/mptcp-lab/lease"
BUSY = r"root@\S+, process (\d+) holds the lab until \d\d:\d\d:\d\d UTC"
QUICK = "--claim=STATE-2"
LONG = ("--family=direct", "--family=proxy")


def holder(lab: Configured, host: str) -> str:
    """Return who a host's lease names; nothing where there is none."""
    found = lab.own.ssh_may_fail(host, f"cat {LEASE} 2>/dev/null")
    return str(json.loads(found)["owner"]) if found else ""


@contextmanager
def under_way(lab: Configured, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run a suite that holds the lease on every host; it is killed at the end, unless it ended before."""
    folder = lab.results_folder()
    with subprocess.Popen(
        lab.suite_command(folder, *arguments),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            for host in lab.own.lab.hosts:
                name = f"process {process.pid}"
                eventually(lambda host=host: holder(lab, host), lambda found, n=name: n in found, within=60)
            yield process, folder
        finally:
            process.kill()


def told(run: SuiteRun) -> int:
    """Assert that a run reported a busy lab, and return the process that it named."""
    assert run.code == 5, run.output
    assert set(run.verdicts().values()) <= {"inconclusive"}
    assert "Traceback" not in run.output
    found = re.search(BUSY, run.output)
    assert found, run.output
    return int(found[1])


def test_a_second_suite_is_told_who_and_a_suite_that_lost_its_lease_stops(configured: Configured) -> None:
    with under_way(configured, *LONG) as (first, folder):
        assert told(configured.suite(QUICK)) == first.pid
        assert first.poll() is None  # the second one has not disturbed it
        configured.own.ssh("gateway", f"rm {LEASE}")
        output, _ = first.communicate(timeout=120)
    run = suite_run(first.returncode, output, folder)
    assert run.code == 4, output
    assert "gateway: the lease is lost: lease_refresh: the lease expired" in output
    last = run.result["checks"][-1]
    assert last["verdict"] == "inconclusive"
    assert last["reason"].startswith("not started: gateway: the lease is lost")
    assert configured.suite(QUICK).code != 5  # it gave the other hosts back


def test_a_killed_suites_lease_expires(configured: Configured) -> None:
    with under_way(configured, *LONG) as (dead, _):
        dead.send_signal(signal.SIGKILL)
        dead.wait()
    first = configured.suite(QUICK)
    assert told(first) == dead.pid
    again = eventually(
        lambda: configured.suite(QUICK), until=lambda run: run.code != 5, within=120, what="a free lab"
    )
    assert again.verdicts() == {"STATE-2": "pass"}, again.output


PLAYBOOKS = ("lab.yml", "playbooks/proxies.yml", "playbooks/gateway.yml", "playbooks/restore.yml")


def test_playbooks_change_nothing_under_a_suite(configured: Configured) -> None:
    """Each names the holder; check mode is no change, and a variable overrides."""
    tool = [str(BIN / "ansible-playbook"), "-i", str(configured.own.folder), "--limit=proxy1:gateway"]
    with under_way(configured, *LONG) as (suite, _):
        refused = {name: run_tool([*tool, name]) for name in PLAYBOOKS}
        rehearsed = run_tool([*tool, "playbooks/gateway.yml", "--check"])
        forced = run_tool([*tool, "playbooks/gateway.yml", "-e", "lab_ignore_lease=true"])
    for name, done in refused.items():
        said = " ".join(done.stdout.split())
        assert done.returncode != 0, f"{name}: {said}"
        assert re.search(rf"root@\S+, process {suite.pid} holds the lab for \d+ s more", said), said
        assert "-e lab_ignore_lease=true" in said
        assert re.findall(r"changed=(\d+)", said) == ["0"] * said.count("changed="), said
    assert (rehearsed.returncode, forced.returncode) == (0, 0), rehearsed.stdout + forced.stdout
