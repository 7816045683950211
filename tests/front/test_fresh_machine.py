"""The first commands on a Debian 13 as it was just installed: the hosts' root filesystem, with less in it.

The checkout lies at a path with a space. A network namespace or chroot cannot hide a kernel module: what `ip`
answers where there is none is tried in tests/embedded/test_kernel.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.front.conftest import Checkout
from tests.labs import build_root_filesystem

Run = Callable[..., subprocess.CompletedProcess[str]]
#: Where the checkout is seen on the fresh machine.
WORK = "/root/my lab"
#: What the embedded lab needs of Debian's packages, and a fresh machine has not.
MISSING = "systemd-container mmdebstrap netcat-openbsd python3-venv".split()
#: Makes the fresh machine over an image, in a mount namespace, and runs a command there.
MACHINE = """\
set -e
image=$1 checkout=$2 remove=$3
shift 3
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$image,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
for path in $remove; do rm -r "/mnt/root$path"; done
mkdir "/mnt/root/root/my lab"
mount --bind "$checkout" "/mnt/root/root/my lab"
mount -t proc proc /mnt/root/proc
mount --rbind /sys /mnt/root/sys
mount --rbind /dev /mnt/root/dev
exec chroot /mnt/root env -i HOME=/root PATH=/usr/local/bin:/usr/bin:/bin "$@"
"""
#: Hosts of the lab have these, and a machine need not.
NOT_FRESH = ("/usr/sbin/nft",)


@pytest.fixture(scope="module")
def root_filesystem() -> Path:
    return build_root_filesystem()


@pytest.fixture
def on_fresh_machine(root_filesystem: Path, checkout: Checkout) -> Iterator[Run]:
    def run(*words: str, remove: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        argv = ["unshare", "--mount", "sh", "-c", MACHINE, "sh", str(root_filesystem), str(checkout.root)]
        argv += [" ".join((*NOT_FRESH, *remove)), f"{WORK}/lab", *words]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    if os.geteuid() != 0:
        pytest.fail("root is needed for a machine's mounts: sudo ./lab test")
    yield run
    shutil.rmtree(checkout.root)


def missing(shown: str) -> list[str]:
    """Return what a report of the doctor calls missing."""
    return [line.split()[1] for line in shown.splitlines() if line.startswith("MISSING")]


def test_the_doctor_names_all_that_is_missing_at_once(on_fresh_machine: Run, checkout: Checkout) -> None:
    done = on_fresh_machine("doctor")
    assert done.returncode == 1
    assert set(MISSING) <= set(missing(done.stdout))
    assert f"apt-get install {' '.join(missing(done.stdout))} " in done.stderr
    assert "nft" not in " ".join(missing(done.stdout))
    assert "ok      nf_tables" in done.stdout and "ok      bridge" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert checkout.is_untouched()


def test_the_doctor_names_what_another_kernel_needs_besides(
    on_fresh_machine: Run, checkout: Checkout
) -> None:
    done = on_fresh_machine("doctor", "--kernel", "debian-12")
    assert done.returncode == 1
    assert {*MISSING, "qemu-system-x86", "qemu-utils"} <= set(missing(done.stdout))
    assert "untried kernel debian-12" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert checkout.is_untouched()


def test_the_doctor_needs_no_python_to_name_packages(on_fresh_machine: Run) -> None:
    done = on_fresh_machine("doctor", remove=("/usr/bin/python3", "/usr/bin/python3.13"))
    assert done.returncode == 1
    assert {"python3", *MISSING} <= set(missing(done.stdout))


@pytest.mark.parametrize("command", ["run", "up"])
def test_the_first_command_names_all_packages_and_prepares_nothing(
    on_fresh_machine: Run, checkout: Checkout, command: str
) -> None:
    done = on_fresh_machine(command)
    assert done.returncode == 4
    named = done.stderr.partition("These system packages are missing: ")[2].splitlines()[0].split()
    assert set(MISSING) <= set(named) and len(named) == len(set(named))
    assert f"./lab {command} --yes" in done.stderr
    assert not (checkout.root / ".venv").exists()


def test_the_tests_need_qemu_too(on_fresh_machine: Run) -> None:
    """One brings a lab up on another kernel, in a virtual machine."""
    done = on_fresh_machine("test")
    assert {"tshark", "qemu-system-x86", "qemu-utils"} <= set(done.stderr.split())


@pytest.mark.parametrize("words", ["status", "down", "shell client", "pcap x", "render", "lock", "restore"])
def test_no_command_leaves_half_an_environment(on_fresh_machine: Run, checkout: Checkout, words: str) -> None:
    done = on_fresh_machine(*words.split())
    assert done.returncode == 4
    assert "These system packages are missing: python3-venv" in done.stderr
    assert "ensurepip" not in done.stderr
    assert not (checkout.root / ".venv").exists()
    assert (checkout.root / ".lab").stat().st_mode & 0o777 == 0o700


def test_nothing_is_missing_where_all_is_there(on_fresh_machine: Run, checkout: Checkout) -> None:
    """All but what is missing is there already: stand-ins for the programs, and a Python with venv."""
    tools = checkout.root / "stand-ins"
    tools.mkdir()
    for name in ("systemd-nspawn", "mmdebstrap", "ssh", "tc", "ip", "flock"):
        (tools / name).write_text(f'#!/bin/sh\n[ ! -x "/usr/sbin/{name}" ] || exec "/usr/sbin/{name}" "$@"\n')
    (tools / "nc").write_text("#!/bin/sh\necho '  -U  Use UNIX domain socket' >&2\n")
    (tools / "python3").write_text(
        '#!/bin/sh\n[ "$2" = "import ensurepip, venv" ] || exec /usr/bin/python3 "$@"\n'
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    script = checkout.root / "lab"
    script.write_text(
        script.read_text()
        .replace("PATH=$PATH:", f'PATH="{WORK}/stand-ins:$PATH":')
        .replace("/usr/share/keyrings/debian-archive-keyring.gpg:", "/etc/debian_version:")
    )
    done = on_fresh_machine("doctor")
    assert missing(done.stdout) == []
    assert done.stdout.splitlines()[-1] == "Nothing is missing."
    assert (done.returncode, done.stderr) == (0, "")
