"""The option ``--hosts`` and the command as it is typed, with the real inventory reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import testinfra.plugin

from mptcp_lab.plugin import options
from tests.plugin.projects import write_project

SUITE = """
import os, signal
from mptcp_lab.plugin import claim, lab_of

@claim("DIRECT-3")
def test_reads_no_host_name(request):
    assert request.config.option.hosts is None
    assert "client" in lab_of(request.config).hosts

@claim("DIRECT-4")
def test_interrupted():
    os.kill(os.getpid(), signal.SIGINT)

@claim("DIRECT-7")
def test_left_out(): pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path, SUITE)


def typed(project: Path, *arguments: str, signals: str = "default") -> subprocess.CompletedProcess[str]:
    """Run the suite; `signals` are "default", whatever the tests themselves run under, or "ignore"."""
    command = ["env", f"--{signals}-signal=HUP,INT,TERM", str(Path(sys.executable).with_name("pytest"))]
    command += ["conformance/", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("arguments", [["--hosts=inventory"], [], ["--hosts", "embedded"]])
def test_the_word_is_an_inventory_and_no_host_name(project: Path, arguments: list[str]) -> None:
    done = typed(project, *arguments, "--claim", "DIRECT-3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lab: embedded" in done.stdout


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("all: {}\n", "no host is listed"), ("all: {\n", "hosts.yml:2: not YAML"), (None, "no such inventory")],
)
def test_an_inventory_of_no_use_is_one_sentence(project: Path, content: str | None, sentence: str) -> None:
    if content is not None:
        (project / "rack").mkdir()
        (project / "rack" / "hosts.yml").write_text(content)
    done = typed(project, "--hosts=rack")
    assert done.returncode == 4
    assert sentence in done.stderr
    assert done.stderr.startswith("ERROR: ")
    assert "pytest conformance/ --hosts=inventory" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_run_writes_what_has_run(project: Path, number: str) -> None:
    suite = project / "conformance" / "test_suite.py"
    suite.write_text(SUITE.replace("SIGINT", number))
    done = typed(project)
    assert done.returncode == 2
    folder = project / ".lab" / "results" / "latest"
    document = json.loads((folder / "result.json").read_text())
    assert {check["case"]: check["verdict"] for check in document["checks"]} == {"DIRECT-3": "pass"}
    assert [entry["case"] for entry in document["not_run"]] == ["DIRECT-4", "DIRECT-7"]
    assert document["run"]["ending"] == "interrupted"
    assert (folder / "report.html").exists()


@pytest.mark.parametrize("number", ["SIGHUP", "SIGTERM"])
def test_a_signal_that_the_caller_ignores_ends_no_run(project: Path, number: str) -> None:
    """As under nohup."""
    (project / "conformance" / "test_suite.py").write_text(SUITE.replace("SIGINT", number))
    assert typed(project, signals="ignore").returncode == 0


KILLED = """
import os, signal
from mptcp_lab.plugin import claim

@claim("DIRECT-3")
def test_first_family(): pass

@claim("SPLIT-1")
def test_second_family():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_was_killed_has_left_what_it_had_found(project: Path) -> None:
    (project / "conformance" / "test_suite.py").write_text(KILLED)
    done = typed(project)
    assert done.returncode == -9
    folder = project / ".lab" / "results" / "latest"
    document = json.loads((folder / "result.json").read_text())
    assert document["run"]["ending"] == "unfinished"
    assert {check["case"]: check["verdict"] for check in document["checks"]} == {"DIRECT-3": "pass"}
    assert [entry["case"] for entry in document["not_run"]] == ["SPLIT-1"]
    page = (folder / "report.html").read_text()
    assert "Unfinished: the run was still going on when this was written." in page
    assert "Exit code" not in page
    assert f"report so far .lab/results/{folder.resolve().name}/report.html" in done.stdout


def test_a_claim_that_nobody_made_is_refused(project: Path) -> None:
    done = typed(project, "--claim", "DIRECT-77")
    assert done.returncode == 2
    assert done.stderr.startswith("ERROR: --claim DIRECT-77: no such claim")


def test_a_baseline_that_cannot_be_used_is_refused_before_anything_runs(project: Path) -> None:
    (project / "cut.json").write_text('{"schema": 2,')
    for name, why in (("cut.json", "cut short or not JSON"), ("missing", "No such file or directory")):
        done = typed(project, "--baseline", name)
        assert done.returncode == 2
        assert done.stderr.startswith(f"ERROR: --baseline: {project / name}: {why}")
        assert done.stderr.count("\n") == 1
    assert not (project / ".lab").exists()


def test_checks_side_by_side_in_one_lab_are_refused(project: Path) -> None:
    done = typed(project, "--hosts=inventory", "-n2")
    assert done.returncode == 2
    sentence = "one lab carries one check at a time; a second lab (--also-hosts) takes a share of them"
    assert done.stderr == f"ERROR: {sentence}\n"


@pytest.mark.parametrize("option", ["--sudo", "--ssh-config=x"])
def test_testinfras_own_options_are_refused(project: Path, option: str) -> None:
    done = typed(project, option)
    assert done.returncode == 2
    name = option.partition("=")[0]
    assert done.stderr.startswith(f"ERROR: {name}: the suite does not use it; set Ansible's variables")
    assert len(done.stderr.splitlines()) == 1


def test_every_option_of_testinfra_is_known() -> None:
    given: set[str] = set()
    group = SimpleNamespace(addoption=lambda name, dest, **_: given.add(dest))
    testinfra.plugin.pytest_addoption(SimpleNamespace(getgroup=lambda _: group))
    assert given == {*options.OF_TESTINFRA, "hosts"}
    for name in options.OF_TESTINFRA:
        config = SimpleNamespace(option=SimpleNamespace(**{name: "x"}))
        assert f"--{name.replace('_', '-')}: " in options.find_testinfra_option(config)


def test_help_needs_no_inventory_and_documents_the_options(project: Path) -> None:
    environment = {**os.environ, "ANSIBLE_INVENTORY": "/nowhere", "COLUMNS": "200"}
    command = [str(Path(sys.executable).with_name("pytest")), "conformance/", "--help"]
    done = subprocess.run(
        command, cwd=project, capture_output=True, text=True, env=environment, timeout=60, check=True
    )
    for option in ("--claim=ID", "--family=", "--expect-all", "--deadline=", "--list ", "--results="):
        assert option in done.stdout
