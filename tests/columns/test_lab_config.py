"""Test that the configuration for kernel developers has every option that a column names as missing."""

from __future__ import annotations

import re

from mptcp_lab.agent.lab_agent.kernel.capabilities import SCRATCH_TRIALS
from mptcp_lab.labs.machine_check import FOR_HOSTS, OTHERS, TBF
from mptcp_lab.paths import ROOT

FRAGMENT = ROOT / "examples/kernel/lab.config"
OPTION = re.compile(r"\bCONFIG_[A-Z0-9_]+\b")


def named_options(folder: str) -> set[str]:
    """Return the options of the kernel that the programs below a folder name."""
    paths = (ROOT / folder).rglob("*.py")
    return {option for path in paths for option in OPTION.findall(path.read_text())}


def built_in(text: str) -> list[str]:
    """Return the options that a configuration has built in; fail for any other line but comments."""
    lines = [line for line in text.splitlines() if line and not line.startswith("# ")]
    assert all(re.fullmatch(r"CONFIG_[A-Z0-9_]+=y", line) for line in lines)
    return [line.removesuffix("=y") for line in lines]


def test_every_option_that_the_lab_names_is_built_in() -> None:
    named = named_options("mptcp_lab/labs")
    assert len(named) > 20
    assert named - set(built_in(FRAGMENT.read_text())) == set()


def test_no_option_is_there_twice() -> None:
    found = built_in(FRAGMENT.read_text())
    assert len(found) == len(set(found))


def test_every_trial_of_a_host_is_made_before_the_hosts_start() -> None:
    """Otherwise `up` reports that nothing lacks, and checks are unsupported all the same."""
    tried = " ".join(module.command for module in (TBF, *OTHERS, *FOR_HOSTS))
    for name, argv in SCRATCH_TRIALS.items():
        if name not in ("nft", "nft_tcp_option"):  # parts of nft_tcp_option_reset
            essence = argv[-1].partition("add rule inet t c ")[2] or name
            assert essence in tried, name
