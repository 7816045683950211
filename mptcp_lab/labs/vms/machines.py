"""Run hosts as virtual machines: a disk on top of the shared image, an identity, NICs on the fabric, SSH."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from contextlib import suppress
from pathlib import Path

from mptcp_lab.inventory.model import Host
from mptcp_lab.labs import fabric, keys
from mptcp_lab.labs.command import run
from mptcp_lab.labs.containers import hosts
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths, private_folder, write_private
from mptcp_lab.labs.vms import disk, qemu
from mptcp_lab.labs.vms import snapshots as states
from mptcp_lab.untrusted import Malformed, parse_json, read_text

MANAGEMENT_ADDRESS = "10.0.2.15"  # in QEMU's user network: the same in every machine, reachable from none

#: Marker file in the folder of a machine that has not booted from its disk yet.
UNBOOTED = "unbooted"


def prepare(paths: LabPaths, host: Host, public_key: str) -> str:
    """Create a machine's disk and identity files; return its public host key."""
    _check_devices(host)
    own = private_folder(paths.host(host.name))
    if not (own / "disk.qcow2").exists() and not states.copy_to_disk(paths, host, kept_state(paths, host)):
        backing = ("-b", str(disk.image(paths) / "disk.img"), "-F", "raw")
        write_private(own / UNBOOTED, "")
        run("qemu-img", "create", "-q", "-f", "qcow2", *backing, str(own / "disk.qcow2"))
    host_key = keys.ensure_key(own / "host_key", host.name)
    secret = base64.b64encode((own / "host_key").read_bytes()).decode()
    identity = {
        "system.hostname": host.name,
        "network.hosts": keys.etc_hosts(host.name),
        "ssh.authorized_keys.root": public_key + "\n",
        "tmpfiles.extra": f"f~ /{keys.HOST_KEY} 0600 root root - {secret}\n",
    }
    for name, text in identity.items():
        value = base64.b64encode(text.encode()).decode()
        write_private(own / name, f"io.systemd.credential.binary:{name}={value}")
    return host_key


def kept_state(paths: LabPaths, host: Host, stage: str = "") -> Path:
    """Return the folder of a host's snapshot, booted or of a later `stage`; it may not exist yet."""
    return states.folder(paths, host, command(paths, host), stage)


def _check_devices(host: Host) -> None:
    """Refuse NIC names other than the kernel's, in order: eth0 is for management, the lab's NICs follow."""
    have = [nic.device for nic in host.nics]
    want = [f"eth{number}" for number in range(1, len(have) + 1)]
    if have != want:
        raise EmbeddedError(
            f"{host.name}: a virtual machine's NICs are {', '.join(want)}, in this order, not {have}",
            "correct lab_nics in the inventory",
        )


def command(paths: LabPaths, host: Host) -> list[str]:
    """Return the QEMU command line of a host; secrets are passed in files, never on the command line."""
    own, image = paths.host(host.name), disk.image(paths)
    words = [*qemu.base_command(qemu.accelerator(paths, image), host.name), "-name", host.name]
    words += ["-kernel", str(image / "grub.lnx"), "-serial", "stdio"]
    words += ["-drive", f"if=none,id=disk,format=qcow2,cache=unsafe,discard=unmap,file={own / 'disk.qcow2'}"]
    words += ["-device", "virtio-blk-pci,drive=disk"]
    words += ["-qmp", f"unix:{paths.run / host.name / 'qmp'},server=on,wait=off"]
    for name in ("system.hostname", "network.hosts", "ssh.authorized_keys.root", "tmpfiles.extra"):
        words += ["-smbios", f"type=11,path={own / name}"]
    forward = f"hostfwd=tcp:{loopback(host.name)}:22-{MANAGEMENT_ADDRESS}:22"
    words += ["-netdev", f"user,id=management,ipv6=off,restrict=on,{forward}"]
    words += ["-device", "virtio-net-pci,netdev=management,romfile="]
    for nic in host.nics:
        cable = fabric.Cable(host.name, nic.device, nic.segment, nic.rate)
        words += ["-netdev", f"tap,id={nic.device},ifname={cable.port},script=no,downscript=no"]
        device = f"virtio-net-pci,id=nic-{nic.device},netdev={nic.device},mac={cable.mac},romfile="
        words += ["-device", device]
    return words


def loopback(host: str) -> str:
    """Return the loopback address in the fabric on which QEMU forwards SSH to a host, by its name."""
    return "127." + ".".join(str(octet) for octet in hashlib.sha256(host.encode()).digest()[:3])


def start(paths: LabPaths, host: Host, *, fresh: bool) -> None:  # noqa: ARG001 - NICs are always fresh
    """Power a machine on, and return at once."""
    words = command(paths, host)
    keeper = [sys.executable, "-B", str(Path(__file__).with_name("supervisor.py"))]
    keeper += [str(paths.socket(host.name)), loopback(host.name), *words]
    if states.find_pending(paths, host):
        keeper += ["-loadvm", states.NAME]
    hosts.launch(paths, host.name, ["nsenter", f"--net=/run/netns/{paths.fabric}", *keeper])
    write_private(paths.host(host.name) / "qemu.json", json.dumps(words))


def welcome(paths: LabPaths, host: Host) -> None:
    """Give a machine resumed from a snapshot its identity, or take a snapshot after a first boot."""
    states.introduce(paths, host)
    unbooted = paths.host(host.name) / UNBOOTED
    if unbooted.exists():
        with suppress(EmbeddedError, OSError):  # failed units or a full disk: the next `up` boots again
            states.keep(paths, host, kept_state(paths, host))
        unbooted.unlink()


def is_current(paths: LabPaths, host: Host) -> bool:
    """Return whether a running machine was started with the settings that the inventory has now."""
    try:
        started = parse_json(read_text(paths.host(host.name) / "qemu.json"))
    except Malformed:
        return False
    return bool(started == command(paths, host))
