"""nginx built from its source on a host: it runs and speaks MPTCP, and no compiler is there afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Configured
from tests.e2e.debian import Debian
from tests.e2e.source_builds import building, converge, running
from tests.e2e.test_converge import changes

pytestmark = pytest.mark.long

PROGRAM = "/usr/local/nginx/sbin/nginx"


def test_a_source_build(configured: Configured, tmp_path: Path) -> None:
    ssh, ssh_may_fail = configured.own.ssh, configured.own.ssh_may_fail
    debian = Debian(tmp_path)
    debian.prepare(ssh("proxy1", "cat /var/lib/dpkg/status"))
    tarball, sha256 = debian.source("nginx")
    source = {
        "nginx_stream_source": str(tarball),
        "nginx_stream_source_sha256": sha256,
        # Not optimised: it is built in half the time.
        "nginx_stream_source_options": ["--with-stream", "--without-http", "--with-cc-opt=-O0"],
    }
    packages = ssh("proxy1", "dpkg-query --show")
    with building(configured, debian, source):
        assert running(configured, "nginx") == PROGRAM
        assert "--with-stream" in ssh("proxy1", f"{PROGRAM} -V 2>&1")
        assert ssh("proxy1", "dpkg-query --show") == packages, "packages of the build are left"
        assert ssh_may_fail("proxy1", "command -v cc gcc make") == ""
        assert changes(converge(configured).stdout) == {"0"}

        refused = converge(configured, "-e", "nginx_stream_source_sha256=" + 64 * "0")
        assert refused.returncode != 0
        assert "correct nginx_stream_source_sha256" in " ".join(refused.stdout.split())
        assert running(configured, "nginx") == PROGRAM

        run = configured.suite("--claim=PROXY-1[nginx-preload]", "--claim=STATE-3")
        assert set(run.verdicts().values()) == {"pass"}, run.output
    assert running(configured, "nginx") == "/usr/sbin/nginx"
    assert ssh_may_fail("proxy1", "ls -d /usr/local/nginx /etc/systemd/system/nginx.service") == ""
