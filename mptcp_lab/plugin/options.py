"""Define the suite's command-line options, and evaluate them before tests are collected."""

from __future__ import annotations

import argparse
import ast
import difflib
import math
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mptcp_lab import catalogue
from mptcp_lab.folders import STATE_FOLDER as LAB_FOLDER
from mptcp_lab.folders import private_folder
from mptcp_lab.inventory import InventoryError, Lab, load, resolve
from mptcp_lab.plugin.further_labs import find_difference
from mptcp_lab.results import result as results
from mptcp_lab.results.result import Result
from mptcp_lab.results.verdict import Rules

#: Helpers that name figures too. They are read as text, because an import would precede pytest's rewriting of
#: their assertions.
SUITE = Path(__file__).parents[1] / "suite"
#: Default number of measurements of each gap; a distribution needs more.
REPETITIONS = 1
#: testinfra's options except --hosts, and the alternative to each.
_VARIABLES = "set Ansible's variables in the inventory (docs/hardware.md)"
OF_TESTINFRA = {
    "connection": _VARIABLES,
    "sudo": _VARIABLES,
    "sudo_user": _VARIABLES,
    "ssh_config": _VARIABLES,
    "ssh_extra_args": _VARIABLES,
    "ssh_identity_file": _VARIABLES,
    "ansible_inventory": "name the inventory by --hosts",
    "force_ansible": "leave it out",
    "nagios": "read result.json or junit.xml instead",
}


def add(parser: pytest.Parser) -> None:
    """Add the suite's options; testinfra's ``--hosts`` and pytest's ``--strict`` exist already."""
    group = parser.getgroup(
        "mptcp-lab",
        "MPTCP conformance (two more options: --hosts takes the word 'inventory' for the default of "
        "ansible.cfg, a path, or a name under inventories/; --strict also makes a SHOULD that does not hold "
        "a failure)",
    )
    group.addoption(
        "--claim",
        action="append",
        default=[],
        metavar="ID",
        help="run this claim: an id, an alias such as R01, a case ('SPLIT-6[]' is the one without a name), "
        "or a glob such as 'PROXY-*'; repeatable",
    )
    group.addoption(
        "--family",
        action="append",
        default=[],
        choices=catalogue.FAMILIES,
        help="run the claims of this family; repeatable",
    )
    group.addoption(
        "--fast",
        action="store_true",
        help="run one cheap case of each claim whose requirements this inventory meets",
    )
    group.addoption(
        "--expect-all",
        action="store_true",
        help="count a missing capability, or a check that the deadline left out, as a failure",
    )
    group.addoption(
        "--deadline", type=_seconds, metavar="SECONDS", help="start no new check after this many seconds"
    )
    group.addoption(
        "--repetitions",
        type=_positive,
        default=REPETITIONS,
        metavar="N",
        help="how often DIRECT-12 repeats every fault (default %(default)s; its claim requires 20)",
    )
    group.addoption(
        "--limit",
        action="append",
        type=_limit,
        default=[],
        metavar="FIGURE=MOST",
        help="do not pass a check whose figure of this name is greater, as in 'gap=500'; repeatable",
    )
    group.addoption(
        "--baseline",
        metavar="RESULT",
        help="compare with an earlier run (its folder or result.json): exit status 1 only for what broke",
    )
    group.addoption(
        "--column",
        default="",
        metavar="NAME",
        help="name this run's column of a matrix; results with different names are never merged",
    )
    group.addoption(
        "--also-hosts",
        action="append",
        default=[],
        metavar="INVENTORY",
        help="share the checks with another lab, equal to that of --hosts: each runs in one lab; repeatable",
    )
    group.addoption("--part-of", metavar="DIR", help=argparse.SUPPRESS)  # what --also-hosts starts
    group.addoption(
        "--list",
        action="store_true",
        dest="list_claims",
        help="list the checks with their purpose and source, without a lab",
    )
    group.addoption(
        "--ktap",
        type=Path,
        metavar="FILE",
        help="write KTAP version 1 to this file too, and exit as a kselftest does: 0 pass, 1 fail, 4 skip",
    )
    group.addoption(
        "--kcidb",
        type=Path,
        metavar="FILE",
        help="write a KCIDB report (schema 5.0) to this file too",
    )
    group.addoption(
        "--results",
        metavar="DIR",
        help="write the results here (default: .lab/results/<utc time>-<lab name>, linked as latest)",
    )


def hosts(config: pytest.Config) -> Lab:
    """Read the inventory that ``--hosts`` names, and clear the option, which testinfra reads as host names.

    Raises:
        InventoryError: the inventory is missing, malformed or without hosts.
    """
    word = getattr(config.option, "hosts", None) or "inventory"
    config.option.hosts = None
    return load(resolve(word))


def unequal_lab(config: pytest.Config, lab: Lab) -> str:
    """Return an error sentence for the first ``--also-hosts`` that names no lab like that of ``--hosts``."""
    for word in config.option.also_hosts:
        try:
            other = load(resolve(word))
        except InventoryError as error:
            return f"--also-hosts {word}: {error}"
        if difference := find_difference(lab, other):
            return f"--also-hosts {word}: {difference}"
    return ""


def unknown_claim(config: pytest.Config) -> str:
    """Return an error sentence for the first ``--claim`` that is not in the catalogue; empty if all are."""
    for pattern in config.option.claim:
        name = pattern.partition("[")[0] or pattern
        start = re.split(r"[*?\[]", pattern)[0]  # a glob may match cases, which are not collected yet
        known = catalogue.claims().values()
        if not any(
            claim.answers_to(name) or (start != pattern and claim.id.startswith(start)) for claim in known
        ):
            return f"--claim {pattern}: no such claim; list them with: pytest conformance/ --list"
    return ""


def rules(config: pytest.Config) -> Rules:
    """Return the options that make verdicts stricter."""
    return Rules(strict=bool(config.option.strict), expect_all=config.option.expect_all)


def recorded_options(config: pytest.Config) -> Mapping[str, Any]:
    """Return the options that a result records beside the rules."""
    option = config.option
    return {
        "claim": option.claim,
        "family": option.family,
        "fast": option.fast,
        "deadline": option.deadline,
        "repetitions": option.repetitions,
        "limit": [f"{name}={most:g}" for name, most in option.limit],
        "baseline": option.baseline or "",
        "also_hosts": option.also_hosts,
    }


def baseline(config: pytest.Config) -> Result | None:
    """Return the earlier run that ``--baseline`` names, by a path relative to the user's folder, or None.

    Raises:
        ResultError: the result cannot be used.
    """
    given = config.option.baseline
    return results.load(config.invocation_params.dir / Path(given)) if given else None


def find_testinfra_option(config: pytest.Config) -> str:
    """Return an error sentence for the first option of testinfra that was given; empty if none was.

    The suite connects to hosts as the inventory describes and ignores these options.
    """
    for name, instead in OF_TESTINFRA.items():
        if getattr(config.option, name, None):
            option = f"--{name.replace('_', '-')}"
            return f"{option}: the suite does not use it; {instead}"
    return ""


def unknown_figure(config: pytest.Config, items: Iterable[pytest.Item]) -> str:
    """Return an error sentence for the first ``--limit`` whose figure no check has, else nothing."""
    known = find_figures({*(item.path for item in items), *SUITE.rglob("*.py")})
    for name, _ in config.option.limit:
        if not any(pattern.fullmatch(name) for pattern in known.values()):
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            return f"--limit {name}: no check has a figure of this name{hint}"
    return ""


def find_figures(sources: Iterable[Path]) -> dict[str, re.Pattern[str]]:
    """Return a pattern for each figure's name in the sources, by the name as the source has it.

    "..." in a name stands for a value that is known at run time only.
    """
    found: dict[str, re.Pattern[str]] = {}
    for source in sources:
        for node in ast.walk(ast.parse(source.read_bytes())):
            match node:
                case ast.Call(func=ast.Attribute(attr="figure"), args=[ast.Constant(value=str(name)), *_]):
                    found[name] = re.compile(re.escape(name))
                case ast.Call(func=ast.Attribute(attr="figure"), args=[ast.JoinedStr(values=parts), *_]):
                    fixed = [part.value if isinstance(part, ast.Constant) else None for part in parts]
                    shown = "".join("..." if part is None else str(part) for part in fixed)
                    found[shown] = re.compile(
                        "".join(".*" if part is None else re.escape(str(part)) for part in fixed)
                    )
                case ast.Call(func=ast.Attribute(attr="figure"), args=[_, *_]):
                    found["any"] = re.compile(".*")  # the whole name is known at run time only
    return found


def _seconds(text: str) -> float:
    """Parse a number of seconds, 0 or more."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return seconds


def _positive(text: str) -> int:
    """Parse a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def results_folder(config: pytest.Config, lab: Lab) -> Path:
    """Return the folder for this run's results without creating it."""
    if config.option.results:
        return config.invocation_params.dir / Path(config.option.results)
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = config.rootpath / LAB_FOLDER / "results" / f"{moment}-{lab.name}"
    again = 2
    while folder.exists():
        folder = folder.with_name(f"{moment}-{lab.name}-{again}")
        again += 1
    return folder


def make_folder(folder: Path) -> None:
    """Create the run's folder; below .lab/results, also link it as the latest run."""
    if folder.parent.name == "results" and folder.parent.parent.name == LAB_FOLDER:
        private_folder(folder.parent.parent)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder.parent / f".latest-{os.getpid()}"
        try:
            partial.symlink_to(folder.name)
            partial.replace(folder.parent / "latest")
        except OSError:
            partial.unlink(missing_ok=True)
            folder.rmdir()
            raise
    else:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "result.json").exists():  # an earlier run, which this run replaces
            shutil.rmtree(folder / "evidence", ignore_errors=True)  # the earlier run may have no evidence


def _limit(text: str) -> tuple[str, float]:
    """Parse NAME=LIMIT into a figure's name and its limit."""
    name, _, most = text.rpartition("=")
    try:
        limit = float(most)
    except ValueError:
        limit = math.nan
    if not name or not math.isfinite(limit):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the name of a figure and a number, such as gap=500"
        )
    return name, limit
