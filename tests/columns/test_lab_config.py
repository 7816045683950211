"""Test that the configuration for kernel developers has every option that a column names as missing."""

from __future__ import annotations

import re

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
