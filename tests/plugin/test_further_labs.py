"""The option ``--also-hosts``: two runs share the checks, and one result has them all."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import pytest

from mptcp_lab.inventory import load, resolve
from mptcp_lab.paths import ROOT
from mptcp_lab.plugin.further_labs import find_difference, find_other_fact
from mptcp_lab.probe import eventually
from mptcp_lab.results import result as results
from mptcp_lab.results.causes import Cause
from mptcp_lab.results.part import PartEnd, PartReader, append
from mptcp_lab.results.verdict import Ending
from tests.plugin.projects import write_project

#: The first check of a run waits until each lab's run has one, so that both take part however slow one is.
SUITE = """
import os, pathlib, signal, time, pytest
from mptcp_lab.plugin import claim, describe, lab_of

HERE = pathlib.Path(__file__).parent

@pytest.fixture(scope="session")
def name(request):
    return lab_of(request.config).name

@pytest.fixture(scope="session", autouse=True)
def meet(name):
    (HERE / name).touch()
    until = time.monotonic() + 20
    while not ((HERE / "embedded").exists() and (HERE / "second").exists()):
        assert time.monotonic() < until, "the other run did not come"
        time.sleep(0.01)

@pytest.fixture(params=[1, 2])
def number(request, name, evidence):
    evidence.text("where", name)
    describe(request.config, "client", kernel="6.18")
    return request.param

def act(name): pass

@claim("DIRECT-3")
def test_first(number, name):
    act(name)

@claim("DIRECT-4")
def test_second(number, name):
    act(name)

@claim("SPLIT-1")
def test_third(number, name):
    act(name)
"""
CASES = [f"{claim}[{number}]" for claim in ("DIRECT-3", "DIRECT-4", "SPLIT-1") for number in (1, 2)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_project(tmp_path, SUITE)
    second = tmp_path / "second lab"
    shutil.copytree(ROOT / "inventories/embedded", second)
    variables = second / "group_vars/all.yml"
    variables.write_text(variables.read_text().replace("lab_name: embedded", "lab_name: second"))
    return tmp_path


def edit(project: Path, old: str, new: str) -> None:
    suite = project / "conformance/test_suite.py"
    assert old in suite.read_text()
    suite.write_text(suite.read_text().replace(old, new))


def act(project: Path, *lines: str) -> None:
    """Let each check do something."""
    edit(project, "def act(name): pass", "\n    ".join(("def act(name):", *lines)))


def command(*arguments: str) -> list[str]:
    both = ["--hosts", "embedded", "--also-hosts=second lab"]
    signals = "--default-signal=HUP,INT,TERM"
    return ["env", signals, str(Path(sys.executable).with_name("pytest")), "conformance/", *both, *arguments]


def typed(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=project, capture_output=True, text=True, timeout=120, check=False
    )


def outcome(project: Path) -> dict[str, Any]:
    results.load(project / ".lab/results/latest")
    document: dict[str, Any] = json.loads((project / ".lab/results/latest/result.json").read_text())
    return document


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {check["case"]: check["verdict"] for check in document["checks"]}


def test_each_check_runs_in_one_lab_and_the_result_has_all(project: Path) -> None:
    done = typed(project, "--ktap=all.ktap")
    assert done.returncode == 0, done.stdout + done.stderr
    document = outcome(project)
    assert [check["case"] for check in document["checks"]] == CASES
    assert set(verdicts(document).values()) == {"pass"}
    assert "6 passed" in done.stdout.splitlines()[-1]
    assert all(done.stdout.count(case) == 1 for case in CASES), done.stdout
    folder = project / ".lab/results/latest"
    assert sorted(path.name for path in folder.iterdir()) == [
        "evidence",
        "junit.xml",
        "report.html",
        "result.json",
    ]
    files = [folder / check["evidence"][0]["file"] for check in document["checks"]]
    assert {path.read_text() for path in files} == {"embedded", "second"}
    assert (project / "all.ktap").read_text().count("\n  ok ") == 6
    assert document["options"]["also_hosts"] == ["second lab"]


def test_what_fails_in_the_further_lab_fails_the_run(project: Path) -> None:
    act(project, "assert name != 'second'")
    done = typed(project)
    assert done.returncode == 1
    document = outcome(project)
    failed = [check for check in document["checks"] if check["verdict"] == "fail"]
    assert failed
    folder = project / ".lab/results/latest"
    assert {(folder / check["evidence"][0]["file"]).read_text() for check in failed} == {"second"}
    assert "assert 'second' != 'second'" in done.stdout
    assert f"{len(failed)} failed, {len(CASES) - len(failed)} passed" in done.stdout.splitlines()[-1]


def test_checks_that_share_a_fixture_stay_together(project: Path) -> None:
    edit(project, "@pytest.fixture(params=[1, 2])", '@pytest.fixture(scope="module", params=[1, 2])')
    edit(project, 'name, evidence):\n    evidence.text("where", name)', "name):")
    edit(
        project,
        "(number, name):\n    act(name)",
        "(number, name, evidence):\n    evidence.text('where', name)",
    )
    done = typed(project, "--family=direct")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = project / ".lab/results/latest"
    where = {c["case"]: (folder / c["evidence"][0]["file"]).read_text() for c in outcome(project)["checks"]}
    assert len(where) == 4
    for number in (1, 2):
        assert where[f"DIRECT-3[{number}]"] == where[f"DIRECT-4[{number}]"]


def test_a_part_that_dies_leaves_its_checks_undecided(project: Path) -> None:
    act(project, "if name == 'second': os.kill(os.getpid(), signal.SIGKILL)")
    done = typed(project)
    assert done.returncode == 4
    document = outcome(project)
    assert document["run"]["ending"] == "lab broken"
    assert "the run of second lab ended without a result (exit status -9)" in document["run"]["sentence"]
    found = verdicts(document)
    assert list(found) == CASES
    assert set(found.values()) == {"pass", "inconclusive"}
    assert (project / ".lab/results/latest/part-2/output.txt").exists()


def test_a_broken_further_lab_ends_the_run_with_its_reason(project: Path) -> None:
    edit(project, "import os", "from mptcp_lab.plugin import LabBroken\nimport os")
    act(project, "if name == 'second': raise LabBroken('no answer', 'server1', 'power it on')")
    done = typed(project)
    assert done.returncode == 4
    document = outcome(project)
    assert document["run"]["sentence"] == "second lab: server1: no answer; next: power it on"
    assert list(verdicts(document)) == CASES
    assert set(verdicts(document).values()) == {"pass", "inconclusive"}


def test_other_kernels_in_the_further_lab_are_refused(project: Path) -> None:
    edit(project, 'kernel="6.18"', 'kernel="6.18" if name == "embedded" else "6.12"')
    done = typed(project)
    assert done.returncode == 4
    assert "second lab: client has kernel 6.12, but 6.18 in the first lab" in done.stdout


#: What a check does in the tests that end the run: it leaves its process id and waits for the end.
WAIT = ("(HERE / f'pid-{name}').write_text(str(os.getpid()))", "time.sleep(60)")


def processes(project: Path) -> list[int]:
    """Return the process ids of both runs, once each runs a check."""
    files = [project / "conformance" / f"pid-{name}" for name in ("embedded", "second")]
    texts = eventually(lambda: [path.read_text() for path in files if path.exists()], has_both, within=60)
    return [int(text) for text in texts]


def has_both(texts: list[str]) -> bool:
    return len(texts) == 2 and all(texts)


def test_an_interrupted_run_ends_its_part(project: Path) -> None:
    act(project, *WAIT)
    with subprocess.Popen(
        command(), cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        part = processes(project)[1]
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    document = outcome(project)
    assert document["run"]["ending"] == "interrupted"
    assert document["run"]["sentence"] == "the run was interrupted"
    assert not document["checks"]
    assert [entry["case"] for entry in document["not_run"]] == CASES
    assert not Path(f"/proc/{part}").exists()
    assert "Traceback" not in output


def test_a_part_ends_when_its_run_was_killed(project: Path) -> None:
    first, second = WAIT
    until = "while name == 'second' and os.getppid() == parent: time.sleep(0.01)"
    act(project, "parent = os.getppid()", first, until, f"if name != 'second': {second}")
    with subprocess.Popen(
        command(), cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        part = processes(project)[1]
        process.kill()
    lines = project / ".lab/results/latest/part-2/part.jsonl"
    end = '"sentence": "the run that this one is a part of has gone"'
    eventually(lambda: lines.exists() and end in lines.read_text(), bool, within=30)
    eventually(lambda: Path(f"/proc/{part}").exists(), lambda exists: not exists, within=30)


def test_a_lab_that_is_not_equal_is_refused(project: Path) -> None:
    hosts = project / "second lab/hosts.yml"
    assert "198.18.1.10" in hosts.read_text()
    hosts.write_text(hosts.read_text().replace("198.18.1.10", "198.18.1.77"))
    done = typed(project)
    assert done.returncode == 2
    assert done.stderr == "ERROR: --also-hosts second lab: its host client differs from that of --hosts\n"
    hosts.write_text(hosts.read_text().replace("198.18.1.77", "198.18.1.10"))
    for word, why in (
        ("embedded", "its lab has the name embedded too; give its inventory another lab_name"),
        ("nowhere", "inventory: nowhere: no such inventory"),
    ):
        done = typed(project, f"--also-hosts={word}")
        assert done.returncode == 2
        assert done.stderr.startswith(f"ERROR: --also-hosts {word}: {why}")
        assert len(done.stderr.splitlines()) == 1


def test_labs_differ_by_more_than_their_names() -> None:
    lab = load(resolve("embedded"))
    other = replace(lab, name="second", source="elsewhere")
    assert not find_difference(lab, other)
    nics = lab.hosts["client"].nics
    moved = replace(nics[0], ipv4=IPv4Interface("198.18.1.77/24"))
    client = replace(lab.hosts["client"], nics=(moved, *nics[1:]))
    assert "client" in find_difference(lab, replace(other, hosts={**lab.hosts, "client": client}))
    assert "gateway" in find_difference(
        lab, replace(other, hosts={k: v for k, v in lab.hosts.items() if k != "gateway"})
    )
    assert "segments" in find_difference(lab, replace(other, segments={}))


def test_facts_that_decide_verdicts_have_to_be_equal() -> None:
    facts = {"client": {"kernel": "6.18", "versions": {"haproxy": "3.0"}, "python": "3.13"}}
    assert not find_other_fact(facts, {"client": {**facts["client"], "python": "3.12"}})
    assert not find_other_fact(facts, {})
    assert "versions" in find_other_fact(facts, {"client": {**facts["client"], "versions": {}}})


def test_a_line_is_read_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    reader = PartReader(path)
    assert not list(reader.read())
    end = PartEnd(Ending.LAB_BROKEN, "gone \u2028\udcff", "look", {"a": {"kernel": "6"}})
    append(path, end)
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    assert not list(reader.read())
    path.write_bytes(whole + whole[:9])
    found = list(reader.read())
    assert [(each.ending, each.facts) for each in found if isinstance(each, PartEnd)] == [
        (Ending.LAB_BROKEN, {"a": {"kernel": "6"}})
    ]
    assert not list(reader.read())


def test_a_check_keeps_its_cause(tmp_path: Path) -> None:
    kept = results.load(next((ROOT / "docs/matrix/results").glob("*-embedded")))
    path = tmp_path / "part.jsonl"
    for check in kept.checks:
        append(path, replace(check, diagnosis=Cause("off", "a", "on")) if check.verdict == "pass" else check)
    read = list(PartReader(path).read())
    assert read == [
        replace(check, diagnosis=Cause("off", "a", "on")) if check.verdict == "pass" else check
        for check in kept.checks
    ]
