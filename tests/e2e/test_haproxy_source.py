"""HAProxy built from a working tree on a host: it runs beside the package, and goes with the variable."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.e2e.conftest import Configured
from tests.e2e.debian import Debian
from tests.e2e.source_builds import building, converge, running
from tests.e2e.test_converge import changes

pytestmark = pytest.mark.long

PROGRAM = "/usr/local/haproxy/sbin/haproxy"


def working_tree(folder: Path, tarball: Path) -> Path:
    """Unpack a source, and return the directory with its files."""
    with tarfile.open(tarball) as packed:
        packed.extractall(folder, filter="data")
    (found,) = folder.iterdir()
    return found


def test_a_working_tree_is_built(configured: Configured, tmp_path: Path) -> None:
    ssh, ssh_may_fail = configured.own.ssh, configured.own.ssh_may_fail
    debian = Debian(tmp_path)
    debian.prepare(ssh("proxy1", "cat /var/lib/dpkg/status"))
    tree = working_tree(tmp_path / "tree", debian.source("haproxy")[0])
    (tree / "SUBVERS").write_text("-of-a-developer\n")
    packages = ssh("proxy1", "dpkg-query --show")
    source = {
        "haproxy_source": str(tree),
        # Not optimised: it is built in half the time.
        "haproxy_source_options": ["TARGET=linux-glibc", "OPT_CFLAGS=-O0"],
    }
    with building(configured, debian, source):
        assert running(configured, "haproxy") == PROGRAM
        assert "-of-a-developer" in ssh("proxy1", f"{PROGRAM} -v")
        assert ssh("proxy1", "dpkg-query --show") == packages, "packages of the build are left"
        assert changes(converge(configured).stdout) == {"0"}

        run = configured.suite("--claim=PROXY-1[haproxy-preload]", "--claim=STATE-3")
        assert set(run.verdicts().values()) == {"pass"}, run.output
    assert running(configured, "haproxy") == "/usr/sbin/haproxy"
    left = "ls -d /usr/local/haproxy /etc/systemd/system/haproxy.service.d/mptcp-lab-source.conf"
    assert ssh_may_fail("proxy1", left) == ""
