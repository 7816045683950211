"""Build the disks of a column: the machine's root filesystem, and the images of the hosts inside it.

One root filesystem serves all kernels. It has no kernel, no network and no identity.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from pathlib import Path

from mptcp_lab.inventory.model import Lab
from mptcp_lab.labs.command import run
from mptcp_lab.labs.containers import image as containers
from mptcp_lab.labs.containers import rootfs
from mptcp_lab.labs.containers.recipe import SUITE, Recipe
from mptcp_lab.labs.containers.rootfs import Say
from mptcp_lab.labs.lab_paths import LabPaths
from mptcp_lab.labs.vms.disk import GUEST as VM_GUEST
from mptcp_lab.labs.vms.disk import MASKED

#: The machine runs containers, the fabric, and the code of this package. iproute2 and nftables are
#: there for the trials of the kernel's features; initramfs-tools makes the initramfs of each kernel.
MACHINE = Recipe(
    suite=SUITE,
    base=tuple(
        "systemd,systemd-sysv,dbus,udev,kmod,zstd,initramfs-tools,openssh-server,openssh-client,python3,python3-yaml,"
        "iproute2,nftables,procps,util-linux,systemd-container".split(",")
    ),
    pool={},
    masked=MASKED,
    revision=2,
)
GUEST = Path(__file__).with_name("guest")
#: Size of the sparse file: the root filesystem, and what seven hosts write.
SIZE = "4G"


def machine_image(paths: LabPaths) -> Path:
    """Return the folder of the machine's image, which may not exist yet: ``disk.img`` and ``root/``."""
    digest = hashlib.sha256(MACHINE.fingerprint().encode())
    for folder in (VM_GUEST, GUEST):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                digest.update(path.read_bytes())
    return paths.cache / f"machine-{digest.hexdigest()[:12]}"


def hosts_image(paths: LabPaths, lab: Lab) -> Path:
    """Return the folder of the read-only disk with the images of the lab's hosts; it may not exist yet."""
    names = sorted(folder.name for folder in _images_of(paths, lab))
    return paths.cache / f"images-{hashlib.sha256(' '.join(names).encode()).hexdigest()[:12]}"


def _images_of(paths: LabPaths, lab: Lab) -> set[Path]:
    return {containers.image(paths, containers.recipe_of(host)) for host in lab.hosts.values()}


def build_images(paths: LabPaths, lab: Lab, say: Say) -> None:
    """Build the hosts' images that are not in the cache; labs without a machine use them too."""
    if not containers.all_present(paths, lab):
        containers.build(paths, lab, say)


def build_disks(paths: LabPaths, lab: Lab, say: Say) -> None:
    """Build the disks that are not in the cache, from the hosts' images."""
    if not (machine_image(paths) / "manifest.json").is_file():
        _build_machine(paths, say)
    if not (hosts_image(paths, lab) / "disk.img").is_file():
        _build_hosts_disk(paths, lab, say)


def _build_machine(paths: LabPaths, say: Say) -> None:
    say("building the root filesystem of the machine that runs a kernel (once)")
    with containers.draft_of(paths, machine_image(paths)) as draft:
        root = draft / "root"
        hooks = [f'--essential-hook=cp -RT {shlex.quote(str(each))} "$1"' for each in (VM_GUEST, GUEST)]
        enable = '--customize-hook=chroot "$1" systemctl enable --quiet vm-management.service ssh.service'
        rootfs.make(root, MACHINE, say, [*hooks, enable])
        manifest = rootfs.manifest(root, MACHINE)
        (root / "etc/fstab").write_text("")  # column-init mounts what there is
        (root / "etc/hostname").write_text("column\n")
        for folder in ("srv/images", "usr/lib/modules"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        make_disk(root, draft / "disk.img", SIZE)
        (draft / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def _build_hosts_disk(paths: LabPaths, lab: Lab, say: Say) -> None:
    say("copying the hosts' images to a disk (once)")
    with containers.draft_of(paths, hosts_image(paths, lab)) as draft:
        root = draft / "root"
        root.mkdir()
        for folder in _images_of(paths, lab):
            run("cp", "-al", str(folder), str(root / folder.name), within=300)
        make_disk(root, draft / "disk.img", "2G")
        shutil.rmtree(root)


def make_disk(root: Path, disk: Path, size: str) -> None:
    """Make an ext4 disk image with the contents of a folder; no loop device is needed."""
    run("mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", str(root), str(disk), size, within=600)
