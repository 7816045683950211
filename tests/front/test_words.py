"""Words that ./lab understands, and what it does about all others: nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mptcp_lab.paths import ROOT
from tests.front.conftest import Checkout

COMMANDS = "run up down status shell compare history matrix pcap doctor help render lock restore test".split()
NOT_UNDERSTOOD = [
    "frobnicate",
    "--frobnicate",
    "up junk",
    "up junk --foo",
    "down junk",
    "down --foo",
    "down --inventory",
    "down --inventory=",
    "down --lab embedded --inventory vm",
    "up --lab embedded",
    "up --owned",
    "status --owned junk",
    "status junk",
    "lock junk",
    "lock --foo",
    "doctor junk",
    "doctor --yes",
    "doctor --kernel",
    "doctor --inventory=",
    "doctor one two --port 443 --kernel host",
    "doctor --remote 192.0.2.1:443 --kernel host",
    "render one two",
    "render --foo",
    "restore lab.yml",
    "restore --foo",
    "restore --limit",
    "shell",
    "shell --foo",
    "pcap",
    "compare",
    "compare one",
    "compare one two three",
    "compare --foo one",
    "history",
    "history --inventory vm .",
    "matrix",
    "pcap --inventory vm file",
    "test --inventory vm",
    "help frobnicate",
    "help --foo",
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("word", ["--help", "-h"])
def test_every_command_has_help_of_its_own_and_does_nothing_else(
    checkout: Checkout, command: str, word: str
) -> None:
    done = checkout.lab(command, word)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: ./lab {command}")
    assert len(done.stdout.splitlines()) > 2
    assert checkout.lab("help", command).stdout == done.stdout
    assert checkout.is_untouched()


def test_help_is_taken_anywhere_before_the_words_of_a_host(checkout: Checkout) -> None:
    for words in ("down --inventory vm --help", "shell client --help", "restore --limit client -h"):
        done = checkout.lab(*words.split())
        assert (done.returncode, done.stdout[:12]) == (0, "Usage: ./lab"), words
    assert checkout.is_untouched()


@pytest.mark.parametrize("words", NOT_UNDERSTOOD)
def test_words_that_are_not_understood_are_refused_with_usage(checkout: Checkout, words: str) -> None:
    done = checkout.lab(*words.split(" "))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lab: ")
    assert "Usage: ./lab " in done.stderr
    assert checkout.is_untouched()


def test_help_groups_all_commands(checkout: Checkout) -> None:
    shown = checkout.lab("help").stdout
    assert checkout.lab().stdout == shown
    groups = [line for line in shown.splitlines() if line and not line.startswith((" ", "Usage"))]
    assert groups == ["Run", "Look", "Change", "Developers", "Options of most commands"]
    listed = [
        line.split()[0] for line in shown.splitlines() if line.startswith("  ") and "--" not in line[:5]
    ]
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("words", ["--frobnicate", "junk", "--claim NOSUCH-1"])
def test_options_that_the_suite_does_not_take_are_refused_before_the_lab_is_touched(words: str) -> None:
    done = Checkout(ROOT).lab("run", *words.split())
    assert done.returncode == 2
    assert words.split()[-1] in done.stderr
    assert "lab: pytest refuses these options" in done.stderr
    assert "$ " not in done.stderr  # no command was run


def test_a_list_of_checks_starts_nothing() -> None:
    done = Checkout(ROOT).lab("run", "--list", "--claim", "DIRECT-3")
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "$ pytest conformance/ --hosts=inventory --list --claim DIRECT-3"
    assert "DIRECT-3  (MUST;" in done.stdout


@pytest.mark.parametrize(
    ("words", "runs_all"),
    [
        ("", True),
        ("--fast", True),
        ("--baseline last --ktap=out.tap", True),
        ("--baseline", True),
        ("--fast --claim DIRECT-3", False),
        ("--family proxy", False),
        ("-k joins", False),
    ],
)
def test_only_a_run_of_all_claims_shares_several_labs(words: str, runs_all: bool) -> None:
    front = (ROOT / "lab").read_text()
    start = front.index("runs_all() {")
    function = front[start : front.index("\n}\n", start) + 3]
    program = f'set -eu\n{function}\nif runs_all "$@"; then echo all; fi'
    done = subprocess.run(
        ["sh", "-c", program, "sh", *words.split()], capture_output=True, text=True, check=True
    )
    assert done.stdout == ("all\n" if runs_all else "")


@pytest.mark.parametrize("locale", ["C", "POSIX", "xx_XX.UTF-8"])
def test_ansible_runs_whatever_the_locale_of_the_user_is(tmp_path: Path, locale: str) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {}\n")
    done = Checkout(ROOT, {"LC_ALL": locale}).lab("restore", "--inventory", str(inventory))
    assert f"inventory: {inventory}: hosts: no host is listed" in done.stdout + done.stderr
