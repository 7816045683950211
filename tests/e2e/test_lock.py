"""lab.lock.yml on real hosts: written, held to, refused, and STATE-5 seen red for every kind of drift."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from mptcp_lab.lock import differences, dump, read
from mptcp_lab.lock.__main__ import main
from tests.e2e.conftest import Configured, run_tool
from tests.e2e.sabotage import broken
from tests.labs import OwnLab, own_lab

pytestmark = pytest.mark.long

APT = "DEBIAN_FRONTEND=noninteractive apt-get -qq --allow-downgrades --no-install-recommends install"
UNIT = "/etc/systemd/system/mptcp-lab-mptcp.service"
#: By host: a command that lets it drift, the one that repairs it, and the words of STATE-5 about it.
DRIFT = {
    "client": (
        "ip mptcp endpoint add 198.18.3.10 id 99 signal dev eth3",
        "ip mptcp endpoint del id 99",
        "client: endpoint 198.18.3.10 id 99 signal dev eth3: expected absent, found present",
    ),
    "proxy1": (
        "dpkg --remove --force-depends mptcpize",
        f"{APT} mptcpize",
        "proxy1: package mptcpize: expected 0",
    ),
    "proxy2": (
        f"{APT} libjemalloc2/trixie",
        f"{APT} libjemalloc2/sid",
        "proxy2: package libjemalloc2:",
    ),
    "server1": (
        "sysctl -qw net.mptcp.checksum_enabled=1",
        "sysctl -qw net.mptcp.checksum_enabled=0",
        "server1: sysctl net/mptcp/checksum_enabled: expected 0, found 1",
    ),
    "server2": (
        f"cp -p {UNIT} /root/aside; echo '# edited' >> {UNIT}",
        f"mv /root/aside {UNIT}",
        f"server2: file {UNIT}: expected -rw-r--r-- 0:0 ",
    ),
}


@pytest.fixture(scope="module")
def lock(configured: Configured) -> Iterator[Path]:
    """The lock of the converged lab, beside its inventory while this file's tests run."""
    path = configured.own.folder / "lab.lock.yml"
    assert main(["write", "--inventory", str(configured.own.folder)]) == 0
    yield path
    path.unlink()


def test_what_drifted_is_named_and_nothing_else(configured: Configured, lock: Path) -> None:
    with ExitStack() as stack:
        for host, (command, mend, _) in DRIFT.items():
            stack.enter_context(broken(configured, host, command, mend))
        red = configured.suite("--claim=STATE-5")
    assert red.verdicts() == {"STATE-5": "fail"}, red.output
    for _, _, told in DRIFT.values():
        assert told in red.reason("STATE-5")
    assert red.reason("STATE-5").count(": expected ") == len(DRIFT), red.reason("STATE-5")
    green = configured.suite("--claim=STATE-5")
    assert green.verdicts() == {"STATE-5": "pass"}, green.output


def test_an_inventory_that_renders_something_else_is_refused(
    configured: Configured, lock: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(configured.own.folder, copy)
    hosts = copy / "hosts.yml"
    hosts.write_text(hosts.read_text().replace("port: 7201", "port: 7211"))
    assert main(["expect", "--inventory", str(copy)]) == 4
    assert "proxy1: /etc/nginx/nginx.conf" in capsys.readouterr().err


@pytest.fixture
def twin(lock: Path, tmp_path: Path) -> Iterator[OwnLab]:
    """A second lab, fresh, with the first one's inventory and lock."""
    own = own_lab(tmp_path / "twin", "test-e2e-twin", attackers=True)
    shutil.copy(lock, own.folder)
    own.down()
    own.up()
    try:
        yield own
    finally:
        own.down()


def test_a_second_lab_built_from_the_lock_is_the_same(
    configured: Configured, lock: Path, twin: OwnLab, tmp_path: Path
) -> None:
    """Refused before anything changes where the lock cannot be had; else the same to the byte."""
    play = [*configured.command()[:2], str(twin.folder), "lab.yml"]
    whole = read(lock)
    proxy = replace(whole.hosts["proxy1"], packages={**whole.hosts["proxy1"].packages, "haproxy": "9.9"})
    other = tmp_path / "other.yml"
    other.write_text(dump(replace(whole, hosts={**whole.hosts, "proxy1": proxy})))
    refused = run_tool([*play, "-e", f"lab_lock={other}"])
    assert refused.returncode != 0
    assert "haproxy=9.9 (there is 3." in refused.stdout
    assert "changed=1" not in refused.stdout
    for host in ("client", "proxy1"):  # the one that can be had is left alone too
        assert twin.ssh_may_fail(host, "ls -d /var/lib/mptcp-lab /usr/sbin/haproxy") == ""

    twin.ssh("proxy2", f"{APT} libjemalloc2/trixie </dev/null")  # another version than the locked one
    built = run_tool(play)
    assert built.returncode == 0, built.stdout + built.stderr
    assert main(["write", "--inventory", str(twin.folder)]) == 0
    assert list(differences(whole.hosts, read(twin.folder / "lab.lock.yml").hosts)) == []
