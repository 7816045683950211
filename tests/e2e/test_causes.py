"""Test that a cause found by STATE leaves the checks of that host undecided, and is named once."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from mptcp_lab.paths import ROOT
from tests.e2e.conftest import Configured, SuiteRun, environment, suite_run
from tests.e2e.sabotage import IMPATIENT, broken, filtered

MPTCP_OFF, MPTCP_ON = "sysctl -qw net.mptcp.enabled=0", "sysctl -qw net.mptcp.enabled=1"
DROP_IN = "/etc/systemd/system/haproxy.service.d"
RESTART = "systemctl daemon-reload; systemctl reset-failed haproxy; systemctl restart haproxy"
FULL = "dd if=/dev/zero of={0}/fill bs=1k status=none 2>/dev/null || true"


def assert_told_once(run: SuiteRun, cause: str, next_step: str, cases: set[str]) -> None:
    """Assert that these cases, and no others, are undecided by one cause, which every view names once."""
    undecided = {case for case, verdict in run.verdicts().items() if verdict == "inconclusive"}
    assert undecided == cases, run.output
    assert run.code == 4
    assert run.output.count(cause) == 1, run.output
    lines = run.output.splitlines()
    assert f"  {'cause  ' if len(cases) > 1 else 'why    '} {cause}" in lines, run.output
    if len(cases) > 1:
        assert f"inconclusive  {len(cases)} checks" in lines
    assert f"  next    {next_step}" in lines
    told = f"{cause} ({len(cases)} check{'s' if len(cases) > 1 else ''}); next: {next_step}"
    properties = [each.get("value") for each in ET.parse(run.folder / "junit.xml").iter("property")]
    assert told in properties
    page = (run.folder / "report.html").read_text()
    assert f'<tr><td>{len(cases)}</td><td class="wide">{cause}</td>' in page


def test_with_mptcp_off_at_the_client(configured: Configured) -> None:
    with broken(configured, "client", MPTCP_OFF, MPTCP_ON):
        run = configured.suite(
            *("--claim=STATE-1", "--claim=DIRECT-3", "--claim=DIRECT-4", "--claim=DIRECT-14[python]"),
            *("--claim=PROXY-1[haproxy-native]", "--claim=RFC8684-3.1/1[direct-R01]"),
        )
    assert run.verdicts()["STATE-1"] == "fail"
    assert_told_once(
        run,
        "client: net.mptcp.enabled is 0, STATE-1",
        "on client: sysctl -w net.mptcp.enabled=1",
        {"DIRECT-3", "DIRECT-4", "DIRECT-14[python]", "PROXY-1[haproxy-native]", "RFC8684-3.1/1[direct-R01]"},
    )


def test_with_mptcp_on_where_it_is_to_be_off(configured: Configured) -> None:
    with broken(configured, "server2", MPTCP_ON, MPTCP_OFF):
        run = configured.suite("--claim=GATEWAY-1", "--claim=DIRECT-3")
    assert run.verdicts()["DIRECT-3"] == "pass", run.output
    cause, step = "server2: net.mptcp.enabled is 1, STATE-1", "on server2: sysctl -w net.mptcp.enabled=0"
    assert_told_once(run, cause, step, {"GATEWAY-1"})


def test_with_a_proxy_stopped(configured: Configured) -> None:
    with broken(configured, "proxy1", "systemctl stop haproxy", "systemctl start haproxy"):
        run = configured.suite(
            *("--claim=STATE-2", "--claim=PROXY-7", "--claim=PROXY-1[haproxy-preload]", "--claim=DIRECT-3")
        )
    verdicts = run.verdicts()
    assert verdicts["STATE-2"] == "fail"
    passed = {
        "DIRECT-3",
        "PROXY-7[nginx-preload]",
        "PROXY-7[haproxy-native]",
    }  # nginx there, haproxy elsewhere
    assert {verdicts[case] for case in passed} == {"pass"}, run.output
    assert_told_once(
        run,
        "proxy1: haproxy is inactive, STATE-2",
        "on proxy1: systemctl restart haproxy (journalctl -u haproxy says why it ended)",
        {"PROXY-7[haproxy-preload]", "PROXY-1[haproxy-preload]"},
    )


def test_with_a_listener_without_the_wrapper(configured: Configured) -> None:
    aside = f"mv {DROP_IN} /root/aside; {RESTART}"
    with broken(configured, "proxy1", aside, f"mv /root/aside {DROP_IN}; {RESTART}"):
        run = configured.suite("--claim=PROXY-1[haproxy-preload]", *IMPATIENT)
    assert run.verdicts() == {"PROXY-1[haproxy-preload]": "inconclusive"}, run.output
    missing = "no such listener: test1 on 198.18.1.21 port 7000 is to be MPTCP (mptcp: preload), TCP listens"
    assert f"{missing}, STATE-3" in run.output, run.output
    assert "  next    ansible-playbook lab.yml" in run.output.splitlines()


def test_what_breaks_while_the_suite_runs(configured: Configured) -> None:
    """The check under way fails, and the host is read again; repaired, it is used again."""
    claims = ("DIRECT-1", "DIRECT-3", "DIRECT-4", "PROXY-1", "PROXY-7", "PROXY-12", "GATEWAY-1")
    folder = configured.results_folder()
    command = configured.suite_command(folder, *(f"--claim={claim}" for claim in claims), *IMPATIENT)
    lines: list[str] = []
    told = ""
    unbuffered = {**environment(), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=unbuffered
    ) as running:
        assert running.stdout
        try:
            for line in running.stdout:
                lines.append(line)
                if line.startswith("DIRECT-1[drop]"):
                    configured.own.ssh("client", MPTCP_OFF)
                elif " inconclusive " in line and not told:
                    told = line
                    configured.own.ssh("client", MPTCP_ON)
        finally:
            configured.own.ssh("client", MPTCP_ON)
    run = suite_run(running.returncode, "".join(lines), folder)
    verdicts = run.verdicts()
    assert run.reason(told.split()[0]) == "net.mptcp.enabled is 0, STATE-1", run.output
    assert verdicts["GATEWAY-1"] == "pass", run.output  # the last one
    assert "fail" not in verdicts.values(), run.output
    assert run.code == 4


def test_one_cause_of_many_failures_is_named_once_at_the_top(configured: Configured) -> None:
    """No STATE claim is about a packet filter: the checks fail, and the doctor names what they share."""
    refused = filtered("", "server1", "input", "tcp option mptcp exists reject with tcp reset", "")
    with broken(configured, refused.host, refused.command, refused.mend):
        run = configured.suite("--claim=DIRECT-3", "--claim=DIRECT-4", "--claim=GATEWAY-1")
    failed = ["DIRECT-3", "DIRECT-4"]
    assert [case for case, verdict in run.verdicts().items() if verdict == "fail"] == failed, run.output
    assert run.code == 1
    (cause,) = run.result["causes"]
    assert (cause["where"], cause["cases"]) == ("server1", failed)
    assert cause["next_step"].startswith("on server1: nft delete rule inet sabotage c")
    lines = run.output.splitlines()
    at = lines.index("fail  2 checks")
    assert lines[at + 1 : at + 4] == [
        f"  cause   server1: {cause['what']}",
        f"  next    {cause['next_step']}",
        "  checks  DIRECT-3, DIRECT-4",
    ]
    assert run.output.count(cause["what"]) == 1
    assert not any(line.startswith("fail  DIRECT") for line in lines[at:])
    page = (run.folder / "report.html").read_text()
    assert page.index("Why checks did not pass") < page.index('<tr><td>2</td><td class="wide">server1: ')


def test_a_gateway_that_takes_options_away_is_the_cause(configured: Configured) -> None:
    """The gateway speaks MPTCP with nobody, so the doctor examines it alone."""
    stripped = filtered("", "gateway", "forward", "reset tcp option mptcp", "")
    with broken(configured, stripped.host, stripped.command, stripped.mend):
        run = configured.suite("--claim=GATEWAY-2", *IMPATIENT)
    assert run.verdicts() == {"GATEWAY-2": "fail"}, run.output
    (cause,) = run.result["causes"]
    assert cause["where"] == "gateway" and "takes TCP option 30 out" in cause["what"]
    assert cause["next_step"].startswith("on gateway: nft delete rule inet sabotage c")


@pytest.mark.parametrize("folder", ["/run/mptcp-lab", "/var/log/nginx"])
def test_with_a_disk_full_on_a_host(configured: Configured, folder: str) -> None:
    fill = f"mount -t tmpfs -o size=80k,mode=700 tmpfs {folder}; {FULL.format(folder)}"
    with broken(configured, "proxy1", fill, f"umount {folder}; systemctl reload nginx"):
        run = configured.suite("--claim=DIRECT-3", "--claim=PROXY-1[nginx-preload]")
    assert "fail" not in run.verdicts().values(), run.output
    assert "Traceback" not in run.output
    if folder.startswith("/run"):
        assert set(run.verdicts().values()) == {"inconclusive"}
        assert run.code == 4
        assert run.output.count("No space left on device") == 1, run.output
        assert "next: make room on the host: df -h /run /var /tmp" in run.output


@pytest.mark.parametrize("size", ["4k", "40k"])
def test_with_the_disk_of_the_results_full(configured: Configured, tmp_path: Path, size: str) -> None:
    paths = tmp_path / "small"
    paths.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(paths)], check=True)
    try:
        folder = paths / "results"
        command = configured.suite_command(folder, "--claim=DIRECT-3", "--claim=PROXY-1[nginx-preload]")
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env=environment(), check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode in (2, 4), output
        assert output.count("No space left on device") == 1, output
        assert "Traceback" not in output and "INTERNALERROR" not in output
        left = [path.name for path in paths.rglob("*") if ".partial" in path.name]
        assert not left
        if (folder / "result.json").exists():
            json.loads((folder / "result.json").read_text())
    finally:
        subprocess.run(["umount", str(paths)], check=True)
