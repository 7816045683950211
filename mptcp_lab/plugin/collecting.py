"""Collect checks: import files, assign and select cases, and list them for ``--list``."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcp_lab.plugin import cases, options
from mptcp_lab.plugin.cases import case_of
from mptcp_lab.plugin.state import RUN, lab_of
from mptcp_lab.results.verdict import ExitCode
from mptcp_lab.text import make_printable


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import files whose checks ``--claim`` and ``--family`` leave out."""
    return cases.is_left_out(collection_path, config) or None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Refuse checks of unknown claims, and checks that use testinfra's ``host``."""
    cases.refuse(metafunc)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Assign cases to checks, deselect those that were not requested, and sort them by family."""
    try:
        cases.assign(items)
    except ValueError as error:
        pytest.exit(str(error), returncode=ExitCode.NOTHING_RAN)
    if config.option.limit and (sentence := options.unknown_figure(config, items)):
        pytest.exit(sentence, returncode=ExitCode.NOTHING_RAN)
    run = config.stash.get(RUN, None)
    cases.select(config, items, run.lab if run else None)
    cases.order(items)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Return a line with the lab's name, its number of hosts and its source."""
    if (run := config.stash.get(RUN, None)) is None:
        return []
    lines = [f"lab: {run.lab.name} ({len(run.lab.hosts)} hosts) from {run.lab.source}"]
    return lines + [f"a share of the checks runs in {word}" for word in config.option.also_hosts]


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Return the list of checks for ``--list`` and ``--collect-only``."""
    if not (config.option.collectonly or config.option.list_claims):
        return []
    checks = [(case, item) for item in items if (case := case_of(item))]
    if config.option.collectonly:
        return [
            f"{case.name}: {case.claim.text}" + (f" ({reason})" if (reason := _why_not(item)) else "")
            for case, item in checks
        ]
    lines = []
    for case, item in checks:
        lines += [
            f"{case.name}  ({case.claim.level.value}; {case.claim.source})",
            f"    claim    {case.claim.text}",
            f"    purpose  {cases.purpose(item)}",
        ]
        given = cases.parameters(item)
        if needed := [requirement.describe(given) for requirement in cases.requirements(item)]:
            lines.append(f"    needs    {'; '.join(needed)}")
        if reason := _why_not(item):
            lines.append(f"    {reason}")
    checked = {case.claim.id for case, _ in checks}
    missing = [claim.id for claim in cases.asked_for(config) if claim.id not in checked]
    return [*lines, "", f"in the catalogue without a check here: {', '.join(missing) or 'none'}"]


def _why_not(item: pytest.Item) -> str:
    """Return the reason why a check cannot run on this inventory; empty if it can."""
    reason = cases.unmet_requirement(item, lab_of(item.config))
    return f"unsupported here: {make_printable(reason.what)}" if reason else ""
