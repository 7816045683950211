"""Inner suites with checks that really pass and fail; no lab is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mptcp_lab.inventory.model import Host, Lab, Nic, Segment
from mptcp_lab.plugin import options
from mptcp_lab.results import result as results
from mptcp_lab.revision import read_revision

pytest_plugins = ["pytester"]

LAB = Lab(
    name="inner",
    flavour="embedded",
    source="inventories/inner",
    segments={"path1": Segment("path1", "path", IPv4Network("198.18.1.0/24"), None)},
    hosts={
        "client": Host(
            "client",
            frozenset({"clients"}),
            (Nic("path1", "eth1", IPv4Interface("198.18.1.10/24"), None),),
            (),
            mptcp=True,
            variables={"ansible_password": "secret"},
        )
    },
)
SCHEMA = json.loads(Path(results.__file__).with_name("result.schema.json").read_text(encoding="utf-8"))
CONFTEST = 'pytest_plugins = ["mptcp_lab.plugin"]\n'
IMPORTS = (
    "import pytest\n"
    "from mptcp_lab.plugin import Inconclusive, LabBroken, LabBusy, Unsupported, claim, describe\n"
)


class Inner:
    """One inner run: exit code, result.json, what was printed."""

    def __init__(self, run: pytest.RunResult, folder: Path) -> None:
        self.code = int(run.ret)
        self.lines = run.outlines
        self.text = "\n".join(run.outlines)
        self.folder = folder
        self.result: dict[str, Any] = {}
        if (folder / "result.json").exists():
            self.result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
            jsonschema.validate(self.result, SCHEMA)

    @property
    def verdicts(self) -> dict[str, str]:
        return {check["case"]: check["verdict"] for check in self.result["checks"]}

    def check(self, case: str) -> dict[str, Any]:
        found: dict[str, Any] = next(c for c in self.result["checks"] if c["case"] == case)
        return found


Suite = Callable[..., Inner]


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.setattr(options, "load", lambda _path: LAB)

    def run(source: str, *arguments: str, conftest: str = "") -> Inner:
        # Its own configuration file: without one, pytest would use that of a folder above, which may be ours.
        pytester.makeini("[pytest]\n")
        pytester.makeconftest(CONFTEST + IMPORTS + conftest)
        pytester.makepyfile(IMPORTS + source)
        spare = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")  # half a second of imports each
        done = pytester.runpytest_inprocess("--hosts=inventory", *spare, *arguments)
        return Inner(done, pytester.path / ".lab" / "results" / "latest")

    return run


def test_each_verdict_and_pytests_own_last_line(suite: Suite) -> None:
    inner = suite(
        """
tries = []

@claim("DIRECT-3")
def test_holds(): pass

@claim("DIRECT-5")
def test_should():
    share = 0.4
    assert share > 0.9, "too little on the first path"

@claim("DIRECT-4")
def test_must():
    assert [1, 2] == [1, 3]

@claim("DIRECT-7", timing=True)
def test_flaky(evidence):
    tries.append(1)
    evidence.figure("gap", 400 / len(tries), "ms")
    assert len(tries) > 1

@claim("DIRECT-2", timing=True)
def test_fails_twice():
    assert False, "both times"

@claim("SPLIT-6")
def test_missing():
    raise Unsupported("user-space endpoint", "nothing there", "client")

@claim("PROXY-1")
def test_undecided():
    raise Inconclusive("proxy1", "the capture lost packets")
"""
    )
    assert inner.verdicts == {
        "DIRECT-3": "pass",
        "DIRECT-5": "non-strict",
        "DIRECT-4": "fail",
        "DIRECT-7": "flaky",
        "DIRECT-2": "fail",
        "PROXY-1": "inconclusive",
        "SPLIT-6": "unsupported",
    }
    assert inner.code == inner.result["exit_code"] == 4
    assert inner.result["counts"]["fail"] == 2
    last = inner.lines[-1]
    assert "2 failed, 1 passed, 1 skipped, 1 xfailed, 1 flaky, 1 inconclusive in" in last


def test_a_reason_does_not_begin_with_the_name_of_an_exception(suite: Suite) -> None:
    inner = suite(
        "from mptcp_lab.probe import NeverHappened\n"
        '@claim("DIRECT-4")\ndef test_it():\n    raise NeverHappened("joins: not within 5 s")\n'
    )
    assert inner.check("DIRECT-4")["reason"] == "joins: not within 5 s"


def test_a_failure_says_what_where_and_why(suite: Suite) -> None:
    inner = suite(
        '@claim("DIRECT-4")\ndef test_it():\n    accepted = 2\n    assert accepted == 1, "reconnected"\n'
    )
    check = inner.check("DIRECT-4")
    assert check["reason"] == "reconnected\nassert 2 == 1"
    assert check["where"] == "test_a_failure_says_what_where_and_why.py:6"
    assert "one accept() on B" in inner.text
    assert "why     reconnected" in inner.text
    assert "FAILURES" not in inner.text
    assert inner.code == 1
    assert "assert accepted == 1" in (inner.folder / check["evidence"][0]["file"]).read_text()


def test_the_traceback_is_there_for_who_asks(suite: Suite) -> None:
    inner = suite('@claim("DIRECT-4")\ndef test_it():\n    assert 1 == 2\n', "--tb=long")
    assert "FAILURES" in inner.text
    assert ">   " in inner.text


def test_a_retry_keeps_both_results(suite: Suite) -> None:
    inner = suite(
        """
tries = []

@claim("DIRECT-7", timing=True)
def test_it(evidence):
    tries.append(1)
    evidence.figure("gap", 100.0 * len(tries), "ms")
    evidence.text("log", f"try {len(tries)}")
    assert len(tries) == 2, "first try"
"""
    )
    check = inner.check("DIRECT-7")
    assert [attempt["outcome"] for attempt in check["attempts"]] == ["breached", "held"]
    assert [attempt["figures"][0]["value"] for attempt in check["attempts"]] == [100.0, 200.0]
    texts = [(inner.folder / attempt["evidence"][0]["file"]).read_text() for attempt in check["attempts"]]
    assert texts == ["try 1", "try 2"]
    assert [attempt["evidence"][0]["file"] for attempt in check["attempts"]] == [
        "evidence/DIRECT-7/log.txt",
        "evidence/DIRECT-7/retry/log.txt",
    ]
    assert check["reason"].startswith("first try")
    assert inner.code == 3


def test_fixtures_are_set_up_again_for_the_retry(suite: Suite) -> None:
    inner = suite(
        """
made = []

@pytest.fixture
def stream():
    made.append(1)
    yield len(made)
    made.append("closed")

@claim("DIRECT-7", timing=True)
def test_it(stream):
    assert made == [1, "closed", 1]
"""
    )
    assert inner.verdicts == {"DIRECT-7": "flaky"}


def test_without_timing_nothing_is_tried_again(suite: Suite) -> None:
    inner = suite(
        'tries = []\n@claim("DIRECT-3")\ndef test_it():\n    tries.append(1)\n    assert len(tries) > 1\n'
    )
    assert inner.verdicts == {"DIRECT-3": "fail"}
    assert len(inner.check("DIRECT-3")["attempts"]) == 1


def test_strict_turns_a_should_into_a_failure(suite: Suite) -> None:
    inner = suite('@claim("DIRECT-5")\ndef test_it():\n    assert 0\n', "--strict")
    assert inner.verdicts == {"DIRECT-5": "fail"}
    assert inner.code == 1


def test_expect_all_turns_a_missing_capability_into_a_failure(suite: Suite) -> None:
    source = '@claim("SPLIT-6")\ndef test_it():\n    raise Unsupported("x", "not there")\n'
    assert suite(source).code == 2
    inner = suite(source, "--expect-all")
    assert inner.verdicts == {"SPLIT-6": "fail"}
    assert inner.code == 1


def test_fast_runs_one_case_of_each_claim_that_the_lab_can_run(suite: Suite) -> None:
    source = """
from mptcp_lab.inventory.requirement import Requirement

def refuse(_lab, _given):
    raise Unsupported("router", "there is none")

NEVER = Requirement("a router", refuse)

@claim("DIRECT-7", case="needs", requires=(NEVER,))
def test_needs(): pass

@claim("DIRECT-7")
@pytest.mark.parametrize("kind", ["drop", "reject"])
def test_kinds(kind): pass

@claim("DIRECT-4", requires=(NEVER,))
def test_never(): pass
"""
    inner = suite(source, "--fast")
    assert inner.verdicts == {"DIRECT-7[drop]": "pass", "DIRECT-4": "unsupported"}
    assert inner.result["options"]["fast"] is True
    assert suite(source, "--fast", "--claim=DIRECT-7[reject]").verdicts == {"DIRECT-7[reject]": "pass"}


def test_fast_prefers_a_marked_case_unless_the_lab_cannot_run_it(suite: Suite) -> None:
    source = """
from mptcp_lab.inventory.requirement import Requirement
from mptcp_lab.plugin import mark_fast

def refuse(_lab, _given):
    raise Unsupported("router", "there is none")

@mark_fast()
@claim("DIRECT-7", case="needs", requires=(Requirement("a router", refuse),))
def test_needs(): pass

@claim("DIRECT-7")
@pytest.mark.parametrize("kind", ["drop", pytest.param("reject", marks=mark_fast()), "reset"])
def test_kinds(kind): pass
"""
    assert suite(source, "--fast").verdicts == {"DIRECT-7[reject]": "pass"}


def test_ktap_replaces_the_exit_code_and_the_file(suite: Suite, tmp_path: Path) -> None:
    document = tmp_path / "out.ktap"
    source = '@claim("SPLIT-6")\ndef test_it():\n    raise Unsupported("x", "not there")\n'
    assert suite(source, f"--ktap={document}").code == 4
    assert "ok 1 SPLIT-6 # SKIP unsupported: x: not there" in document.read_text()
    inner = suite('@claim("DIRECT-4")\ndef test_it():\n    assert 0, "two"\n', f"--ktap={document}")
    assert (inner.code, inner.result["exit_code"]) == (1, 1)
    assert "# fail: two" in document.read_text()
    assert suite("", f"--ktap={document}", "--claim=NONE-1").code == 1
    assert suite("", f"--ktap={document}").code == 1
    assert not document.exists(), "the document of an earlier run is left"


def test_a_skip_does_not_hide(suite: Suite) -> None:
    inner = suite('@claim("DIRECT-3")\ndef test_it():\n    pytest.skip("no time")\n')
    assert inner.verdicts == {"DIRECT-3": "unsupported"}
    assert "no time" in inner.check("DIRECT-3")["reason"]


def test_a_figure_over_its_limit_fails_even_for_information(suite: Suite) -> None:
    inner = suite(
        """
@claim("DIRECT-12")
def test_it(evidence):
    evidence.figure("gap", 203.4, "ms", limit=100)
    evidence.figure("runs", 20)
"""
    )
    assert inner.verdicts == {"DIRECT-12": "fail"}
    assert inner.check("DIRECT-12")["reason"] == "gap 203 ms, over its limit of 100"
    assert any(
        line.startswith("DIRECT-12 ") and "fail" in line and line.endswith("gap 203 ms, runs 20")
        for line in inner.lines
    )


def test_a_configured_limit_fails_a_check(suite: Suite) -> None:
    source = """
@claim("DIRECT-7")
def test_gap(evidence):
    evidence.figure("gap", 203, "ms")
"""
    assert suite(source).verdicts == {"DIRECT-7": "pass"}
    inner = suite(source, "--limit", "gap=100")
    assert inner.verdicts == {"DIRECT-7": "fail"}
    assert inner.check("DIRECT-7")["reason"] == "gap 203 ms, over its limit of 100"
    assert inner.result["options"]["limit"] == ["gap=100"]


@pytest.mark.parametrize("words", [("--limit", "gap"), ("--limit", "=5"), ("--repetitions", "0")])
def test_a_number_that_is_none_is_refused(suite: Suite, words: tuple[str, ...]) -> None:
    inner = suite("", *words)
    assert inner.code == 4
    assert not inner.result


def test_a_trace_found_in_teardown_fails_a_check_that_passed(suite: Suite) -> None:
    inner = suite(
        """
@pytest.fixture
def traces():
    yield
    assert not ["client: nft table left"], "a trace was left"

@claim("DIRECT-7")
def test_it(traces): pass
"""
    )
    assert inner.verdicts == {"DIRECT-7": "fail"}
    assert inner.check("DIRECT-7")["reason"].startswith("in teardown: a trace was left")


BREAKS = """
@claim("DIRECT-1")
def test_before(): pass

@claim("DIRECT-2")
def test_breaks(broken): pass

@claim("DIRECT-3")
def test_after():
    raise RuntimeError("must not run")
"""


def test_a_broken_lab_stops_the_run_politely(suite: Suite) -> None:
    fixture = """
@pytest.fixture(scope="session")
def broken():
    raise LabBroken("the host vanished", "server1", "./lab up")
"""
    inner = suite(BREAKS, conftest=fixture)
    assert inner.verdicts == {"DIRECT-1": "pass", "DIRECT-2": "inconclusive", "DIRECT-3": "inconclusive"}
    assert inner.check("DIRECT-2")["where"] == "server1"
    assert inner.check("DIRECT-2")["next_step"] == "./lab up"
    assert inner.check("DIRECT-3")["attempts"] == []
    assert inner.result["run"]["ending"] == "lab broken"
    assert inner.code == 4
    assert "lab broken: server1: the host vanished; next: ./lab up" in inner.lines
    assert "Traceback" not in inner.text


def test_a_host_that_vanishes_in_the_check_is_a_broken_lab(suite: Suite) -> None:
    inner = suite(
        """
from mptcp_lab.probe.client import HostVanished

@claim("DIRECT-7")
def test_it():
    raise HostVanished("server1", "no heartbeat for 5 s")

@claim("DIRECT-8")
def test_next(): pass
"""
    )
    assert inner.verdicts == {"DIRECT-7": "inconclusive", "DIRECT-8": "inconclusive"}
    assert inner.check("DIRECT-7")["where"] == "server1"
    assert inner.code == 4


def test_a_busy_lab_ends_the_run(suite: Suite) -> None:
    fixture = """
@pytest.fixture(scope="session", autouse=True)
def broken():
    raise LabBusy("held by anna until 12:30", "client", "wait, or ./lab status")
"""
    inner = suite(BREAKS, conftest=fixture)
    assert set(inner.verdicts.values()) == {"inconclusive"}
    assert inner.code == 5
    assert "lab busy: client: held by anna until 12:30; next: wait, or ./lab status" in inner.lines


def test_one_undecided_check_does_not_stop_the_others(suite: Suite) -> None:
    inner = suite(
        """
@claim("DIRECT-1")
def test_undecided(): raise Inconclusive("server1", "its clock jumped")

@claim("DIRECT-3")
def test_next(): pass
"""
    )
    assert inner.verdicts == {"DIRECT-1": "inconclusive", "DIRECT-3": "pass"}
    assert inner.code == 4


def test_the_deadline_starts_nothing_new(suite: Suite) -> None:
    source = '@claim("DIRECT-1")\ndef test_a(): pass\n@claim("DIRECT-3")\ndef test_b(): pass\n'
    inner = suite(source, "--deadline", "0")
    assert inner.result["checks"] == []
    assert [entry["case"] for entry in inner.result["not_run"]] == ["DIRECT-1", "DIRECT-3"]
    assert inner.result["run"]["ending"] == "deadline"
    assert inner.code == 2
    assert "2 not started: the deadline of 0 s was reached" in inner.lines


def test_selection_by_id_alias_glob_case_and_family(suite: Suite) -> None:
    source = """
@claim("DIRECT-1")
def test_a(): pass

@claim("PROXY-1")
@pytest.mark.parametrize("engine", ["haproxy-preload", "nginx-native"])
def test_b(engine): pass

@claim("PROXY-2")
def test_c(): pass

@claim("R01")
def test_d(): pass
"""
    both = ["PROXY-1[haproxy-preload]", "PROXY-1[nginx-native]"]
    assert [*suite(source, "--claim", "PROXY-1").verdicts] == both
    assert [*suite(source, "--claim", "PROXY-*").verdicts] == [*both, "PROXY-2"]
    assert [*suite(source, "--claim", "PROXY-1[nginx-native]").verdicts] == both[1:]
    assert [*suite(source, "--claim", "PROXY-1[hap*").verdicts] == both[:1]
    sixth = '@claim("SPLIT-6")\ndef test_a(): pass\n@claim("SPLIT-6", case="download")\ndef test_b(): pass\n'
    assert [*suite(sixth, "--claim", "SPLIT-6").verdicts] == ["SPLIT-6", "SPLIT-6[download]"]
    assert [*suite(sixth, "--claim", "SPLIT-6[]").verdicts] == ["SPLIT-6"]
    tenth = '@claim("PROXY-10")\ndef test_a(): pass\n@claim("PROXY-1", case="v0")\ndef test_b(): pass\n'
    assert [*suite(tenth, "--claim", "PROXY-1[v0]").verdicts] == ["PROXY-1[v0]"]
    assert [*suite(source, "--claim", "R01", "--claim", "DIRECT-1").verdicts] == ["DIRECT-1", "RFC8684-3.1/1"]
    assert [*suite(source, "--family", "rfc8684").verdicts] == ["RFC8684-3.1/1"]


def test_families_run_in_the_catalogues_order(suite: Suite) -> None:
    source = "".join(
        f'@claim("{name}")\ndef test_{n}(): pass\n' for n, name in enumerate(["R01", "DIRECT-1", "STATE-1"])
    )
    assert [*suite(source).verdicts] == ["STATE-1", "DIRECT-1", "RFC8684-3.1/1"]


def test_an_unknown_id_is_a_collection_error(suite: Suite) -> None:
    inner = suite('@claim("DIRECT-77")\ndef test_a(): pass\n')
    assert inner.code == 2
    assert 'test_a: claim "DIRECT-77" is not in the catalogue' in inner.text
    assert "Traceback" not in inner.text
    assert inner.result == {}


def test_two_checks_of_one_case_are_refused(suite: Suite) -> None:
    source = '@claim("DIRECT-8")\ndef test_a(): pass\n@claim("DIRECT-8")\ndef test_b(): pass\n'
    inner = suite(source)
    assert inner.code == 2
    assert "are both case DIRECT-8" in inner.text
    apart = source.replace('@claim("DIRECT-8")\ndef test_b', '@claim("DIRECT-8", case="reset")\ndef test_b')
    assert [*suite(apart).verdicts] == ["DIRECT-8", "DIRECT-8[reset]"]


def test_testinfras_host_fixture_is_refused(suite: Suite) -> None:
    inner = suite('@claim("STATE-2")\ndef test_a(host):\n    host.run("true")\n')
    assert inner.code == 2
    assert "testinfra's fixture `host` has no access to the lab" in inner.text


def test_a_list_runs_nothing(suite: Suite) -> None:
    inner = suite(
        '@claim("DIRECT-3")\ndef test_a():\n    """Every pair is joined."""\n    raise RuntimeError\n',
        "--list",
    )
    assert inner.code == 0
    assert "DIRECT-3  (MUST; founding document, scenario 1, statement 3)" in inner.lines
    assert "    purpose  Every pair is joined." in inner.lines
    assert not inner.folder.exists()


NEEDS = """
from mptcp_lab.inventory.requirement import Requirement, find_host

GATEWAY = Requirement("a gateway for {speed}", lambda lab, _: find_host(lab, "gateways"))
CLIENT = Requirement("a client", lambda lab, _: find_host(lab, "clients"))

@claim("DIRECT-3", requires=GATEWAY)
@pytest.mark.parametrize("speed", ["fast"])
def test_a(router, speed): pass

@claim("DIRECT-4", requires=(CLIENT,))
def test_b(): pass
"""
NO_GATEWAY = "gateways: the inventory lists no such host"
TOUCHED = "@pytest.fixture(scope='session')\ndef router():\n    raise LabBroken('touched')\n"


@pytest.mark.parametrize("argument", ["--list", "--collect-only"])
def test_a_list_says_why_a_check_will_not_run(suite: Suite, argument: str) -> None:
    inner = suite(NEEDS, argument, "-q", conftest=TOUCHED)
    assert inner.code == 0
    assert inner.text.count(f"unsupported here: {NO_GATEWAY}") == 1
    if argument == "--list":
        assert "    needs    a gateway for fast" in inner.lines
        assert "    needs    a client" in inner.lines


def test_a_check_whose_requirement_is_missing_is_unsupported_in_the_same_words(suite: Suite) -> None:
    inner = suite(NEEDS, conftest=TOUCHED)
    assert inner.verdicts == {"DIRECT-3[fast]": "unsupported", "DIRECT-4": "pass"}
    assert inner.check("DIRECT-3[fast]")["reason"] == NO_GATEWAY


def test_a_fixture_stands_for_what_it_needs(suite: Suite) -> None:
    declare = (
        "from mptcp_lab.inventory.requirement import Requirement, find_host\n"
        "from mptcp_lab.plugin import fixtures_require\n"
        "def pytest_configure(config):\n"
        "    gateway = Requirement('a gateway', lambda lab, _: find_host(lab, 'gateways'))\n"
        "    fixtures_require(config, {'router': gateway})\n"
    )
    source = '@claim("DIRECT-3")\ndef test_a(router): pass\n@claim("DIRECT-4")\ndef test_b(): pass\n'
    inner = suite(source, conftest=TOUCHED + declare)
    assert inner.verdicts == {"DIRECT-3": "unsupported", "DIRECT-4": "pass"}
    assert inner.check("DIRECT-3")["reason"] == NO_GATEWAY


def test_collect_only_names_claims_and_opens_nothing(suite: Suite) -> None:
    fixture = "@pytest.fixture(scope='session', autouse=True)\ndef lab():\n    raise LabBroken('touched')\n"
    inner = suite('@claim("DIRECT-3")\ndef test_a(): pass\n', "--collect-only", "-q", conftest=fixture)
    assert inner.code == 0
    assert any(line.startswith("DIRECT-3: after the first data") for line in inner.lines)
    assert not inner.folder.exists()


def test_evidence_is_kept_for_a_pass(suite: Suite) -> None:
    inner = suite(
        """
from dataclasses import dataclass
from ipaddress import ip_address

@dataclass(frozen=True)
class Subflow:
    local: object
    backup: bool

@claim("DIRECT-3")
def test_a(evidence):
    evidence.document("counters", {"JoinSynTx": 1})
    evidence.document("counters", {"JoinSynTx": 2})
    evidence.subflows([Subflow(ip_address("198.18.1.10"), False)])
    evidence.packets([{"time_ns": 100_000_000, "flags": "S"}])
    evidence.timeline("bytes", {"path1": [(0, 0), (1, 9)]}, [(0.5, "fault")], gap=(0.5, 0.7))
    evidence.pcap("client eth1", b"pcap")
    evidence.text("log", "a line")
"""
    )
    files = {e["file"]: e["kind"] for e in inner.check("DIRECT-3")["evidence"]}
    base = "evidence/DIRECT-3/"
    assert files == {
        f"{base}counters.json": "document",
        f"{base}counters-2.json": "document",
        f"{base}subflows.json": "subflows",
        f"{base}packets.json": "packets",
        f"{base}bytes.json": "timeline",
        f"{base}client-eth1.pcapng.gz": "pcap",
        f"{base}log.txt": "text",
    }
    subflows = json.loads((inner.folder / f"{base}subflows.json").read_text())
    assert subflows == [{"local": "198.18.1.10", "backup": False}]
    assert "<svg" in (inner.folder / "report.html").read_text()
    assert (inner.folder / "junit.xml").exists()


def test_the_result_describes_the_lab_and_no_secret(suite: Suite) -> None:
    inner = suite(
        '@claim("DIRECT-3")\ndef test_a(request):\n    describe(request.config, "client", kernel="6.18.44")\n'
    )
    assert inner.result["lab"]["hosts"][0]["facts"] == {"kernel": "6.18.44"}
    assert "secret" not in (inner.folder / "result.json").read_text()
    assert inner.folder.resolve().name.endswith("-inner")
    assert inner.folder.resolve().parent.parent.stat().st_mode & 0o777 == 0o700


def test_results_go_where_they_are_wanted(suite: Suite, tmp_path: Path) -> None:
    source = '@claim("DIRECT-3")\ndef test_a(evidence):\n    evidence.text("log", "new")\n'
    for _ in range(2):
        suite(source, "--results", str(tmp_path / "out"))
    assert [p.name for p in (tmp_path / "out" / "evidence" / "DIRECT-3").iterdir()] == ["log.txt"]
    blocked = tmp_path / "file"
    blocked.touch()
    inner = suite(source, "--results", str(blocked / "out"))
    assert inner.code == 2
    assert "results cannot be written" in inner.text


def test_ordinary_tests_count_too(suite: Suite) -> None:
    inner = suite('@claim("DIRECT-3")\ndef test_a(): pass\ndef test_b():\n    assert 0\n')
    assert inner.verdicts == {"DIRECT-3": "pass"}
    assert inner.code == 1


def test_evidence_needs_a_claim(suite: Suite) -> None:
    inner = suite("def test_a(evidence): pass\n")
    assert "the fixture `evidence` is for checks of a claim" in inner.text
    assert inner.code == 1


def test_a_reason_has_no_colours(suite: Suite) -> None:
    inner = suite('@claim("DIRECT-4")\ndef test_it():\n    assert [1, 2] == [1, 3]\n', "--color=yes", "-vv")
    check = inner.check("DIRECT-4")
    assert "At index 1 diff: 2 != 3" in check["reason"]
    assert "\x1b" not in json.dumps(check) + (inner.folder / check["evidence"][0]["file"]).read_text()


def test_colours_only_where_asked(suite: Suite) -> None:
    source = '@claim("DIRECT-3")\ndef test_a(): pass\n'
    assert "\x1b" not in suite(source).text
    assert "\x1b[32mpass" in suite(source, "--color=yes").text


def test_a_result_tells_what_made_it_and_the_method_in_use(suite: Suite) -> None:
    inner = suite(
        """
from dataclasses import replace
from mptcp_lab.inventory.model import Service
from mptcp_lab.plugin import describe_run, lab_of

@claim("DIRECT-3")
def test_a(request):
    lab = lab_of(request.config)
    client = replace(lab.hosts["client"], services=(Service("test1", "haproxy", 7000, "preload", ()),))
    describe_run(request.config, replace(lab, hosts={"client": client}), patience=12.0)
""",
        "--column",
        "debian-12",
    )
    assert inner.code == 0
    assert inner.result["made_by"] == {
        "revision": read_revision().commit,
        "edited": read_revision().is_edited,
        "lock": "",
        "engine": "systemd-nspawn",
        "column": "debian-12",
        "patience": 12.0,
    }
    assert inner.result["lab"]["hosts"][0]["services"][0]["mptcp"] == "preload"


BASELINE_SUITE = """
@claim("DIRECT-3")
def test_a(): assert {0}

@claim("DIRECT-4")
def test_b(): assert False, "it failed before too"
"""


def test_a_baseline_excuses_what_failed_before_and_nothing_else(suite: Suite, tmp_path: Path) -> None:
    first = suite(BASELINE_SUITE.format(True), "--results", str(tmp_path / "first"))
    assert first.code == 1
    again = suite(BASELINE_SUITE.format(True), f"--baseline={tmp_path / 'first'}")
    assert again.code == 0
    assert again.lines[-2] == "exit status 0: nothing got worse"
    assert again.result["exit_code"] == 1
    worse = suite(BASELINE_SUITE.format(False), f"--baseline={tmp_path / 'first' / 'result.json'}")
    assert worse.code == 1
    assert "  DIRECT-3: pass -> fail (assert False)" in worse.lines


def test_a_kcidb_report_is_written_with_the_views(suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "kcidb.json").write_text("an old one")
    inner = suite(BASELINE_SUITE.format(True), f"--kcidb={tmp_path / 'kcidb.json'}")
    report = json.loads((tmp_path / "kcidb.json").read_text())
    assert [test["status"] for test in report["tests"]] == ["PASS", "FAIL"]
    assert inner.code == 1


@pytest.mark.parametrize(
    ("kernel", "options", "verdict", "code"),
    [
        ("6.18.44", (), "non-strict", 0),
        ("5.15.1", (), "non-strict", 3),
        ("6.18.44", ("--strict",), "fail", 1),
    ],
)
def test_what_the_kernel_is_known_to_breach_leaves_the_exit_code_alone(
    suite: Suite, kernel: str, options: tuple[str, ...], verdict: str, code: int
) -> None:
    inner = suite(
        '@claim("RFC8684-3.4.2/2")\n'
        "def test_keepalive(request):\n"
        f'    describe(request.config, "client", kernel="{kernel}")\n'
        '    assert not "keepalive"\n',
        *options,
    )
    assert inner.verdicts == {"RFC8684-3.4.2/2": verdict}
    assert inner.code == inner.result["exit_code"] == code, inner.text
    assert ("known deviation of this kernel" in inner.text) is (code == 0)
