"""The kernel role on a virtual machine: another kernel, one that does not boot, and files that are others."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mptcp_lab.labs.command import run
from mptcp_lab.labs.vms import disk
from mptcp_lab.labs.vms.monitor import monitor
from mptcp_lab.probe import eventually
from tests.labs import OwnLab
from tests.vm.conftest import ANSWERS_WITHIN, answers_again, go_back, play

pytestmark = pytest.mark.long
CONSENT = {"lab_kernel_ok": True, "lab_reboot_ok": True}
BROKEN = "9.9.9-broken"
#: Where the lab's switch serves files, on the first path; and the machine's own address there.
SERVER, OWN = "198.18.1.250", "198.18.1.31"


def kernel(own: OwnLab, **variables: object) -> tuple[int, str]:
    """Run playbooks/kernel.yml on server1."""
    return play(own, "kernel", "--limit", "server1", "-e", json.dumps(variables))


def test_the_role_goes_to_the_backports_kernel_and_mptcp_runs_on_it(own: OwnLab) -> None:
    before = own.ssh("server1", "uname -r").strip()
    code, output = kernel(own, mptcp_kernel_source="backports")
    assert code != 0 and "lab_kernel_ok: true" in output
    code, output = kernel(own, mptcp_kernel_source="backports", **CONSENT)
    assert code == 0, output
    after = own.ssh("server1", "uname -r").strip()
    assert after != before and tuple(map(int, after.split(".")[:2])) > (6, 12)
    menu = own.ssh("server1", "cat /boot/grub/grub.cfg; ls /etc/default/grub.d")
    assert before in menu
    assert 'set default="0"' in menu and "90-mptcp-lab" not in menu  # it comes first, so updates boot too
    own.ssh("server1", "python3 -c 'import socket; socket.socket(2, 1, 262)'")
    go_back(own, "server1", "up")
    assert own.ssh("server1", "uname -r").strip() == before


@pytest.fixture(scope="module")
def broken(own: OwnLab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with a kernel that finds no root filesystem: it has no initramfs, and panics for ever."""
    folder = tmp_path_factory.mktemp("package")
    tree = folder / "tree"
    for part in ("DEBIAN", "boot", f"lib/modules/{BROKEN}"):
        (tree / part).mkdir(parents=True)
    shutil.copyfile(disk.image(own.paths) / "vmlinuz", tree / f"boot/vmlinuz-{BROKEN}")
    (tree / "lib/modules" / BROKEN / "modules.order").touch()
    about = {"Package": f"linux-image-{BROKEN}", "Version": "1", "Architecture": "amd64"}
    about |= {"Maintainer": "Nobody <nobody@example.net>", "Description": "a kernel that does not boot"}
    (tree / "DEBIAN/control").write_text("".join(f"{name}: {value}\n" for name, value in about.items()))
    script = tree / "DEBIAN/postinst"
    script.write_text("#!/bin/sh\nexec update-grub\n")
    script.chmod(0o755)
    package = folder / f"linux-image-{BROKEN}.deb"
    run("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(package))
    return package


@contextmanager
def served(own: OwnLab, folder: Path) -> Iterator[str]:
    """Serve a folder to server1 from the lab's switch; yield its address."""
    on_switch = ["nsenter", f"--net=/run/netns/{own.paths.fabric}"]
    run(*on_switch, "ip", "address", "add", f"{SERVER}/24", "dev", "path1")
    own.ssh("server1", f"ip address add {OWN}/24 dev eth1 && ip link set dev eth1 up")
    command = [*on_switch, sys.executable, "-m", "http.server", "--bind", SERVER, "8000"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://{SERVER}:8000"
    finally:
        server.kill()
        server.wait()
        run(*on_switch, "ip", "address", "del", f"{SERVER}/24", "dev", "path1")


@pytest.mark.parametrize("way", ["url", "path"])
def test_a_file_that_is_not_the_promised_one_is_refused(own: OwnLab, broken: Path, way: str) -> None:
    with served(own, broken.parent) as address:
        where = f"{address}/{broken.name}" if way == "url" else str(broken)
        files = [{way: where, "sha256": "0" * 64}]
        code, output = kernel(own, mptcp_kernel_source="files", mptcp_kernel_files=files, **CONSENT)
    assert code != 0
    assert "0" * 64 in output, output
    assert BROKEN not in own.ssh("server1", "dpkg-query --show; ls /boot")
    go_back(own, "server1", "up")


def test_a_kernel_that_does_not_come_back_is_left_by_a_reset(own: OwnLab, broken: Path) -> None:
    before = own.ssh("server1", "uname -r").strip()
    digest = hashlib.sha256(broken.read_bytes()).hexdigest()
    with served(own, broken.parent) as address:
        files = [{"url": f"{address}/{broken.name}", "sha256": digest}]
        wanted = {"mptcp_kernel_source": "files", "mptcp_kernel_files": files, "kernel_reboot_within": 60}
        code, output = kernel(own, **wanted, **CONSENT)
    assert code != 0
    assert f"server1 did not come back within 60 s of its reboot into {BROKEN}: reset it" in output, output
    assert f"{before} boots then, since {BROKEN} was to boot this once" in output
    console = own.paths.host("server1") / "console.log"
    eventually(
        lambda: console.read_text(errors="replace").count("Kernel panic"), until=bool, within=ANSWERS_WITHIN
    )
    with monitor(own.paths, "server1") as machine:
        machine.reset()
    answers_again(own, "server1")
    assert own.ssh("server1", "uname -r").strip() == before
    menu = own.ssh("server1", "cat /boot/grub/grub.cfg")
    assert f"vmlinuz-{before}" in menu and f"vmlinuz-{BROKEN}" in menu
    go_back(own, "server1", "up")
