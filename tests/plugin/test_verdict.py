from __future__ import annotations

import pytest

from mptcp_lab.catalogue.level import Level
from mptcp_lab.results.verdict import Ending, ExitCode, Outcome, Rules, Verdict, decide, exit_code

HELD, BREACHED, OVER = Outcome.HELD, Outcome.BREACHED, Outcome.OVER_LIMIT
UNSUPPORTED, INCONCLUSIVE = Outcome.UNSUPPORTED, Outcome.INCONCLUSIVE
PLAIN, STRICT, ALL = Rules(), Rules(strict=True), Rules(expect_all=True)


@pytest.mark.parametrize(
    ("outcomes", "level", "rules", "verdict"),
    [
        ([HELD], Level.MUST, PLAIN, Verdict.PASS),
        ([HELD], Level.INFO, STRICT, Verdict.PASS),
        ([BREACHED], Level.MUST, PLAIN, Verdict.FAIL),
        ([BREACHED], Level.SHOULD, PLAIN, Verdict.NON_STRICT),
        ([BREACHED], Level.SHOULD, STRICT, Verdict.FAIL),
        ([BREACHED], Level.INFO, STRICT, Verdict.NON_STRICT),
        ([OVER], Level.MUST, PLAIN, Verdict.FAIL),
        ([OVER], Level.SHOULD, PLAIN, Verdict.NON_STRICT),
        ([OVER], Level.INFO, PLAIN, Verdict.FAIL),
        ([UNSUPPORTED], Level.MUST, PLAIN, Verdict.UNSUPPORTED),
        ([UNSUPPORTED], Level.INFO, ALL, Verdict.FAIL),
        ([INCONCLUSIVE], Level.MUST, ALL, Verdict.INCONCLUSIVE),
        ([BREACHED, HELD], Level.MUST, PLAIN, Verdict.FLAKY),
        ([BREACHED, BREACHED], Level.MUST, PLAIN, Verdict.FAIL),
        ([BREACHED, INCONCLUSIVE], Level.MUST, PLAIN, Verdict.INCONCLUSIVE),
        ([OVER, HELD], Level.SHOULD, STRICT, Verdict.FLAKY),
    ],
)
def test_decide(outcomes: list[Outcome], level: Level, rules: Rules, verdict: Verdict) -> None:
    assert decide(outcomes, level, rules) is verdict


@pytest.mark.parametrize(
    ("verdicts", "ending", "rules", "code"),
    [
        ([Verdict.PASS], Ending.COMPLETE, PLAIN, ExitCode.ALL_WELL),
        ([Verdict.PASS, Verdict.UNSUPPORTED], Ending.COMPLETE, PLAIN, ExitCode.ALL_WELL),
        ([Verdict.PASS, Verdict.FAIL, Verdict.FLAKY], Ending.COMPLETE, PLAIN, ExitCode.CLAIM_FAILED),
        ([], Ending.COMPLETE, PLAIN, ExitCode.NOTHING_RAN),
        ([Verdict.UNSUPPORTED], Ending.COMPLETE, PLAIN, ExitCode.NOTHING_RAN),
        ([Verdict.PASS, Verdict.NON_STRICT], Ending.COMPLETE, PLAIN, ExitCode.NOT_STRICT),
        ([Verdict.FLAKY], Ending.COMPLETE, PLAIN, ExitCode.NOT_STRICT),
        ([Verdict.PASS, Verdict.INCONCLUSIVE], Ending.COMPLETE, PLAIN, ExitCode.LAB_BROKEN),
        ([Verdict.FAIL, Verdict.INCONCLUSIVE], Ending.LAB_BROKEN, PLAIN, ExitCode.LAB_BROKEN),
        ([Verdict.INCONCLUSIVE], Ending.LAB_BUSY, PLAIN, ExitCode.LAB_BUSY),
        ([Verdict.PASS], Ending.INTERRUPTED, PLAIN, ExitCode.NOTHING_RAN),
        ([Verdict.FAIL], Ending.INTERRUPTED, PLAIN, ExitCode.CLAIM_FAILED),
        ([Verdict.PASS], Ending.DEADLINE, PLAIN, ExitCode.ALL_WELL),
        ([Verdict.PASS], Ending.DEADLINE, ALL, ExitCode.CLAIM_FAILED),
        ([], Ending.DEADLINE, PLAIN, ExitCode.NOTHING_RAN),
    ],
)
def test_exit_code(verdicts: list[Verdict], ending: Ending, rules: Rules, code: ExitCode) -> None:
    assert exit_code(verdicts, ending, rules) is code
