"""Build the disk image that all virtual machines share: a bootable root filesystem with a kernel."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from pathlib import Path

from mptcp_lab.inventory.model import Lab
from mptcp_lab.labs.command import run
from mptcp_lab.labs.containers import rootfs
from mptcp_lab.labs.containers.image import draft_of
from mptcp_lab.labs.containers.recipe import BASE, IDLE, ROLES_NEED, SUITE, Recipe
from mptcp_lab.labs.containers.rootfs import Say
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths
from mptcp_lab.labs.vms import qemu

KERNEL = "linux-image-amd64"
#: Units that no virtual machine needs.
MASKED = (
    "ssh.socket",
    "sshd-keygen.service",  # `up` supplies the host key
    "e2scrub_reap.service",
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-binfmt.service",
    "systemd-pstore.service",
    "dev-hugepages.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "modprobe@drm.service",
    *IDLE,
)
#: Debian's kernel; the pool also has the kernel of backports, for the kernel role.
VM = Recipe(
    suite=SUITE,
    base=(*BASE, "udev", "kmod", "zstd", "initramfs-tools", "grub-pc-bin", "grub2-common", KERNEL),
    pool={SUITE: ROLES_NEED, f"{SUITE}-backports": (KERNEL,)},
    masked=MASKED,
    revision=1,
)
GUEST = Path(__file__).with_name("guest")
SIZE = "4G"  # of the sparse file
#: Modules that GRUB needs to find the root filesystem by its label and to load the guest's grub.cfg.
GRUB_MODULES = (
    "biosdisk part_msdos part_gpt ext2 search search_label search_fs_uuid configfile normal linux gzio test "
    "echo serial terminal minicmd boot loadenv"
).split()
GRUB_START = """\
search --no-floppy --label root --set=root
set prefix=($root)/boot/grub
configfile ($root)/boot/grub/grub.cfg
"""


def image(paths: LabPaths) -> Path:
    """Return the folder of the image, which may not exist yet: ``disk.img``, ``grub.lnx`` (for QEMU) etc."""
    return paths.cache / f"vm-{fingerprint()}"


def fingerprint() -> str:
    """Return the name of the image: a hash of its recipe and of the guest's files."""
    digest = hashlib.sha256(VM.fingerprint().encode())
    for path in sorted(GUEST.rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def present(paths: LabPaths, lab: Lab) -> bool:
    """Return whether the complete image exists; raise `EmbeddedError` if a host needs another image."""
    for host in lab.hosts.values():
        if host.variables.get("lab_image", "debian-13") != "debian-13":
            raise EmbeddedError(
                f"{host.name}: lab_image is {host.variables['lab_image']}; VMs are always debian-13",
                "remove lab_image from the inventory",
            )
    return (image(paths) / "manifest.json").is_file()


def build(paths: LabPaths, _lab: Lab, say: Say) -> None:
    """Build the image, and boot it once; raise `EmbeddedError` if it does not boot."""
    say("building the virtual machines' disk image and package pool (once)")
    with draft_of(paths, image(paths)) as draft:
        root = draft / "root"
        hook = f'--essential-hook=cp -RT {shlex.quote(str(GUEST))} "$1"'
        enable = '--customize-hook=chroot "$1" systemctl enable --quiet vm-management.service ssh.service'
        rootfs.make(root, VM, say, [hook, enable])
        manifest = rootfs.manifest(root, VM)
        _bootable(root, draft)
        shutil.rmtree(root)
        say("booting the image for the first time")
        # Emulation works everywhere; each machine tests separately whether KVM works.
        if not qemu.first_boot(draft, "tcg", keep=True):
            raise EmbeddedError(
                "the image of the virtual machines does not boot", "./lab up to build it anew"
            )
        (draft / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def _bootable(root: Path, draft: Path) -> None:
    """Create the disk, and a GRUB image that QEMU starts like a kernel; no loop device is needed."""
    for name in ("vmlinuz", "initrd.img"):
        shutil.copyfile(root / name, draft / name)
    (root / "start.cfg").write_text(GRUB_START)
    mkimage = "grub-mkimage -O i386-pc -p /boot/grub -c /start.cfg -o /core.img".split()
    run("chroot", str(root), *mkimage, *GRUB_MODULES)
    parts = (root / "usr/lib/grub/i386-pc/lnxboot.img", root / "core.img")
    (draft / "grub.lnx").write_bytes(b"".join(part.read_bytes() for part in parts))
    for name in ("start.cfg", "core.img"):
        (root / name).unlink()
    image = str(draft / "disk.img")
    run("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(root), image, SIZE, within=300)
