"""nginx built from its source on a host: it runs and speaks MPTCP, and no compiler is there afterwards."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import BIN, Configured, run_tool
from tests.e2e.debian import Debian, offer, take_back
from tests.e2e.test_converge import changes

pytestmark = pytest.mark.long

PROGRAM = "/usr/local/nginx/sbin/nginx"
RUNNING = "readlink /proc/$(systemctl show --property=MainPID --value nginx)/exe"


def converge(configured: Configured, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run what has to do with proxies, on proxy1 alone."""
    books = ["playbooks/retire.yml", "playbooks/proxies.yml", "--limit=proxy1"]
    return run_tool([str(BIN / "ansible-playbook"), "-i", str(configured.own.folder), *books, *arguments])


@contextmanager
def built(configured: Configured, debian: Debian) -> Iterator[None]:
    """proxy1 with an nginx of its own making; with the package's again at the end."""
    ssh_config = configured.own.paths.state / "ssh_config"
    inventory = configured.own.folder / "hosts.yml"
    before = inventory.read_text()
    tarball, sha256 = debian.source("nginx")
    given = {
        "nginx_stream_source": str(tarball),
        "nginx_stream_source_sha256": sha256,
        # Not optimised: it is built in half the time.
        "nginx_stream_source_options": ["--with-stream", "--without-http", "--with-cc-opt=-O0"],
    }
    configured.own.edit(lambda children: children["proxies"]["hosts"]["proxy1"].update(given))
    try:
        offer(ssh_config, "proxy1", debian.repository("gcc", "make", "libc6-dev"))
        done = converge(configured)
        assert done.returncode == 0, done.stdout
        yield
    finally:
        inventory.write_text(before)
        take_back(ssh_config, "proxy1")
        done = converge(configured)
        assert done.returncode == 0, done.stdout


def test_a_source_build(configured: Configured, tmp_path: Path) -> None:
    ssh, ssh_may_fail = configured.own.ssh, configured.own.ssh_may_fail
    debian = Debian(tmp_path)
    debian.prepare(ssh("proxy1", "cat /var/lib/dpkg/status"))
    packages = ssh("proxy1", "dpkg-query --show")
    with built(configured, debian):
        assert ssh("proxy1", RUNNING).strip() == PROGRAM
        assert "--with-stream" in ssh("proxy1", f"{PROGRAM} -V 2>&1")
        assert ssh("proxy1", "dpkg-query --show") == packages, "packages of the build are left"
        assert ssh_may_fail("proxy1", "command -v cc gcc make") == ""
        assert changes(converge(configured).stdout) == {"0"}

        refused = converge(configured, "-e", "nginx_stream_source_sha256=" + 64 * "0")
        assert refused.returncode != 0
        assert "correct nginx_stream_source_sha256" in " ".join(refused.stdout.split())
        assert ssh("proxy1", RUNNING).strip() == PROGRAM

        run = configured.suite("--claim=PROXY-1[nginx-preload]", "--claim=STATE-3")
        assert set(run.verdicts().values()) == {"pass"}, run.output
    assert ssh("proxy1", RUNNING).strip() == "/usr/sbin/nginx"
    assert ssh_may_fail("proxy1", "ls -d /usr/local/nginx /etc/systemd/system/nginx.service") == ""
