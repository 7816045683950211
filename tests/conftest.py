"""Select and order the tests of the project itself."""

import os
import signal
from typing import Any

import pytest

from mptcp_lab.folders import private_folder
from mptcp_lab.paths import ROOT

#: The column, whose machine is emulated without KVM, and the whole suite take longest. The embedded tests,
#: which remove their labs, run before the other end-to-end tests, whose labs stay up.
LONGEST_FIRST = (
    "tests/columns/test_column.py",
    "tests/e2e/test_whole_suite.py",
    "tests/embedded/",
    "tests/e2e/",
    "tests/probe/",
)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker `long`, and make SIGINT interrupt the tests and their child processes."""
    # Shells make background processes ignore SIGINT.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # The tests run the suite and Ansible hundreds of times; with bytecode, each takes seconds less. Where the
    # environment forbids bytecode beside the sources, it goes to a folder of its own.
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        os.environ["PYTHONPYCACHEPREFIX"] = str(private_folder(ROOT / ".lab/cache/bytecode"))
    config.addinivalue_line("markers", "long: takes minutes; `./lab test -m long` runs these")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return the scheduler of `./lab test`, which lets only some of the workers have labs."""
    if config.option.dist != "loadfile":
        return None
    from tests.scheduling import LabsOnFewWorkers  # pytest-xdist may not be there

    return LabsOnFewWorkers(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort slow files first, so that the workers end together; skip `long` tests unless requested."""
    items.sort(key=lambda item: _rank(item.nodeid))
    asked = config.option.markexpr or config.option.keyword or any(".py" in each for each in config.args)
    for item in () if asked else items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: ./lab test -m long"))


def _rank(nodeid: str) -> int:
    return next((n for n, start in enumerate(LONGEST_FIRST) if nodeid.startswith(start)), len(LONGEST_FIRST))
