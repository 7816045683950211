"""The CI files in examples/ci: their commands exist, and each makes a page of the columns that it runs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from mptcp_lab.paths import ROOT
from tests.test_docs import commands, wrong_commands

FOLDER = ROOT / "examples" / "ci"
FILES = sorted(FOLDER.glob("*.yml"))
KERNELS = ["host", "debian-12", "debian-13", "backports", "sid"]


def jobs(path: Path) -> dict[str, list[str]]:
    """Return the shell commands of each job."""
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    if "jobs" in document:
        return {
            name: [step["run"] for step in job["steps"] if "run" in step]
            for name, job in document["jobs"].items()
        }
    return {name: job["script"] for name, job in document.items() if isinstance(job, dict)}


def kernels(path: Path) -> list[str]:
    """Return the kernels of the jobs of a file, a column each."""
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    column = document.get("jobs", document)["column"]
    if "strategy" in column:
        return list(column["strategy"]["matrix"]["kernel"])
    return list(column["parallel"]["matrix"][0]["KERNEL"])


def page_of(lines: list[str]) -> str:
    """Return command lines as a page of documentation shows them."""
    return "\n```\n" + "\n".join(lines) + "\n```\n"


def test_two_services_have_a_file() -> None:
    assert [path.name for path in FILES] == ["github-actions.yml", "gitlab-ci.yml"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_commands_and_options_exist(path: Path) -> None:
    lines = [line for found in jobs(path).values() for line in found]
    assert [words[1] for words in commands(page_of(lines)) if words[0] == "./lab"] == ["run", "matrix"]
    assert not wrong_commands(page_of(lines))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_job_per_kernel_writes_where_the_last_job_reads(path: Path) -> None:
    assert kernels(path) == KERNELS
    found = jobs(path)
    assert list(found) == ["column", "page"]
    (run,), (matrix,) = ([shlex.split(line) for line in found[name]] for name in ("column", "page"))
    folder, _, name = run[run.index("--results") + 1].partition("/")
    assert (folder, name) == (matrix[-1], "$KERNEL")
    assert run[run.index("--kernel") + 1] == run[run.index("--column") + 1] == "$KERNEL"


def test_a_command_that_does_not_exist_is_found() -> None:
    assert wrong_commands(page_of(["./lab matrices results"]))
    assert wrong_commands(page_of(["./lab run --colunm x || test $? -eq 3"]))
