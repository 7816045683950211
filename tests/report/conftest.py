from __future__ import annotations

import json
from pathlib import Path

import pytest

from mptcp_lab.catalogue.level import Level
from mptcp_lab.results import result as results
from mptcp_lab.results.made_by import MadeBy
from mptcp_lab.results.result import Attempt, Check, Evidence, Figure, NotRun, Result
from mptcp_lab.results.verdict import Ending, Outcome, Verdict

LAB = {
    "name": "rack <1>",
    "flavour": "hardware",
    "source": "inventories/rack1",
    "segments": [
        {"name": "core", "kind": "core", "ipv4": "198.18.10.0/24", "ipv6": None},
        {"name": "path1", "kind": "path", "ipv4": "198.18.1.0/24", "ipv6": "2001:db8:1::/64"},
        {"name": "path2", "kind": "path", "ipv4": "198.18.2.0/24", "ipv6": None},
    ],
    "hosts": [
        {
            "name": "client",
            "functions": ["clients"],
            "mptcp": True,
            "nics": [
                {
                    "segment": "path1",
                    "device": "eth1",
                    "ipv4": "198.18.1.10/24",
                    "ipv6": "2001:db8:1::10/64",
                    "rate": "100mbit",
                    "up": True,
                },
                {
                    "segment": "path2",
                    "device": "eth2",
                    "ipv4": "198.18.2.10/24",
                    "ipv6": None,
                    "rate": None,
                    "up": False,
                },
            ],
            "services": [],
            "facts": {"kernel": "6.18.44", "versions": {"nft": "1.1.3"}},
        },
        {
            "name": "server2",
            "functions": ["origins"],
            "mptcp": False,
            "nics": [],
            "services": [
                {"name": "origin", "engine": "origin", "port": 7000, "mptcp": "off", "backends": []}
            ],
            "facts": {},
        },
    ],
}

MADE_BY = MadeBy("0123456789abcdef" * 2 + "01234567", False, "a" * 64, "hardware", "rack <1>", 1.5)

TIMELINE = {
    "unit": "bytes",
    "series": {"path1": [[0, 0], [1, 2_000_000], [2, 2_000_000]], "path2": [[1.2, 0], [2, 1_000_000]]},
    "marks": [[1.0, "cable <pulled>"], [2.0, "cable back"]],
    "gap": [1.0, 1.2037],
}


def a_check(case: str, verdict: Verdict, *attempts: Attempt, level: Level = Level.MUST) -> Check:
    last = attempts[-1] if attempts else None
    return Check(
        id=case.partition("[")[0],
        case=case,
        family=case.partition("-")[0].lower(),
        claim=f"what {case} says",
        level=level,
        source="founding document",
        verdict=verdict,
        reason=last.reason if last else "not started: the host vanished",
        where=last.where if last else "",
        next_step="./lab up" if verdict is Verdict.INCONCLUSIVE else "",
        attempts=attempts,
    )


def an_attempt(
    outcome: Outcome, reason: str = "", *figures: Figure, evidence: tuple[Evidence, ...] = ()
) -> Attempt:
    return Attempt(outcome, reason, "conformance/x.py:7" if reason else "", 0.41, figures, evidence)


@pytest.fixture
def run(tmp_path: Path) -> Result:
    """A run with every verdict, saved in ``tmp_path`` with its evidence."""
    folder = tmp_path / "evidence" / "DIRECT-7"
    folder.mkdir(parents=True)
    (folder / "bytes.json").write_text(json.dumps(TIMELINE))
    (folder / "packets.json").write_text(json.dumps([{"time": 1.2, "flags": "S", "options": "<script>"}]))
    (folder / "log.txt").write_text("proxy says <b>hello</b>")
    kinds = (
        ("timeline", "bytes.json"),
        ("packets", "packets.json"),
        ("text", "log.txt"),
        ("pcap", "gone.gz"),
    )
    evidence = tuple(
        Evidence(name.partition(".")[0], kind, f"evidence/DIRECT-7/{name}") for kind, name in kinds
    )
    held, breached = Outcome.HELD, Outcome.BREACHED
    result = Result(
        run_id="20261122T170604Z-rack1",
        started="2026-11-22T17:06:04.000Z",
        finished="2026-11-22T17:07:34.500Z",
        ending=Ending.DEADLINE,
        sentence="the deadline of 90 s was reached",
        exit_code=4,
        checks=(
            a_check(
                "DIRECT-7",
                Verdict.PASS,
                an_attempt(held, "", Figure("gap", 203.7, "ms", 1000), evidence=evidence),
            ),
            a_check("DIRECT-5", Verdict.NON_STRICT, an_attempt(breached, "too <little>"), level=Level.SHOULD),
            a_check(
                "PROXY-1[haproxy]", Verdict.FAIL, an_attempt(breached, "one subflow\x1b[31m\nassert 1 == 2")
            ),
            a_check(
                "PROXY-1[nginx]", Verdict.UNSUPPORTED, an_attempt(Outcome.UNSUPPORTED, "multipath: refused")
            ),
            a_check("DIRECT-9", Verdict.FLAKY, an_attempt(breached, "late"), an_attempt(held)),
            a_check("GATEWAY-1", Verdict.INCONCLUSIVE),
        ),
        not_run=(NotRun("SPLIT-1", "the deadline of 90 s was reached"),),
        lab=LAB,
        options={"strict": False, "expect_all": False, "claim": [], "family": [], "deadline": 90},
        version="0.1.0",
        made_by=MADE_BY,
    )
    results.save(result, tmp_path / "result.json")
    return result
