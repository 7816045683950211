"""Files whose checks `--claim` and `--family` leave out are not imported, nor is what no check uses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mptcp_lab.paths import ROOT
from tests.plugin.test_runs import IMPORTS, Suite, suite

pytest_plugins = ["pytester"]
__all__ = ["suite"]

WANTED = '@claim("DIRECT-1")\ndef test_a(): pass\n'
#: A file that cannot be imported.
OTHERS = 'raise RuntimeError("imported")\n@claim("PROXY-1")\ndef test_b(): pass\n'
#: The name of the claim is known at run time only.
COMPUTED = """
@claim("PROXY-1")
def test_c(): pass

@pytest.mark.parametrize("row", [pytest.param(1, marks=claim("".join(["DIRECT-", "1"])), id="computed")])
def test_d(row): pass
"""


@pytest.mark.parametrize(
    "arguments",
    [("--claim=DIRECT-1",), ("--claim=DIRECT-*",), ("--claim=DIRECT-1[]",), ("--family=direct",)],
)
def test_a_file_of_other_claims_is_not_imported(
    suite: Suite, pytester: pytest.Pytester, arguments: tuple[str, ...]
) -> None:
    pytester.makepyfile(test_others=OTHERS)
    assert suite(WANTED, *arguments).verdicts == {"DIRECT-1": "pass"}


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--fast",),
        ("--claim=PROXY-*",),
        ("--claim=PROXY-1[x]",),
        ("--claim=*-1",),
        ("--claim=PROXY-1*x*",),
        ("--claim=PROXY?1*",),
        ("--family=proxy",),
        ("--claim=DIRECT-1", "test_others.py"),
        ("--claim=DIRECT-1", "--limit=gap=1"),
    ],
)
def test_a_file_that_may_have_a_wanted_check_is_imported(
    suite: Suite, pytester: pytest.Pytester, arguments: tuple[str, ...]
) -> None:
    pytester.makepyfile(test_others=OTHERS)
    assert "RuntimeError: imported" in suite(WANTED, *arguments).text


def test_a_file_with_a_computed_name_is_imported(suite: Suite, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_others=IMPORTS + COMPUTED)
    verdicts = suite(WANTED, "--claim=DIRECT-1").verdicts
    assert verdicts == {"DIRECT-1": "pass", "DIRECT-1[computed]": "pass"}


def test_a_run_does_not_import_hypothesis() -> None:
    """Its pytest plugin imports all of it at the end of a session, which takes longer than a short check."""
    program = (
        "import pytest, sys; pytest.main(['conformance', '--list', '--claim=DIRECT-1', '-q',"
        " '-p', 'no:cacheprovider']); sys.exit('hypothesis' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "DIRECT-1[drop]" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0, "Hypothesis was imported"
