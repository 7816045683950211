"""Run conformance checks and report their verdicts: the pytest plugin of the suite.

A suite loads the plugin with ``pytest_plugins = ["mptcp_lab.plugin"]`` in its conftest. The plugin opens no
connection to hosts. The suite's fixtures do that; they raise `LabBroken` or `LabBusy` if the lab cannot be
used. The plugin provides:

- `claim`, the marker of a check; `mark_fast`, that of the case that ``--fast`` prefers
- `Unsupported` and `Inconclusive`, which a check may raise
- the fixture ``evidence`` (`EvidenceBox`) for figures and files that prove the verdict
- `lab_of`, which returns the inventory's lab; `describe` and `describe_run`, which keep facts about a host
  and about the run for the report
- `fixtures_require`, which declares the requirements of fixtures on the inventory
- `explain_failures`, which registers a function that finds out whether the lab caused a failure
- `diagnose_failures`, which registers a function that finds out what is wrong with the lab after a failure

PYTEST_DONT_REWRITE: the plugin has no assertions, and a conftest may import it before pytest does.
"""

from __future__ import annotations

import sys

import pytest

from mptcp_lab.errors import Inconclusive, LabBroken, LabBusy, LabError, Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.plugin.cases import case_of, claim, mark_fast
from mptcp_lab.plugin.collecting import (
    pytest_collection_modifyitems,
    pytest_generate_tests,
    pytest_ignore_collect,
    pytest_report_collectionfinish,
    pytest_report_header,
)
from mptcp_lab.plugin.ending import (
    pytest_report_teststatus,
    pytest_sessionfinish,
    pytest_terminal_summary,
)
from mptcp_lab.plugin.running import (
    evidence,
    pytest_fixture_setup,
    pytest_runtest_makereport,
    pytest_runtest_protocol,
    pytest_runtest_setup,
    pytest_runtestloop,
)
from mptcp_lab.plugin.starting import (
    pytest_addoption,
    pytest_cmdline_main,
    pytest_configure,
)
from mptcp_lab.plugin.state import (
    describe,
    describe_run,
    diagnose_failures,
    explain_failures,
    fixtures_require,
    lab_of,
)

__all__ = [
    "EvidenceBox",
    "Inconclusive",
    "LabBroken",
    "LabBusy",
    "LabError",
    "Unsupported",
    "case_of",
    "claim",
    "describe",
    "describe_run",
    "diagnose_failures",
    "evidence",
    "explain_failures",
    "fixtures_require",
    "lab_of",
    "mark_fast",
    "pytest_addoption",
    "pytest_cmdline_main",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_fixture_setup",
    "pytest_generate_tests",
    "pytest_ignore_collect",
    "pytest_report_collectionfinish",
    "pytest_report_header",
    "pytest_report_teststatus",
    "pytest_runtest_makereport",
    "pytest_runtest_protocol",
    "pytest_runtest_setup",
    "pytest_runtestloop",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
]

# An assertion that fails in mptcp_lab.suite then shows both of its sides, as one in a check does.
if "mptcp_lab.suite" not in sys.modules:  # else it is too late, as in the unit tests of the suite
    pytest.register_assert_rewrite("mptcp_lab.suite")
