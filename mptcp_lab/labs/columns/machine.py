"""Run the machine of a column: QEMU with a kernel booted directly, four disks, SSH on a Unix socket."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from mptcp_lab import patience
from mptcp_lab.inventory.model import Lab
from mptcp_lab.labs import fabric, keys
from mptcp_lab.labs.columns.image import hosts_image, machine_image, make_disk
from mptcp_lab.labs.command import run
from mptcp_lab.labs.containers import hosts
from mptcp_lab.labs.executor import LOCAL, executor_of
from mptcp_lab.labs.lab_paths import COLUMN, LabPaths, give_to_caller, private_folder
from mptcp_lab.labs.vms import qemu
from mptcp_lab.labs.vms.machines import MANAGEMENT_ADDRESS, loopback

MEMORY_MIB, PROCESSORS = 3072, 2
#: The process that forwards the hosts' sockets, where a host's name would be.
FORWARD = "column-forward"
#: Timeout of a boot until SSH answers, on a normal machine, and the factor while it is not measured.
BOOT_WITHIN_S, EMULATED = 60.0, 20.0
#: Lower limit of the factor of an emulated machine: it may be measured while nothing else runs, and other
#: programs slow it down more than a machine with KVM.
LEAST_EMULATED = 5.0
#: Word that column-init prints when `lab_try` is on the kernel's command line.
TRIED = "column-init: booted"
COMMAND_LINE = (
    "root=/dev/vda ro rootwait console=ttyS0 net.ifnames=0 quiet mitigations=off panic=1 no_timer_check "
    "init=/usr/local/sbin/column-init"
)


def accelerator(paths: LabPaths, kernel: Path) -> str:
    """Return ``kvm`` if a boot with KVM has worked since this machine started, else ``tcg``."""

    def boot() -> bool:
        words = [*_base_command("kvm"), "-serial", "stdio", *_boot_arguments(kernel, "lab_try=1")]
        words += _disk(machine_image(paths) / "disk.img", "snapshot=on")
        return qemu.prints(words, TRIED, BOOT_WITHIN_S)

    return qemu.remember_accelerator(paths, boot)


def _base_command(accelerator: str) -> list[str]:
    return [*qemu.base_command(accelerator, COLUMN, MEMORY_MIB, PROCESSORS), "-no-reboot"]


def _boot_arguments(kernel: Path, more: str = "") -> list[str]:
    """Return the arguments that boot a prepared kernel directly."""
    words = ["-kernel", str(kernel / "vmlinuz"), "-append", f"{COMMAND_LINE} {more}".strip()]
    return [*words, "-initrd", str(kernel / "initrd.img")] if (kernel / "initrd.img").is_file() else words


def _disk(file: Path, *options: str) -> list[str]:
    form = "qcow2" if file.suffix == ".qcow2" else "raw"
    return ["-drive", ",".join(["if=virtio", f"format={form}", "cache=unsafe", *options, f"file={file}"])]


def command(paths: LabPaths, lab: Lab, kernel: Path, accelerator: str) -> list[str]:
    """Return the QEMU command line of a column. The order of its disks is known to column-init."""
    own = paths.host(COLUMN)
    words = [*_base_command(accelerator), "-name", COLUMN, "-serial", "stdio", *_boot_arguments(kernel)]
    words += _disk(own / "disk.qcow2")
    words += _disk(hosts_image(paths, lab) / "disk.img", "readonly=on")
    words += _disk(own / "identity.img", "readonly=on")
    if (kernel / "modules.img").is_file():
        words += _disk(kernel / "modules.img", "readonly=on")
    words += ["-qmp", f"unix:{paths.run / COLUMN / 'qmp'},server=on,wait=off"]
    forward = f"hostfwd=tcp:{loopback(COLUMN)}:22-{MANAGEMENT_ADDRESS}:22"
    words += ["-netdev", f"user,id=management,ipv6=off,restrict=on,{forward}"]
    return [*words, "-device", "virtio-net-pci,netdev=management,romfile="]


def prepare(paths: LabPaths) -> str:
    """Create the machine's disk and identity; return its public host key."""
    own = private_folder(paths.host(COLUMN))
    backing = ("-b", str(machine_image(paths) / "disk.img"), "-F", "raw")
    run("qemu-img", "create", "-q", "-f", "qcow2", *backing, str(own / "disk.qcow2"))
    identity = private_folder(own / "identity")
    public = keys.ensure_key(identity / "ssh_host_ed25519_key", COLUMN)
    (identity / "authorized_keys").write_text(keys.user_key(paths) + "\n")
    make_disk(identity, own / "identity.img", "1M")
    shutil.rmtree(identity)
    return public


def start(paths: LabPaths, words: list[str]) -> None:
    """Power the machine on, and return at once. Its SSH port exists in a namespace of this lab only."""
    if paths.fabric not in fabric.list_namespaces(paths):
        LOCAL.ip_batch(None, [f"netns add {paths.fabric}"])
        LOCAL.ip_batch(paths.fabric, ["link set lo up"])
    supervisor = str(Path(qemu.__file__).with_name("supervisor.py"))
    keeper = [sys.executable, "-B", supervisor, str(paths.socket(COLUMN)), loopback(COLUMN), *words]
    hosts.launch(paths, COLUMN, ["nsenter", f"--net=/run/netns/{paths.fabric}", *keeper])


def forward_sockets(paths: LabPaths, lab: Lab) -> None:
    """Forward the SSH socket of each host in the machine to the same path here, by one SSH connection.

    It runs as the user who calls `./lab`: only this user and root can connect to a socket of that user.
    """
    hosts.stop(paths, [FORWARD])
    paths.control.unlink(missing_ok=True)
    words = ["ssh", "-F", str(paths.state / "ssh_config"), "-N", "-M", "-S", str(paths.control)]
    words += [
        "-o",
        "ExitOnForwardFailure=yes",
        "-o",
        "StreamLocalBindUnlink=yes",
        "-o",
        "ServerAliveCountMax=6",
    ]
    for name in lab.hosts:
        folder = private_folder(paths.run / name)
        give_to_caller(folder)
        words += ["-L", f"{paths.socket(name)}:{paths.socket(name)}"]
    if uid := os.environ.get("SUDO_UID"):
        words = ["setpriv", f"--reuid={uid}", f"--regid={os.environ['SUDO_GID']}", "--clear-groups", *words]
    private_folder(paths.host(FORWARD))
    hosts.launch(paths, FORWARD, [*words, COLUMN])


def measure(paths: LabPaths, accelerator: str) -> float:
    """Return the machine's factor of patience, measured over SSH."""
    measured = patience.measure_hosts(paths.state / "ssh_config", [COLUMN])
    return max(measured, LEAST_EMULATED) if accelerator == "tcg" else measured


def run_inside(paths: LabPaths, *argv: str, text: str | None = None, within: float = 60.0) -> str:
    """Run a command in the machine as root, and return what it prints."""
    return executor_of(paths).run(*argv, text=text, within=within)
