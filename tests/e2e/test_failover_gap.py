"""DIRECT-12: the probe's clock and the capture's agree; without a second path there is no figure."""

from __future__ import annotations

from tests.e2e.conftest import Configured, SuiteRun
from tests.e2e.sabotage import IMPATIENT, broken

CASE = "DIRECT-12[dropped-at-B]"
REPETITIONS = 5
SLOW = "ip mptcp endpoint flush"
MEND = "systemctl restart mptcp-lab-mptcp"


def figures(run: SuiteRun) -> dict[str, float]:
    check = next(check for check in run.result["checks"] if check["case"] == CASE)
    return {figure["name"]: figure["value"] for figure in check["attempts"][-1]["figures"]}


def test_probe_and_capture_agree_within_a_millisecond(configured: Configured) -> None:
    run = configured.suite(f"--claim={CASE}", f"--repetitions={REPETITIONS}")
    assert run.verdicts() == {CASE: "pass"}, run.output
    found = figures(run)
    assert found["repetitions"] == REPETITIONS
    assert found["gap, min"] <= found["gap, median"] <= found["gap, p95"] <= found["gap, max"]
    assert found["clocks apart, median"] < 1.0


def test_without_a_second_path_there_is_no_figure(configured: Configured) -> None:
    with broken(configured, "client", SLOW, MEND):
        run = configured.suite(f"--claim={CASE}", "--repetitions=1", *IMPATIENT)
    assert run.verdicts() == {CASE: "non-strict"}, run.output
    assert "expected subflows are missing" in run.reason(CASE)
