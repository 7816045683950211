"""`./lab test` with a file runs just that file; without one, all tests."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.front.conftest import Checkout

LINTERS = "ruff mypy yamllint ansible-lint codespell shellcheck ansible-playbook".split()
FILE = "tests/test_patience.py"
#: The stand-in of pytest: the real one lists what it would run.
PYTEST = """\
#!/bin/sh
exec {python} -m pytest --collect-only -q "$@"
"""


@pytest.fixture
def prepared(checkout: Checkout) -> Checkout:
    """Return a checkout with two files of tests, whose .venv has linters that find nothing."""
    for path in (checkout.root / "tests").iterdir():
        if path.is_dir() and path.name != "front":
            path.rename(checkout.root / f"left-out-{path.name}")
        elif path.name.startswith("test_") and path.name not in (Path(FILE).name, "test_answers.py"):
            path.unlink()
    programs = checkout.root / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    stand_ins = dict.fromkeys(LINTERS, "#!/bin/sh\n") | {"pytest": PYTEST.format(python=sys.executable)}
    for name, text in stand_ins.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    version = subprocess.run(
        ["python3", "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    digest = hashlib.sha256((checkout.root / "requirements.txt").read_bytes()).hexdigest()
    (programs.parent / ".stamp").write_text(f"{checkout.root} {version} {digest}  -\n")
    return checkout


def files(checkout: Checkout, *words: str) -> set[str]:
    """Return the files of which `./lab test` with these words would run tests."""
    done = checkout.lab("test", *words)
    assert done.returncode == 0, done.stderr + done.stdout
    return {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}


@pytest.mark.parametrize("word", [f"./{FILE}", f"{FILE}::test_a_wrong_override_is_named", "{root}/" + FILE])
def test_a_file_is_run_alone(prepared: Checkout, word: str) -> None:
    assert files(prepared, word.format(root=prepared.root)) == {FILE}


def test_options_alone_choose_among_all_tests(prepared: Checkout) -> None:
    assert {FILE, "tests/test_answers.py"} <= files(prepared, "-m", "not long")


def test_a_complaint_of_the_linter_that_runs_meanwhile_fails_the_tests(prepared: Checkout) -> None:
    linter = prepared.root / ".venv/bin/ansible-lint"
    linter.write_text("#!/bin/sh\necho 'lab.yml: a wrong line'\nexit 2\n")
    done = prepared.lab("test", FILE)
    assert (done.returncode, "lab.yml: a wrong line" in done.stderr) == (2, True), done.stderr
    assert "ansible-lint failed with exit status 2" in done.stderr


def test_the_last_lines_are_those_of_pytest(prepared: Checkout) -> None:
    """A CI server reads them; the linter that ends after pytest prints nothing if it has no complaint."""
    (prepared.root / ".venv/bin/ansible-lint").write_text("#!/bin/sh\necho 'nothing to complain about'\n")
    done = prepared.lab("test", FILE)
    assert done.returncode == 0, done.stderr
    assert "nothing to complain about" not in done.stdout + done.stderr
    assert "$ ansible-lint --offline -q &\n" in done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("$ pytest ")
