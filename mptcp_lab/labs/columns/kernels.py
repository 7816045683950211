"""Prepare the kernel of a column: vmlinuz, a disk with its modules, an initramfs that finds the root disk.

A prepared kernel is a folder in the cache: ``vmlinuz``, ``kernel.json`` and, if the kernel has modules,
``modules.img`` and ``initrd.img``. One without modules has to have built in what `BUILT_IN` lists.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from mptcp_lab.labs.columns.image import machine_image, make_disk
from mptcp_lab.labs.columns.spec import BZIMAGE, MODULES, PACKAGE, RELEASE, SUITES, KernelSpec, read_release
from mptcp_lab.labs.command import run
from mptcp_lab.labs.containers import image as containers
from mptcp_lab.labs.containers import rootfs
from mptcp_lab.labs.containers.recipe import SIGNED_SINCE, part
from mptcp_lab.labs.containers.rootfs import Say
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths

#: The options that a kernel without modules has to have, to boot the machine and answer over SSH.
BUILT_IN = (
    "CONFIG_VIRTIO_PCI CONFIG_VIRTIO_BLK CONFIG_VIRTIO_NET CONFIG_EXT4_FS CONFIG_DEVTMPFS CONFIG_TMPFS "
    "CONFIG_CGROUPS CONFIG_UNIX CONFIG_INET CONFIG_SERIAL_8250_CONSOLE"
).split()
#: How many kernels that are no Debian packages the cache keeps; the least recently used goes first.
OWN_KEPT = 4
#: Drivers and filesystems of Debian's kernels that no column has a use for. They are most of the modules.
UNUSED = (
    "sound arch/x86/kvm drivers/gpu drivers/media drivers/staging drivers/usb drivers/scsi "
    "drivers/infiniband drivers/net/ethernet drivers/net/wireless drivers/net/usb drivers/iio "
    "drivers/hid drivers/input drivers/hwmon drivers/platform drivers/mtd drivers/md drivers/ata "
    "drivers/nvme drivers/bluetooth drivers/crypto drivers/edac drivers/i2c drivers/mmc "
    "drivers/target drivers/thunderbolt drivers/video drivers/isdn drivers/rtc drivers/mfd "
    "drivers/accel drivers/comedi drivers/leds drivers/power drivers/soundwire fs/xfs fs/btrfs "
    "fs/bcachefs fs/ocfs2 fs/gfs2 fs/f2fs fs/nfs fs/nfsd fs/smb fs/ceph fs/jfs fs/ubifs fs/reiserfs "
    "net/bluetooth net/mac80211 net/wireless net/ceph net/sunrpc net/vmw_vsock"
).split()
#: Makes the initramfs with the machine's own tools, in a mount namespace: the cached root is not changed.
MAKE_INITRAMFS = """\
set -eu
root=$1 work=$2 modules=$3 release=$4
mkdir "$work/upper" "$work/work" "$work/merged"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/work" "$work/merged"
mount -t proc proc "$work/merged/proc"
mount --bind "$modules" "$work/merged/usr/lib/modules"
[ ! -e "$work/config" ] || cp "$work/config" "$work/merged/boot/config-$release"
chroot "$work/merged" depmod "$release"
chroot "$work/merged" mkinitramfs -o /boot/initrd.img "$release"
cp "$work/merged/boot/initrd.img" "$work/initrd.img"
"""


def kernel_folder(paths: LabPaths, spec: KernelSpec) -> Path:
    """Return the folder of a prepared kernel, which may not exist yet."""
    return paths.cache / (
        f"kernel-{spec.word}" if spec.kind == "debian" else f"kernel-own-{spec.fingerprint()}"
    )


def prepare_kernel(paths: LabPaths, spec: KernelSpec, say: Say) -> Path:
    """Return the folder of the kernel, after preparing it if it is not in the cache."""
    final = kernel_folder(paths, spec)
    if (final / "kernel.json").is_file():
        os.utime(final)
        return final
    say(f"preparing the kernel {spec.label} (once)")
    with containers.draft_of(paths, final, *paths.cache.glob("kernel-*")) as draft:
        work = draft / "work"
        work.mkdir()
        sources = _collect(spec, work, say)
        _finish(paths, spec, draft, work, sources)
        shutil.rmtree(work)
    _make_room(paths)
    return final


def _make_room(paths: LabPaths) -> None:
    own = sorted(paths.cache.glob("kernel-own-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in own[OWN_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)  # costs only disk space


def _collect(spec: KernelSpec, work: Path, say: Say) -> list[Path]:
    """Lay out ``vmlinuz``, perhaps ``config`` and ``modules/`` in `work`; return the files they come from."""
    if spec.kind == "debian":
        return _unpack(_download(SUITES[spec.word], work, say), work)
    if spec.kind == "debs":
        return _unpack(spec.files, work)
    source = spec.files[0] / BZIMAGE if spec.kind == "tree" else spec.files[0]
    shutil.copyfile(source, work / "vmlinuz")
    if spec.kind == "tree":
        _install_modules(spec.files[0], work)
    elif spec.modules:
        _copy_modules(spec.modules, read_release(source), work)
    return [source]


def _download(suite: str, work: Path, say: Say) -> list[Path]:
    """Download a suite's kernel, verified by apt; return its packages."""
    base = suite.removesuffix("-backports") if suite not in SIGNED_SINCE else "trixie"
    rootfs.download(work / "apt", base, part(suite, [PACKAGE]), say)
    return sorted((work / "apt/srv/pool" / suite).glob("linux-[bim]*.deb"))


def _unpack(packages: tuple[Path, ...] | list[Path], work: Path) -> list[Path]:
    """Unpack kernel packages and lay out their files."""
    tree = work / "tree"
    for package in packages:
        run("dpkg-deb", "-x", str(package), str(tree), within=300)
    images = sorted([*tree.glob("boot/vmlinuz-*"), *tree.glob("usr/lib/modules/*/vmlinuz")])
    if not images:
        names = ", ".join(package.name for package in packages) or "no package"
        raise EmbeddedError(
            f"no kernel image is in {names}", "name the linux-image package, with its modules"
        )
    if len(releases := sorted({read_release(image) for image in images})) > 1:
        raise EmbeddedError(
            f"several kernels are in these packages: {', '.join(releases)}", "name the packages of one kernel"
        )
    images[0].rename(work / "vmlinuz")
    for config in tree.glob("boot/config-*"):
        config.rename(work / "config")
    release = read_release(work / "vmlinuz")
    for place in (tree / "usr/lib/modules" / release, tree / "lib/modules" / release):
        if place.is_dir():
            (work / "modules").mkdir(exist_ok=True)
            place.rename(work / "modules" / release)
            break
    for folder in UNUSED:
        unused = work / "modules" / release / "kernel" / folder
        shutil.rmtree(unused, ignore_errors=True)  # not every kernel has it
    return list(packages)


def _install_modules(tree: Path, work: Path) -> None:
    """Install the modules of a kernel's source tree, if it has any, with its own makefile."""
    shutil.copyfile(tree / ".config", work / "config")
    release = (tree / RELEASE).read_text().strip()
    if not (tree / MODULES).is_file() or not (tree / MODULES).read_text().strip():
        return
    install = ["modules_install", f"INSTALL_MOD_PATH={work / 'tree'}", "INSTALL_MOD_STRIP=1", "DEPMOD=true"]
    run("make", "-s", "-C", str(tree), *install, within=600)
    _copy_modules(work / "tree", release, work)


def _copy_modules(folder: Path, release: str, work: Path) -> None:
    """Copy the modules of a release."""
    shutil.copytree(
        find_modules(folder, release),
        work / "modules" / release,
        ignore=shutil.ignore_patterns("build", "source"),
    )


def find_modules(folder: Path, release: str) -> Path:
    """Return the folder with the modules of a release: ``lib/modules/RELEASE``, or `folder` itself.

    Raises:
        EmbeddedError: `folder` has no modules of this release.
    """
    for place in (folder / "lib/modules" / release, folder / release, folder):
        if (place / "kernel").is_dir() and (place is not folder or folder.name == release):
            return place
    raise EmbeddedError(
        f"{folder} has no modules of the kernel {release}",
        f"make modules_install INSTALL_MOD_PATH={folder} in the source tree of that kernel",
    )


def _finish(paths: LabPaths, spec: KernelSpec, draft: Path, work: Path, sources: list[Path]) -> None:
    """Make the disk of modules and the initramfs, and write what the kernel is."""
    release = read_release(work / "vmlinuz")
    if (work / "modules" / release).is_dir():
        root = machine_image(paths) / "root"
        arguments = [str(root), str(work), str(work / "modules"), release]
        run("unshare", "--mount", "sh", "-c", MAKE_INITRAMFS, "sh", *arguments, within=600)
        (work / "initrd.img").rename(draft / "initrd.img")
        make_disk(work / "modules", draft / "modules.img", "1G")
    if (work / "config").is_file():
        (work / "config").rename(draft / "config")
    (work / "vmlinuz").rename(draft / "vmlinuz")
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sources}
    document = {"spec": spec.word, "release": release, "sha256": digests}
    (draft / "kernel.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
