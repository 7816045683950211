"""How QEMU is called, and which accelerator really works on this machine."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import subprocess
import threading
from pathlib import Path

from mptcp_lab.labs.command import run
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths, write_private
from mptcp_lab.untrusted import Malformed, Node, parse_json, read_text

PROGRAM = "qemu-system-x86_64"
MEMORY_MIB = 512
#: Users that no system gives to anybody (systemd, UIDS-GIDS.md).
USERS = range(60600, 61100)
#: A processor that every emulation has; with hardware's help, the machine's own.
PROCESSORS = {"tcg": "qemu64", "kvm": "host"}
ACCELERATORS = {"tcg": "tcg,tb-size=256", "kvm": "kvm"}
#: What vm-first-boot prints when all of it worked.
FIRST_BOOT_DONE = "vm-first-boot: done"
KVM_FAILED = b"KVM internal error"
#: A boot with hardware's help takes seconds; one that takes this long is none. An emulated one may be slow.
FIRST_BOOT_WITHIN = {"kvm": 60.0, "tcg": 1800.0}


def unprivileged(name: str) -> list[str]:
    """Return the arguments by which QEMU becomes a user without any rights, one per machine name.

    QEMU opens its files, NICs and sockets first. They stay out of reach of that user.
    """
    number = USERS.start + int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(USERS)
    user = f"{number}:{number}"
    return ["-runas", user] if "-runas " in run(PROGRAM, "--help") else ["-run-with", f"user={user}"]


def base_command(accelerator: str, name: str) -> list[str]:
    """Return the start of every QEMU command line: no device, display or file that is not asked for."""
    command = [PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"]
    command += ["-accel", ACCELERATORS[accelerator], "-cpu", PROCESSORS[accelerator], "-m", str(MEMORY_MIB)]
    # QEMU gives its privileges up under this filter, so it allows setuid(); it allows no other program.
    command += ["-sandbox", "on,obsolete=deny,elevateprivileges=allow,spawn=deny,resourcecontrol=deny"]
    command += unprivileged(name)
    # vmgenid tells a kernel that it was woken from a kept state: random numbers begin anew.
    return [*command, "-device", "virtio-rng-pci", "-device", "vmgenid,guid=auto"]


@functools.cache
def identity() -> str:
    """Return what has to be the same for a kept state to wake: QEMU's version, and the processor's model."""
    processor = re.findall(r"(?m)^(?:model name|microcode|flags)\s*:.*", Path("/proc/cpuinfo").read_text())
    return run(PROGRAM, "--version") + "\n".join(sorted(set(processor)))


def accelerator(paths: LabPaths, image: Path) -> str:
    """Return ``kvm`` where a boot with it worked on this machine since it was started, else ``tcg``."""
    note = paths.cache / "accelerator.json"
    this_boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(Malformed):  # not tried yet, or a file of no use
        noted = Node(parse_json(read_text(note)))
        known = noted["accelerator"].text()
        if noted["boot_id"].text() == this_boot and known in ("kvm", "tcg"):
            return known
    found = "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and first_boot(image, "kvm") else "tcg"
    write_private(note, json.dumps({"accelerator": found, "boot_id": this_boot}))
    return found


def first_boot(image: Path, accelerator: str, *, keep: bool = False) -> bool:
    """Boot the image to vm-first-boot and back off; tell whether that worked. `keep` what it wrote."""
    command = [*base_command(accelerator, "first-boot"), "-no-reboot", "-serial", "stdio"]
    snapshot = "off" if keep else "on"
    command += ["-drive", f"if=virtio,format=raw,cache=unsafe,snapshot={snapshot},file={image / 'disk.img'}"]
    command += ["-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd.img"), "-append"]
    action = "systemd.run_success_action=poweroff-force systemd.run_failure_action=poweroff-force"
    # panic: what does not boot ends at once, rather than at a prompt that nobody sees.
    command += [
        f"root=LABEL=root rw console=ttyS0 panic=1 systemd.run=/usr/local/sbin/vm-first-boot {action}"
    ]
    return says(command, FIRST_BOOT_DONE, FIRST_BOOT_WITHIN[accelerator])


def says(command: list[str], word: str, within: float) -> bool:
    """Run QEMU to its end; tell whether its console said `word`. What hangs or fails is ended."""
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
            if KVM_FAILED in line:  # QEMU stops the machine and waits for ever
                break
    finally:
        watch.cancel()
        process.kill()
        process.wait()
    return said
