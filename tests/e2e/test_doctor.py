"""The doctor on a lab: a healthy one gives no finding, and each provoked fault gives its finding alone.

`tests/doctor/provocations.toml` has the faults. CI provokes those of `QUICK`, one of each group of rules.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mptcp_lab.doctor.collect import Question, ask
from mptcp_lab.doctor.diagnose import diagnose, diagnose_all
from mptcp_lab.doctor.finding import Finding
from mptcp_lab.doctor.inventory_pairs import questions_of
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.paths import ROOT
from mptcp_lab.probe import eventually
from mptcp_lab.probe.openssh import Ssh
from tests.e2e.conftest import Configured, environment
from tests.e2e.sabotage import broken

PROVOCATIONS = ROOT / "tests" / "doctor" / "provocations.toml"
SERVICE = ROOT / "tests" / "doctor" / "service.py"
PORT, CLIENT, SERVER = 7000, "client", "server1"
QUICK = frozenset(
    {
        "off-at-client",
        "address-without-endpoint",
        "client-subflow-limit",
        "taken-for-neighbour",
        "filter-drops-joins",
        "tcp-listener",
        "mtu-differs",
    }
)
DROP_IN = "/etc/systemd/system/haproxy.service.d"
RESTART = "systemctl daemon-reload; systemctl reset-failed haproxy; systemctl restart haproxy"
WRAPPER_LOST = f"mv {DROP_IN} /root/aside; {RESTART}"
WRAPPER_BACK = f"rm -rf {DROP_IN}; mv /root/aside {DROP_IN}; {RESTART}"


def ssh_of(configured: Configured) -> Ssh:
    return Ssh(options=("-F", str(configured.own.paths.state / "ssh_config")))


def findings_of(configured: Configured, question: Question) -> tuple[Finding, ...]:
    """Return what the doctor finds (`examined`)."""
    return diagnose(examined(configured, question))


def examined(configured: Configured, question: Question) -> PairReading:
    """Return what the doctor reads, after all IPv6 addresses are in use."""
    for host in question.hosts:
        eventually(
            lambda host=host: configured.own.ssh(host, "ip -o -6 address show tentative"),
            until=lambda shown: all("dadfailed" in line for line in shown.splitlines()),
            within=15.0,
        )
    (reading,) = ask([question], ssh_of(configured))
    return reading


def told(reading: PairReading) -> list[Any]:
    """Return what the doctor's connections were, for the message of a test that fails."""
    connections = [leg.connection for leg in reading.legs if leg.connection]
    return [(each.attempts, each.pairs, each.client_counters, each.server_counters) for each in connections]


def provocations() -> list[Any]:
    """Return the faults as parameters; those that CI does not provoke are marked as long."""
    found = []
    for spec in tomllib.loads(PROVOCATIONS.read_text())["provocation"]:
        marks = () if spec["rule"] in QUICK else (pytest.mark.long,)
        found.append(pytest.param(spec, id=spec["rule"], marks=marks))
    return found


@contextmanager
def service(configured: Configured, mode: str, port: int) -> Iterator[None]:
    """Run a service that listens on a port of the server in one of the modes of `SERVICE`."""
    code = base64.b64encode(SERVICE.read_bytes()).decode()
    address = configured.own.lab.hosts[SERVER].nics[0].ipv4.ip  # type: ignore[union-attr]
    start = (
        f"echo {code} | base64 -d > /run/doctor-service.py; systemd-run --quiet --collect"
        f" --unit=doctor-service python3 /run/doctor-service.py {mode} {port} {address}"
    )
    with broken(configured, SERVER, start, "systemctl stop doctor-service; rm /run/doctor-service.py"):
        eventually(
            lambda: configured.own.ssh(SERVER, f"ss -Hltn 'sport = :{port}'"),
            until=bool,
            within=15.0,
        )
        yield


@pytest.mark.parametrize("spec", provocations())
def test_a_provoked_fault_gives_its_finding_alone(configured: Configured, spec: dict[str, Any]) -> None:
    port = spec.get("port", PORT)
    with ExitStack() as stack:
        if mode := spec.get("service"):
            stack.enter_context(service(configured, mode, port))
        for step in spec.get("steps", ()):
            stack.enter_context(broken(configured, step["host"], step["command"], step["mend"]))
        question = Question(CLIENT, spec.get("server", SERVER), port, address=spec.get("address", ""))
        reading = examined(configured, question)
    found = diagnose(reading)
    seen = [(each.rule, each.what) for each in found], told(reading)
    assert {each.rule for each in found} == {spec["rule"]}, seen


def test_a_healthy_lab_gives_no_finding(configured: Configured) -> None:
    """Neither between pairs that should speak MPTCP, nor through proxies with plain TCP behind them."""
    asked = questions_of(configured.own.lab)
    assert {"proxy1", "proxy2", "server1"} <= {question.server for question in asked}
    asked += [Question(CLIENT, "server2", PORT, via=proxy) for proxy in ("proxy1", "proxy2")]
    found = diagnose_all(ask(asked, ssh_of(configured)))
    assert not found, [(each.rule, each.what) for each in found]


def test_a_lost_wrapper_is_found_in_front_of_a_proxy_and_its_fix_repairs_it(configured: Configured) -> None:
    question = Question(CLIENT, "server2", PORT, via="proxy1")
    with broken(configured, "proxy1", WRAPPER_LOST, WRAPPER_BACK):
        found = findings_of(configured, question)
        assert [(each.rule, each.host) for each in found] == [("tcp-listener", "proxy1")]
        configured.own.ssh("proxy1", found[0].fix)
        assert not findings_of(configured, question)


def test_the_command_writes_a_bundle_without_an_address(configured: Configured, tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar.gz"
    config = configured.own.paths.state / "ssh_config"
    command = [sys.executable, "-m", "mptcp_lab.cli", "doctor", CLIENT, SERVER, f"--port={PORT}", "--json"]
    done = subprocess.run(
        [*command, "-F", str(config), "--bundle", str(path), "--conceal"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["findings"] == []
    addresses = [
        str(nic.ipv4.ip) for host in configured.own.lab.hosts.values() for nic in host.nics if nic.ipv4
    ]
    with tarfile.open(path) as archive:
        files = {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore[union-attr]
    assert {f"mptcp-doctor/{host}/capture.pcapng" for host in ("client", "server")} <= files.keys()
    for name, content in files.items():
        assert not any(address.encode() in content for address in addresses), name
    assert b"established" in files["mptcp-doctor/issue.md"]
