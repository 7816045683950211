"""Build QEMU command lines, and find the accelerator that works on this machine."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from mptcp_lab.labs.command import run
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths, write_private
from mptcp_lab.untrusted import Malformed, Node, parse_json, read_text

PROGRAM = "qemu-system-x86_64"
MEMORY_MIB = 512
#: User ids that no system assigns (systemd, UIDS-GIDS.md).
USERS = range(60600, 61100)
#: Processor model by accelerator: one that is always emulated, or this machine's own for KVM.
PROCESSORS = {"tcg": "qemu64", "kvm": "host"}
ACCELERATORS = {"tcg": "tcg,tb-size={cache}", "kvm": "kvm"}
#: The file in the cache that has the accelerator of which a boot has worked since this machine started.
ACCELERATOR_NOTE = "accelerator.json"
#: The line that vm-first-boot prints on success.
FIRST_BOOT_DONE = "vm-first-boot: done"
KVM_FAILED = b"KVM internal error"
#: Timeout of the first boot in seconds: with KVM it takes seconds, under emulation it may be slow.
FIRST_BOOT_WITHIN = {"kvm": 60.0, "tcg": 1800.0}


def user_arguments(name: str) -> list[str]:
    """Return the arguments that make QEMU run as an unprivileged user, a different one per machine name.

    QEMU opens its files, NICs and sockets before it drops privileges; that user cannot open them.
    """
    number = USERS.start + int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(USERS)
    user = f"{number}:{number}"
    return ["-runas", user] if "-runas " in run(PROGRAM, "--help") else ["-run-with", f"user={user}"]


def base_command(accelerator: str, name: str, memory_mib: int = MEMORY_MIB, processors: int = 1) -> list[str]:
    """Return the start of every QEMU command line: no default devices, no display, a sandbox."""
    command = [PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"]
    # The cache of translated code is half as large as the memory: a full one is thrown away as a whole.
    command += ["-accel", ACCELERATORS[accelerator].format(cache=memory_mib // 2)]
    command += ["-cpu", PROCESSORS[accelerator], "-m", str(memory_mib)]
    command += ["-smp", str(processors)] if processors > 1 else []
    # QEMU drops its privileges under this filter, so it must allow setuid(); it forbids to start programs.
    command += ["-sandbox", "on,obsolete=deny,elevateprivileges=allow,spawn=deny,resourcecontrol=deny"]
    command += user_arguments(name)
    # vmgenid notifies the guest's kernel that it resumed from a snapshot, so that it reseeds its RNG.
    return [*command, "-device", "virtio-rng-pci", "-device", "vmgenid,guid=auto"]


@functools.cache
def identity() -> str:
    """Return the values that must match for a snapshot to resume: QEMU's version and the processor model."""
    processor = re.findall(r"(?m)^(?:model name|microcode|flags)\s*:.*", Path("/proc/cpuinfo").read_text())
    return run(PROGRAM, "--version") + "\n".join(sorted(set(processor)))


def accelerator(paths: LabPaths, image: Path) -> str:
    """Return ``kvm`` if a boot of the image with KVM has worked since this machine started, else ``tcg``."""
    return remember_accelerator(paths, lambda: first_boot(image, "kvm"))


def remember_accelerator(paths: LabPaths, boots: Callable[[], bool]) -> str:
    """Return the accelerator noted since this machine started; else try a boot with KVM, and note it."""
    if known := noted_accelerator(paths):
        return known
    found = "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and boots() else "tcg"
    document = {"accelerator": found, "boot_id": _boot_id()}
    write_private(paths.cache / ACCELERATOR_NOTE, json.dumps(document))
    return found


def noted_accelerator(paths: LabPaths) -> str:
    """Return the accelerator noted since this machine started; "" if no boot was tried."""
    with contextlib.suppress(Malformed):  # not tried yet, or a damaged file
        noted = Node(parse_json(read_text(paths.cache / ACCELERATOR_NOTE)))
        known = noted["accelerator"].text()
        if noted["boot_id"].text() == _boot_id() and known in ACCELERATORS:
            return known
    return ""


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def first_boot(image: Path, accelerator: str, *, keep: bool = False) -> bool:
    """Boot the image, run vm-first-boot and power off; return whether it worked. `keep` keeps its writes."""
    command = [*base_command(accelerator, "first-boot"), "-no-reboot", "-serial", "stdio"]
    snapshot = "off" if keep else "on"
    command += ["-drive", f"if=virtio,format=raw,cache=unsafe,snapshot={snapshot},file={image / 'disk.img'}"]
    command += ["-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd.img"), "-append"]
    action = "systemd.run_success_action=poweroff-force systemd.run_failure_action=poweroff-force"
    # panic=1: an image that does not boot ends at once, instead of waiting at a prompt.
    command += [
        f"root=LABEL=root rw console=ttyS0 panic=1 systemd.run=/usr/local/sbin/vm-first-boot {action}"
    ]
    return prints(command, FIRST_BOOT_DONE, FIRST_BOOT_WITHIN[accelerator])


def prints(command: list[str], word: str, within: float) -> bool:
    """Run QEMU until it ends, or `within` seconds; return whether its console printed `word`.

    A QEMU that hangs or fails is killed.
    """
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except FileNotFoundError:
        raise EmbeddedError(f"{PROGRAM} is not installed", "./lab up names the package") from None
    watch = threading.Timer(within, process.kill)
    watch.start()
    said = False
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said = said or word.encode() in line
            if KVM_FAILED in line:  # QEMU stops the machine and never ends
                break
    finally:
        watch.cancel()
        process.kill()
        process.wait()
    return said
