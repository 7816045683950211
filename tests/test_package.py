"""Test the commands that are installed without a checkout, and the imports of the wire package."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mptcp_lab
from mptcp_lab import cli
from mptcp_lab.paths import ROOT

CAPTURE = ROOT / "tests/wire/captures/handshake.pcapng"
HEAVY = ("yaml", "paramiko", "ansible", "pytest", "jinja2", "scapy")


def test_commands_are_listed_and_unknown_ones_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert set(cli.COMMANDS) <= set(capsys.readouterr().out.split())
    assert cli.main(["pcpa"]) == cli.USAGE_ERROR
    assert "no command 'pcpa'" in capsys.readouterr().err


def test_the_pcap_command_is_the_analyser(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["pcap", str(CAPTURE)]) == 0
    assert "connection 0: mptcp" in capsys.readouterr().out


def test_the_wire_package_needs_the_standard_library_only() -> None:
    program = f"import sys, mptcp_lab.wire.__main__; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.long
def test_an_installed_package_works_without_the_checkout(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(ROOT)], check=True)
    tool = str(tmp_path / "venv/bin/mptcp-lab")
    version = subprocess.run([tool, "--version"], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert version.stdout.strip() == mptcp_lab.__version__
    done = subprocess.run(
        [tool, "pcap", str(CAPTURE)], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert "connection 0: mptcp" in done.stdout
    # The agent, the rules and the schema are in the package: it reads this machine, where nothing listens.
    done = subprocess.run(
        [tool, "doctor", "localhost", "localhost", "--port", "9", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "no-listener" in {each["rule"] for each in json.loads(done.stdout)["findings"]}
    assert list((tmp_path / "venv").rglob("mptcp_lab/doctor/doctor.schema.json"))
