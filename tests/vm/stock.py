"""A virtual machine with Debian as installed, in which the embedded lab runs: its kernel, Python and systemd.

The machine reaches no network. So it holds a copy of this checkout with its `.venv` prepared by `./lab`, the
packages that `./lab up` asks for, and the hosts' image. `./lab up` runs inside. Playbooks and suite run
outside, natively, against the hosts' SSH sockets, which one SSH connection forwards: inside an emulated
machine they take nine times as long.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from packaging.markers import Marker

from mptcp_lab.inventory import load
from mptcp_lab.labs import fabric
from mptcp_lab.labs.command import run
from mptcp_lab.labs.containers import image
from mptcp_lab.labs.containers.recipe import mirror
from mptcp_lab.labs.lab_paths import LabPaths, lab_paths
from mptcp_lab.labs.vms import qemu
from mptcp_lab.labs.vms.disk import GUEST, KERNEL
from mptcp_lab.paths import ROOT
from mptcp_lab.probe import eventually

SUITES = {"debian-12": "bookworm", "debian-13": "trixie"}
#: What Debian's installer leaves, and what `./lab up` asks for on such a machine.
PACKAGES = (
    "systemd,systemd-sysv,dbus,udev,kmod,zstd,initramfs-tools,procps,iproute2,openssh-server,python3,sudo,"
    "ca-certificates,systemd-container,mmdebstrap,netcat-openbsd,openssh-client,util-linux,"
    "debian-archive-keyring,python3-venv"
).split(",")
INSIDE = LabPaths(Path("/root/mptcp-lab"), "embedded")
MEMORY_MIB, DISK_SIZE = 3072, "6G"
#: An emulated machine on a loaded one: generous, for these waits end with their condition.
BOOT_TIMEOUT_S, UP_TIMEOUT_S = 1800.0, 3600.0

#: Makes the disk in a mount namespace of its own: nothing is written to the cached root filesystem below.
MAKE_DISK = """\
set -eu
root=$1 upper=$2 work=$3 merged=$4 checkout=$5 disk=$6 size=$7
mount -t overlay overlay -o "lowerdir=$root,upperdir=$upper,workdir=$work" "$merged"
mount -t proc proc "$merged/proc"
export HOME=/root PIP_NO_INDEX=1 PIP_FIND_LINKS=/root/wheels
# Any command prepares .venv; that this one then refuses its file is no failure.
chroot "$merged" sh "$checkout/lab" pcap /dev/null >/dev/null || true
test -x "$merged$checkout/.venv/bin/pytest"
rm -rf "$merged/root/wheels"
umount "$merged/proc"
mke2fs -q -t ext4 -L root -d "$merged" "$disk" "$size"
"""


@dataclass(frozen=True)
class StockMachine:
    """A running machine: its folder outside holds the disk, keys, console and the forwarded sockets."""

    system: str
    folder: Path

    def ssh(self, command: str, within: float = BOOT_TIMEOUT_S) -> str:
        """Run a command in the machine and return what it printed."""
        return run("ssh", "-F", str(self.folder / "ssh_config"), "machine", command, within=within)

    def patience(self) -> float:
        """Return the factor of patience that `./lab up` has measured in the machine."""
        return float(self.ssh(f"cat {INSIDE.state}/patience"))

    def up(self) -> str:
        """Run the README's first command in the machine; return what it printed."""
        return self.ssh(f"cd {INSIDE.root} && ./lab up 2>&1", UP_TIMEOUT_S)


def root_filesystem(system: str) -> Path:
    """Return the machine's root filesystem, built once and kept in the cache."""
    folder = lab_paths().cache / f"stock-{system}"
    if not folder.is_dir():
        with image.draft_of(lab_paths(), folder, *folder.parent.glob("stock-*")) as draft:
            command = ["mmdebstrap", "--variant=minbase", f"--include={','.join([*PACKAGES, KERNEL])}"]
            command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")]
            command += [f'--essential-hook=cp -RT "{GUEST}" "$1"']
            enable = 'chroot "$1" systemctl enable --quiet vm-management.service ssh.service'
            command += [f"--customize-hook={enable}", SUITES[system], str(draft / "root")]
            run(*command, *([source] if (source := mirror()) else []), within=1800)
    return folder / "root"


def make_disk(system: str, folder: Path) -> None:
    """Make a bootable disk with this checkout in it, as Git has it, and the keys of the machine."""
    root, upper = root_filesystem(system), folder / "upper"
    checkout = upper / INSIDE.root.relative_to("/")
    for path in (checkout, folder / "work", folder / "merged", upper / "root/.ssh", upper / "etc/ssh"):
        path.mkdir(parents=True)
    for path in (upper, upper / "etc", upper / "etc/ssh"):
        path.chmod(0o755)
    for path in (upper / "root", upper / "root/.ssh"):
        path.chmod(0o700)
    listed = run("git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # deleted in the working tree, but not yet in the index
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, checkout / name)
    lab = load(ROOT / "inventories/embedded")
    with image.one_build(lab_paths()):
        image.build(lab_paths(), lab, print)
    kept = checkout / ".lab/cache"
    kept.mkdir(parents=True, mode=0o700)
    for built in {image.image(lab_paths(), image.recipe_of(host)) for host in lab.hosts.values()}:
        run("cp", "-a", str(built), str(kept / built.name), within=300)
    wheels(root, upper / "root/wheels")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "id_ed25519"))
    host_key = upper / "etc/ssh/ssh_host_ed25519_key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host_key))
    (folder / "known_hosts").write_text("machine " + host_key.with_suffix(".pub").read_text())
    shutil.copyfile(folder / "id_ed25519.pub", upper / "root/.ssh/authorized_keys")
    (upper / "etc/hostname").write_text(f"{system}\n")
    places = (root, upper, folder / "work", folder / "merged")
    arguments = [*map(str, places), str(INSIDE.root), str(folder / "disk.img"), DISK_SIZE]
    run("unshare", "--mount", "sh", "-c", MAKE_DISK, "sh", *arguments, within=1800)
    for name in ("vmlinuz", "initrd.img"):
        shutil.copyfile((root / name).resolve() if (root / name).is_file() else root / name, folder / name)
    shutil.rmtree(upper)


def wheels(root: Path, folder: Path) -> None:
    """Download what requirements.txt names, for the Python of a root filesystem, by this machine's pip."""
    version = next((root / "usr/lib").glob("python3.*")).name.removeprefix("python")
    folder.mkdir(parents=True)
    required = folder / "requirements.txt"
    required.write_text(requirements_for(version))
    command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--no-deps"]
    command += ["--python-version", version, "--require-hashes", "-r", str(required)]
    run(*command, "-d", str(folder), within=900)


def requirements_for(version: str) -> str:
    """Return the requirements whose markers hold for a Python such as "3.13", without these markers.

    pip evaluates markers for the Python that runs it, whatever `--python-version` says.
    """
    python = {"python_version": version, "python_full_version": f"{version}.0"}
    lines, kept = [], True
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        name, semicolon, marker = line.removesuffix("\\").partition(";")
        if not line.startswith((" ", "#")):
            kept = not semicolon or Marker(marker.strip()).evaluate(python)
            line = f"{name.strip()} \\" if line.endswith("\\") else name.strip()
        if kept:
            lines.append(line)
    return "\n".join([*lines, ""])


def free_port() -> int:
    """Return a TCP port of loopback that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def stock_machine(system: str, folder: Path) -> Iterator[StockMachine]:
    """Boot a machine; it is powered off at the end, and its disk removed."""
    make_disk(system, folder)
    port = free_port()
    (folder / "ssh_config").write_text(
        f"Host machine\n    HostName 127.0.0.1\n    Port {port}\n    HostKeyAlias machine\n    User root\n"
        f'    IdentityFile "{folder}/id_ed25519"\n    UserKnownHostsFile "{folder}/known_hosts"\n'
        "    GlobalKnownHostsFile /dev/null\n    StrictHostKeyChecking yes\n    ConnectTimeout 60\n"
        "    LogLevel ERROR\n"
    )
    machine = StockMachine(system, folder)
    command = [
        qemu.PROGRAM,
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "q35",
        "-no-reboot",
    ]
    command += [
        "-accel",
        "tcg,thread=multi,tb-size=1024",
        "-cpu",
        "qemu64",
        "-smp",
        "2",
        "-m",
        str(MEMORY_MIB),
    ]
    command += ["-device", "virtio-rng-pci", "-serial", f"file:{folder / 'console'}"]
    command += ["-drive", f"if=virtio,format=raw,cache=unsafe,file={folder / 'disk.img'}"]
    command += ["-netdev", f"user,id=n0,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:22"]
    command += ["-device", "virtio-net-pci,netdev=n0,romfile=", "-kernel", str(folder / "vmlinuz")]
    command += ["-initrd", str(folder / "initrd.img"), "-append"]
    command += ["root=LABEL=root rw console=ttyS0 net.ifnames=0 quiet mitigations=off panic=5"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: _answers(machine, process), until=bool, within=BOOT_TIMEOUT_S)
        yield machine
    finally:
        process.terminate()
        process.wait()
        (folder / "disk.img").unlink()


def _answers(machine: StockMachine, process: subprocess.Popen[bytes]) -> bool:
    """Return whether SSH works now; fail where QEMU has ended."""
    assert process.poll() is None, f"QEMU ended with {process.returncode}; see {machine.folder / 'console'}"
    config = str(machine.folder / "ssh_config")
    return (
        subprocess.run(["ssh", "-F", config, "machine", "true"], capture_output=True, check=False).returncode
        == 0
    )


@contextmanager
def inventory_outside(machine: StockMachine) -> Iterator[Path]:
    """Yield an inventory of the machine's hosts as hardware: SSH forwarded, cables pulled by a command."""
    folder, own = machine.folder / "inventory", machine.folder
    shutil.copytree(ROOT / "inventories/embedded", folder, ignore=shutil.ignore_patterns("lab.lock.yml"))
    lab = load(folder)
    master = f"ssh -F {own}/ssh_config -S {own}/master machine"
    hosts = yaml.safe_load((folder / "hosts.yml").read_text())
    for group in hosts["all"]["children"].values():
        for name, host in group["hosts"].items():
            for nic in host["lab_nics"]:
                port = fabric.find(lab, name, nic["device"]).port
                command = f"{master} ip -n {INSIDE.fabric} link set {port}"
                nic |= {"unplug": f"{command} down", "plug": f"{command} up"}
    (folder / "hosts.yml").write_text(yaml.safe_dump(hosts))
    variables = yaml.safe_load((folder / "group_vars/all.yml").read_text())
    variables |= {"lab_flavour": "hardware", "lab_name": f"stock-{machine.system}"}
    # The suite reads these without Ansible, so they are no templates.
    variables |= {"ansible_ssh_common_args": f"-F {own}/hosts_config", "lab_patience": machine.patience()}
    variables["ansible_timeout"] = round(10 * variables["lab_patience"])
    for name in ("ansible_host", "lab_ssh_config"):
        del variables[name]
    (folder / "group_vars/all.yml").write_text(yaml.safe_dump(variables))
    for name in ("ssh_config", "known_hosts", "id_ed25519"):
        text = machine.ssh(f"cat {INSIDE.state}/{name}")
        text = text.replace(str(INSIDE.run), str(own / "run")).replace(str(INSIDE.state), str(own / "hosts"))
        target = own / ("hosts_config" if name == "ssh_config" else f"hosts/{name}")
        target.parent.mkdir(exist_ok=True)
        target.write_text(text)
        target.chmod(0o600)
    forward = ["ssh", "-F", str(own / "ssh_config"), "-M", "-S", str(own / "master"), "-N"]
    for name in lab.hosts:
        (own / "run" / name).mkdir(parents=True)
        forward += ["-L", f"{own}/run/{name}/ssh:{INSIDE.socket(name)}"]
    process = subprocess.Popen([*forward, "machine"], stdin=subprocess.DEVNULL)
    try:
        last = own / "run" / list(lab.hosts)[-1] / "ssh"
        eventually(lambda: last.exists() or process.poll() is not None, until=bool, within=BOOT_TIMEOUT_S)
        assert process.poll() is None, "the hosts' sockets could not be forwarded"
        yield folder
    finally:
        process.terminate()
        process.wait()
