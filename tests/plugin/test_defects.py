"""Test that defects of the suite, failures of hosts and of the session's setup are no breach."""

from __future__ import annotations

import pytest

from tests.plugin.test_runs import CONFTEST, IMPORTS, LAB, Inner, Suite, suite

pytest_plugins = ["pytester"]
__all__ = ["CONFTEST", "IMPORTS", "LAB", "Inner", "suite"]

EXCEPTIONS = """
import json, subprocess, socket, tempfile
from mptcp_lab.probe import ConnectFailed, Deadline, NeverHappened, ProbeError, TransferFailed
from mptcp_lab.probe.streams import NothingAccepted

def library():
    exec(compile("assert 1 == 2, 'not what a library expects'", json.__file__, "exec"))

RAISE = {
    "key": lambda: {}["MPJoinRejected"],
    "type": lambda: None + 1,
    "timeout": lambda: (_ for _ in ()).throw(TimeoutError("timed out")),
    "library": library,
    "exit": lambda: (_ for _ in ()).throw(SystemExit(3)),
    "os": lambda: open("/nowhere/at-all"),
}
FULL_DISK = {"kind": "os", "errno": 28, "message": "No space left on device"}
FAILED_ON_A_HOST = {
    "probe": lambda: ProbeError("client", "fault", FULL_DISK),
    "socket": lambda: ConnectFailed("client", "connect: ENOPROTOOPT after 0.000 s", 92, 0.0),
    "deadline": lambda: Deadline("client", "counters", 10.0),
}
BREACHES = {
    "assert": AssertionError("it was 2"),
    "never": NeverHappened("the expected subflows: not within 10.00 s"),
    "connect": ConnectFailed("client", "timed out", 110, 5.0),
    "transfer": TransferFailed("client", "ECONNRESET after 7 bytes", None),
    "accept": NothingAccepted("server1", "accept", {"kind": "timeout", "message": "no connection to accept"}),
}
"""


def test_an_exception_that_nobody_foresaw_is_a_defect_of_the_suite(suite: Suite) -> None:
    source = f"""{EXCEPTIONS}
@claim("DIRECT-3")
@pytest.mark.parametrize("name", RAISE)
def test_must(name): RAISE[name]()

@claim("DIRECT-5")
@pytest.mark.parametrize("name", RAISE)
def test_should(name): RAISE[name]()
"""
    for words in ((), ("--strict", "--expect-all")):
        inner = suite(source, *words)
        assert set(inner.verdicts.values()) == {"inconclusive"}
        assert len(inner.verdicts) == 12
        assert {check["attempts"][0]["outcome"] for check in inner.result["checks"]} == {"defect"}
        assert inner.code == 4
    told = "a defect of the suite, not of the lab: KeyError: 'MPJoinRejected'"
    assert [line for line in inner.lines if told in line] == [f"  cause   {told}"]  # once for both checks
    check = inner.check("DIRECT-3[key]")
    assert check["reason"] == "a defect of the suite, not of the lab: KeyError: 'MPJoinRejected'"
    assert check["where"].startswith("test_an_exception_that_nobody_foresaw_is_a_defect_of_the_suite.py:")
    assert "MPJoinRejected" in (inner.folder / check["evidence"][0]["file"]).read_text()
    assert "not what a library expects" in inner.check("DIRECT-3[library]")["reason"]


@pytest.mark.parametrize("phase", ["setup", "teardown"])
def test_one_in_a_fixture_is_a_defect_too(suite: Suite, phase: str) -> None:
    before, after = ("{}['x']", "") if phase == "setup" else ("", "{}['x']")
    inner = suite(
        f"""
@pytest.fixture
def thing():
    {before or "pass"}
    yield
    {after or "pass"}

@claim("DIRECT-3")
def test_it(thing): pass

@claim("DIRECT-4")
def test_next(): pass
"""
    )
    assert inner.verdicts == {"DIRECT-3": "inconclusive", "DIRECT-4": "pass"}
    assert f"not of the lab: in {phase}: KeyError" in inner.check("DIRECT-3")["reason"]
    assert inner.code == 4


def test_what_a_claim_asserts_is_a_breach(suite: Suite) -> None:
    inner = suite(
        f"""{EXCEPTIONS}
@claim("DIRECT-3")
@pytest.mark.parametrize("name", BREACHES)
def test_it(name): raise BREACHES[name]

@claim("DIRECT-4")
def test_did_not_raise():
    with pytest.raises(ConnectFailed):
        pass
"""
    )
    assert set(inner.verdicts.values()) == {"fail"}
    assert inner.code == 1


def test_an_operation_that_failed_on_a_host_decides_nothing(suite: Suite) -> None:
    inner = suite(
        f"""{EXCEPTIONS}
@claim("DIRECT-3")
@pytest.mark.parametrize("name", FAILED_ON_A_HOST)
def test_it(name): raise FAILED_ON_A_HOST[name]()
"""
    )
    assert set(inner.verdicts.values()) == {"inconclusive"}
    check = inner.check("DIRECT-3[probe]")
    assert (check["reason"], check["where"]) == ("fault: No space left on device", "client")
    assert check["next_step"] == "make room on the host: df -h /run /var /tmp"
    assert inner.code == 4


THREE = "".join(f'@claim("DIRECT-{number}")\ndef test_{number}(machines): pass\n' for number in (1, 2, 3))


@pytest.mark.parametrize(
    "failure",
    ["TimeoutError('timed out')", "EOFError()", "AssertionError('no answer')", "KeyError('ifname')"],
)
def test_a_session_that_cannot_be_set_up_is_told_once(suite: Suite, failure: str) -> None:
    fixture = f"""
@pytest.fixture(scope="session")
def machines():
    raise {failure}
"""
    inner = suite(THREE, conftest=fixture)
    assert set(inner.verdicts.values()) == {"inconclusive"}
    assert inner.code == 4
    assert inner.result["run"]["ending"] == "lab broken"
    told = [line for line in inner.lines if "the session cannot be set up (machines)" in line]
    assert len(told) == 1, told
    assert "2 not started because of it" in inner.lines
    assert "failure" in [evidence["name"] for evidence in inner.check("DIRECT-1")["evidence"]]


def test_a_full_disk_on_a_host_ends_the_session(suite: Suite) -> None:
    fixture = """
from mptcp_lab.probe import ProbeError

@pytest.fixture(scope="session")
def machines():
    full = {"kind": "os", "errno": 28, "message": "No space left on device"}
    raise ProbeError("proxy1", "lease_take", full)
"""
    inner = suite(THREE, conftest=fixture)
    assert inner.code == 4
    assert (
        "lab broken: proxy1: the session cannot be set up (machines): lease_take: No space left on device; "
        "next: make room on the host: df -h /run /var /tmp" in inner.lines
    )


def test_a_failure_of_what_some_checks_share_accuses_none_of_them(suite: Suite) -> None:
    inner = suite(
        """
@pytest.fixture(scope="module")
def ordinary():
    assert 1 == 2, "the second scenario"

@claim("DIRECT-1")
def test_a(ordinary): pass

@claim("DIRECT-2")
def test_b(ordinary): pass

@claim("DIRECT-3")
def test_c(): pass
"""
    )
    assert inner.verdicts == {"DIRECT-1": "inconclusive", "DIRECT-2": "inconclusive", "DIRECT-3": "pass"}
    assert "the second scenario" in inner.check("DIRECT-2")["reason"]
    assert inner.code == 4


def test_a_capability_that_the_session_lacks_is_still_unsupported(suite: Suite) -> None:
    fixture = """
@pytest.fixture(scope="session")
def machines():
    raise Unsupported("clients", "the inventory lists no such host")
"""
    inner = suite(THREE, conftest=fixture)
    assert set(inner.verdicts.values()) == {"unsupported"}
    assert inner.code == 2


EXPLAINED = """
from mptcp_lab.plugin import explain_failures

def pytest_configure(config):
    step = "on client: sysctl -w net.mptcp.enabled=1"
    cause = Inconclusive("client", "net.mptcp.enabled is 0, STATE-1", step)
    explain_failures(config, lambda item: cause if "broken" in item.name else None)
"""


def test_a_cause_is_told_once_with_what_it_took_along(suite: Suite) -> None:
    inner = suite(
        """
tries = []

@claim("DIRECT-1", timing=True)
def test_broken_a():
    tries.append(1)
    assert len(tries) < 2 and not tries, "ENOPROTOOPT"

@claim("DIRECT-2")
def test_broken_b(): {}["x"]

@claim("DIRECT-3")
def test_broken_but_passes(): pass

@claim("DIRECT-4")
def test_its_own(): assert 1 == 2

@claim("DIRECT-12")
def test_broken_over_limit(evidence):
    evidence.figure("gap", 5, "ms", limit=1)
""",
        conftest=EXPLAINED,
    )
    assert inner.verdicts == {
        "DIRECT-1": "inconclusive",
        "DIRECT-2": "inconclusive",
        "DIRECT-3": "pass",
        "DIRECT-4": "fail",
        "DIRECT-12": "inconclusive",
    }
    assert len(inner.check("DIRECT-1")["attempts"]) == 1
    assert "ENOPROTOOPT" in (inner.folder / inner.check("DIRECT-1")["evidence"][0]["file"]).read_text()
    at = inner.lines.index("inconclusive  3 checks")
    assert inner.lines[at + 1 : at + 4] == [
        "  cause   client: net.mptcp.enabled is 0, STATE-1",
        "  next    on client: sysctl -w net.mptcp.enabled=1",
        "  checks  DIRECT-1, DIRECT-2, DIRECT-12",
    ]
    assert inner.text.count("net.mptcp.enabled is 0") == 1
    junit = (inner.folder / "junit.xml").read_text()
    told = (
        '<property name="cause 1" value="client: net.mptcp.enabled is 0, STATE-1 (3 checks); '
        'next: on client: sysctl -w net.mptcp.enabled=1" />'
    )
    assert told in junit
    page = (inner.folder / "report.html").read_text()
    assert '<tr><td>3</td><td class="wide">client: net.mptcp.enabled is 0, STATE-1</td>' in page
    assert inner.code == 4


def test_an_explanation_that_fails_itself_leaves_the_failure(suite: Suite) -> None:
    fixture = """
from mptcp_lab.plugin import explain_failures

def pytest_configure(config):
    explain_failures(config, lambda item: {}["x"])
"""
    inner = suite('@claim("DIRECT-3")\ndef test_a(): assert 0\n', conftest=fixture)
    assert inner.verdicts == {"DIRECT-3": "fail"}


DIAGNOSED = """
from mptcp_lab.plugin import diagnose_failures
from mptcp_lab.results.causes import Cause

def pytest_configure(config):
    cause = Cause("the client has no endpoint", "client", "on client: ip mptcp endpoint add 198.18.2.10")
    diagnose_failures(config, lambda item: cause if "broken" in item.name else {}["x"])
"""


def test_the_diagnosis_of_failures_is_named_once_at_the_top(suite: Suite) -> None:
    inner = suite(
        """
@claim("DIRECT-1")
def test_its_own(): assert 1 == 2

@claim("DIRECT-3")
def test_broken_a(): assert 2 == 4, "2 of 4 subflows"

@claim("DIRECT-4")
def test_broken_b(): assert False

@claim("DIRECT-7")
def test_broken_but_passes(): pass
""",
        conftest=DIAGNOSED,
    )
    assert inner.verdicts == {"DIRECT-1": "fail", "DIRECT-3": "fail", "DIRECT-4": "fail", "DIRECT-7": "pass"}
    at = inner.lines.index("fail  2 checks")
    assert inner.lines[at + 1 : at + 4] == [
        "  cause   client: the client has no endpoint",
        "  next    on client: ip mptcp endpoint add 198.18.2.10",
        "  checks  DIRECT-3, DIRECT-4",
    ]
    assert at < inner.lines.index("fail  DIRECT-1")
    assert inner.text.count("the client has no endpoint") == 1
    assert [inner.check(case)["cause"] for case in inner.verdicts] == ["", "cause-1", "cause-1", ""]
    assert inner.check("DIRECT-3")["reason"].startswith("2 of 4 subflows")
    assert inner.result["causes"] == [
        {
            "id": "cause-1",
            "what": "the client has no endpoint",
            "where": "client",
            "next_step": "on client: ip mptcp endpoint add 198.18.2.10",
            "cases": ["DIRECT-3", "DIRECT-4"],
        }
    ]
    page = (inner.folder / "report.html").read_text()
    assert '<tr><td>2</td><td class="wide">client: the client has no endpoint</td>' in page
    assert inner.code == 1


def test_the_diagnosis_of_one_failure_stands_in_it(suite: Suite) -> None:
    inner = suite('@claim("DIRECT-3")\ndef test_broken(): assert 0\n', conftest=DIAGNOSED)
    at = inner.lines.index("fail  DIRECT-3")
    assert "  cause   client: the client has no endpoint" in inner.lines[at:]
    assert "cause: client: the client has no endpoint" in (inner.folder / "junit.xml").read_text()


FULL = """
import errno
from pathlib import Path

real = Path.{method}

def full(self, *words, **more):
    if ".lab" in self.parts and "{part}" in str(self):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))
    return real(self, *words, **more)

Path.{method} = full

def pytest_unconfigure():
    Path.{method} = real
"""
TWO = """
@claim("DIRECT-3")
def test_a(evidence): evidence.text("log", "a line")

@claim("SPLIT-1")
def test_b(evidence): evidence.text("log", "another")
"""


@pytest.mark.parametrize(
    ("method", "part", "ended"),
    [("write_bytes", "evidence", 1), ("open", "result.json", 1), ("open", "report.html", 1)],
)
def test_a_full_disk_is_one_sentence(suite: Suite, method: str, part: str, ended: int) -> None:
    inner = suite(TWO, conftest=FULL.format(method=method, part=part))
    assert inner.code == 4
    told = [line for line in inner.lines if "No space left on device" in line and "next: " in line]
    assert len(told) == ended, inner.text
    assert told[0].startswith("lab broken: ")
    assert (
        "results cannot be written: No space left on device; next: make room or choose --results DIR"
        in told[0]
    )
    assert "Traceback" not in inner.text
    assert "INTERNALERROR" not in inner.text
    assert not [path for path in inner.folder.resolve().rglob("*") if ".partial" in path.name]


def test_a_disk_that_is_full_from_the_start_leaves_nothing(suite: Suite) -> None:
    inner = suite(TWO, conftest=FULL.format(method="symlink_to", part=".latest"))
    assert inner.code == 2
    assert "results cannot be written: [Errno 28] No space left on device" in inner.text
    assert not inner.folder.exists()
    assert list(inner.folder.parent.iterdir()) == []


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "soon", ""])
def test_a_deadline_that_is_none_is_refused(suite: Suite, seconds: str) -> None:
    inner = suite(TWO, f"--deadline={seconds}")
    assert inner.code == 4
    assert not inner.result


def test_a_limit_of_a_figure_that_no_check_has_is_refused(suite: Suite) -> None:
    source = """
@claim("DIRECT-7")
def test_gap(evidence):
    evidence.figure("gap of the stream", 203, "ms")
    for device in ("eth1",):
        evidence.figure(f"bytes on {device}, of all", 0.5)
"""
    inner = suite(source, "--limit", "gap of the steam=100")
    assert inner.code == 2
    assert (
        "--limit gap of the steam: no check has a figure of this name; did you mean 'gap of the stream'"
        in inner.text
    )
    assert not inner.result
    assert suite(source, "--limit", "bytes on eth7, of all=1", "--limit", "gap of the stream=900").code == 0
    # a figure of a check that is not selected, and of the suite's helpers
    assert suite(source + TWO, "--limit", "gap, median=9", "--claim", "DIRECT-3").code == 0


SESSION = """
from mptcp_lab.plugin import explain_failures

events = []

def explain(item):
    events.append(f"explained {item.name}")
    return None if "shut" in events else Inconclusive("client", "it is down", "start it")

def pytest_configure(config):
    explain_failures(config, explain)

@pytest.fixture(scope="session")
def machines():
    events.append("open")
    yield events
    events.append("shut")
    ENDING

@pytest.fixture
def fault(machines):
    events.append("fault")
    yield
    events.append("lifted")

def pytest_unconfigure():
    print("events", *events)
"""


def test_the_last_check_is_explained_before_the_session_ends(suite: Suite) -> None:
    source = '@claim("DIRECT-7", timing=True)\ndef test_a(fault):\n    assert 0\n'
    inner = suite(source, "-s", conftest=SESSION.replace("ENDING", ""))
    assert inner.verdicts == {"DIRECT-7": "inconclusive"}
    assert inner.check("DIRECT-7")["reason"] == "it is down"
    assert "open fault lifted explained test_a shut" in inner.text


def test_a_session_that_cannot_be_ended_is_told(suite: Suite) -> None:
    source = '@claim("DIRECT-7")\ndef test_a(fault): pass\n'
    inner = suite(source, conftest=SESSION.replace("ENDING", "raise TimeoutError('no answer')"))
    assert inner.verdicts == {"DIRECT-7": "pass"}
    assert "lab broken: the session cannot be ended: no answer" in inner.lines
    assert inner.code == 4
