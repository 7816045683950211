"""Start a session: read the options and the inventory, or refuse them in one sentence."""

from __future__ import annotations

import signal
import sys

import pytest

from mptcp_lab.inventory import InventoryError
from mptcp_lab.plugin import cases, options
from mptcp_lab.plugin.ending import suite_status
from mptcp_lab.plugin.origin import describe_origin
from mptcp_lab.plugin.run import Run
from mptcp_lab.plugin.state import BASELINE, RUN
from mptcp_lab.plugin.together import is_part
from mptcp_lab.results.result import ResultError
from mptcp_lab.results.verdict import ExitCode
from mptcp_lab.text import make_printable

ASKS_PYTEST = ("help", "version", "markers", "showfixtures", "show_fixtures_per_test")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's command-line options."""
    options.add(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Read the inventory and the options first; print one sentence and end if they cannot be used."""
    if any(getattr(config.option, name, None) for name in ASKS_PYTEST):
        return None
    if getattr(config.option, "numprocesses", None):  # the option exists if pytest-xdist is installed
        sentence = "one lab carries one check at a time; a second lab (--also-hosts) takes a share of them"
        return _refuse(config, sentence, ExitCode.NOTHING_RAN)
    try:
        lab = options.hosts(config)
    except InventoryError as error:
        sentence = f"{error}; then type: pytest conformance/ --hosts=inventory"
        return _refuse(config, sentence, ExitCode.LAB_BROKEN)
    if sentence := options.find_testinfra_option(config) or options.unknown_claim(config):
        return _refuse(config, sentence, ExitCode.NOTHING_RAN)
    if is_part(config):
        _leave_to_the_whole(config)
    elif sentence := options.unequal_lab(config, lab):
        return _refuse(config, sentence, ExitCode.NOTHING_RAN)
    try:
        config.stash[BASELINE] = options.baseline(config)
    except ResultError as error:
        return _refuse(config, f"--baseline: {error}", ExitCode.NOTHING_RAN)
    for view in filter(None, (config.option.ktap, config.option.kcidb)):
        view.unlink(missing_ok=True)  # a run that ends early must not leave an old one
    config.stash[RUN] = Run(
        lab=lab,
        rules=options.rules(config),
        folder=options.results_folder(config, lab),
        deadline=config.option.deadline,
        options=options.recorded_options(config),
        limits=dict(config.option.limit),
        made_by=describe_origin(lab, config.option.column),
    )
    return None


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and disable pytest's short summary, which the suite's summary replaces."""
    config.addinivalue_line(
        "markers", "claim(name, case, timing, requires): the claim of the catalogue that this checks"
    )
    config.addinivalue_line("markers", f"{cases.FAST}: of the cases of a claim, the one that --fast prefers")
    if RUN in config.stash:
        _end_as_on_ctrl_c(config)
        config.option.reportchars = ""
        # At the end of a session, Hypothesis's plugin imports all of Hypothesis, which no check uses.
        if "hypothesis" not in sys.modules and (
            unused := config.pluginmanager.get_plugin("hypothesispytest")
        ):
            config.pluginmanager.unregister(unused)


def _leave_to_the_whole(config: pytest.Config) -> None:
    """Clear the options of a part that are for the run that it belongs to."""
    option = config.option
    option.ktap = option.kcidb = option.baseline = None
    option.also_hosts = []


def _end_as_on_ctrl_c(config: pytest.Config) -> None:
    """Let the signals that end jobs and terminals end a run as Ctrl-C does.

    Faults are lifted then, the lease is returned, and what has run is written. A signal that the caller of
    pytest ignores, as ``nohup`` does, stays ignored.
    """
    numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]

    def restore() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)

    config.add_cleanup(restore)
    for number in numbers:
        signal.signal(number, signal.default_int_handler)


def _refuse(config: pytest.Config, sentence: str, code: ExitCode) -> int:
    print(f"ERROR: {make_printable(sentence)}", file=sys.stderr)
    return suite_status(config, code)
