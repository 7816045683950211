"""Report whether this machine is ready for a column, or what the column that is up on it has and lacks.

Nothing is prepared, downloaded or changed here: `up` does that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from mptcp_lab.inventory.model import Lab
from mptcp_lab.labs.columns import column, kernels, machine
from mptcp_lab.labs.columns.choice import Choice
from mptcp_lab.labs.columns.image import hosts_image, machine_image
from mptcp_lab.labs.columns.record import read_record
from mptcp_lab.labs.columns.spec import KernelSpec, read_release
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths
from mptcp_lab.labs.machine_check import Finding
from mptcp_lab.labs.vms import qemu
from mptcp_lab.untrusted import Malformed, Node, parse_json, read_text

#: Upper limits for a column: disk for images and a kernel that are not in the cache, and memory.
DISK_MIB = 1024
TRIAL_WITHIN_S = 20


def examine_column(paths: LabPaths, lab: Lab, chosen: Choice) -> list[Finding]:
    """Return what was found about a kernel: in its machine if the lab is up there, else on this machine."""
    if read_record(paths) is not None:
        return examine_running(paths, lab, chosen.spec)
    found = [find_kernel(paths, chosen.spec), find_images(paths, lab), find_accelerator(paths)]
    return [*found, find_disk(paths, lab, chosen.spec), find_memory(), find_namespaces()]


def examine_running(paths: LabPaths, lab: Lab, spec: KernelSpec) -> list[Finding]:
    """Return the hosts' states, and what the kernel of the column lacks, by use."""
    states = column.status(paths, lab)
    if set(states.values()) != {"up"}:
        off = ", ".join(f"{name} {state}" for name, state in states.items() if state != "up")
        return [Finding(f"lab on {spec.label}", False, True, f"{off}; ./lab up starts them")]
    lacks = column.find_lacks(paths, lab)
    found = [Finding(f"lab on {spec.label}", True, True, f"{len(states)} hosts are up")]
    found += [
        Finding(each.name, False, each.needed, f"{each.purpose}: {each.why} ({each.options})")
        for each in lacks
    ]
    if not lacks:
        found.append(Finding("kernel features", True, True, "all that the lab and its hosts use work"))
    return found


def find_kernel(paths: LabPaths, spec: KernelSpec) -> Finding:
    """Find out whether the kernel is in the cache, or what its files lack."""
    what, folder = (
        f"kernel {spec.word if spec.kind == 'debian' else spec.kind}",
        kernels.kernel_folder(paths, spec),
    )
    if (folder / "kernel.json").is_file():
        return Finding(what, True, True, f"Linux {_release_of(folder)} in {folder}")
    if spec.kind == "debian":
        return Finding(what, None, True, "not in the cache: up downloads it, and apt verifies it")
    if spec.kind != "bzimage":
        return Finding(what, None, True, f"not in the cache: up prepares {spec.label}")
    release = read_release(spec.files[0])
    if spec.modules is None:
        built_in = f"Linux {release} without --modules needs built in {', '.join(kernels.BUILT_IN)}"
        return Finding(what, None, True, built_in)
    try:
        place = kernels.find_modules(spec.modules, release)
    except EmbeddedError as error:
        return Finding(what, False, True, str(error).replace("\n", " "))
    return Finding(what, True, True, f"Linux {release} with the modules in {place}")


def _release_of(folder: Path) -> str:
    try:
        return Node(parse_json(read_text(folder / "kernel.json")))["release"].text()
    except Malformed:
        return "of an unknown release (kernel.json is damaged)"


def find_images(paths: LabPaths, lab: Lab) -> Finding:
    """Find out whether the machine's root filesystem and the disk of its hosts' images are in the cache."""
    if not _are_images_there(paths, lab):
        return Finding("machine and host images", None, True, "not in the cache: up builds them once")
    return Finding("machine and host images", True, True, str(machine_image(paths)))


def _are_images_there(paths: LabPaths, lab: Lab) -> bool:
    has_machine = (machine_image(paths) / "manifest.json").is_file()
    return has_machine and (hosts_image(paths, lab) / "disk.img").is_file()


def find_accelerator(paths: LabPaths) -> Finding:
    """Find out whether the machine will run with KVM; a boot is not tried here."""
    slow = "the machine is emulated, which takes 10 to 20 times as long"
    known = qemu.noted_accelerator(paths)
    if known == "kvm":
        return Finding("KVM", True, False, "a boot with it has worked")
    if known == "tcg":
        return Finding("KVM", False, False, f"{slow}; a boot with KVM was not possible")
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        return Finding("KVM", None, False, "/dev/kvm is there: up tries a boot with it")
    return Finding("KVM", False, False, f"{slow}; this user cannot open /dev/kvm")


def find_disk(paths: LabPaths, lab: Lab, spec: KernelSpec) -> Finding:
    """Compare the free disk below the cache with what is not prepared yet."""
    is_prepared = _are_images_there(paths, lab)
    is_prepared &= (kernels.kernel_folder(paths, spec) / "kernel.json").is_file()
    place = next(each for each in (paths.cache, *paths.cache.parents) if each.exists())
    free = shutil.disk_usage(place).free >> 20
    needed = "all images are there" if is_prepared else f"{DISK_MIB} MiB are needed"
    detail = f"{free} MiB free below {place}; {needed}"
    return Finding("disk", is_prepared or free >= DISK_MIB, True, detail)


def find_memory() -> Finding:
    """Compare the available memory with what the machine may take."""
    available = _available_mib(Path("/proc/meminfo").read_text())
    detail = f"{available} MiB available; the machine takes up to {machine.MEMORY_MIB} MiB"
    return Finding("memory", available >= machine.MEMORY_MIB, False, detail)


def _available_mib(meminfo: str) -> int:
    lines = (line.split() for line in meminfo.splitlines())
    return next((int(words[1]) >> 10 for words in lines if words[:1] == ["MemAvailable:"]), 0)


def find_namespaces() -> Finding:
    """Try the network namespace and the mount namespace that a column runs in and is prepared in."""
    what = "namespaces"
    if os.geteuid() != 0:
        return Finding(what, None, True, "the machine's network: only root can test it")
    argv = ["unshare", "--net", "--mount", "true"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TRIAL_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(what, False, True, str(error))
    why = done.stderr.strip() or f"exit status {done.returncode}"
    return Finding(what, done.returncode == 0, True, "the machine's network" if done.returncode == 0 else why)
