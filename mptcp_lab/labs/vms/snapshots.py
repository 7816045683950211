"""Keep snapshots of booted machines in the cache, so that `up` resumes them in seconds instead of booting.

A snapshot is a disk that contains the machine's memory. It is valid only for the same QEMU, host and image.
It contains the user key of the lab that took it. After a resume, `introduce` logs in with that key and
installs the current lab's host key and user key, the time, and a fresh random seed. The guest's kernel
reseeds its random number generator when QEMU notifies it of the resume (vmgenid).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
from pathlib import Path

from mptcp_lab.inventory.model import Host
from mptcp_lab.labs import keys
from mptcp_lab.labs.command import run
from mptcp_lab.labs.lab_paths import LabPaths, private_folder, write_private
from mptcp_lab.labs.vms import disk, qemu
from mptcp_lab.labs.vms.monitor import monitor
from mptcp_lab.untrusted import Malformed, read_text

#: QEMU's name for the snapshot inside a disk.
NAME = "kept"
#: Maximum number of snapshots, of about 200 MB each; the least recently used one is removed first.
AT_MOST = 8
#: Timeout in seconds for a restart of sshd, or the end of a boot, under emulation on a busy machine.
WITHIN_SECONDS = 600.0
#: Marker file with the path of the snapshot that a host's disk was copied from, until the host has its new
#: identity.
MARK = "asleep"
MOST_MARK_BYTES = 4096
#: Script that a resumed machine runs. QEMU's clock is accurate to a second, as after a boot.
INTRODUCTION = """\
set -e
umask 077
date -u -s "$(cat /sys/class/rtc/rtc0/date) $(cat /sys/class/rtc/rtc0/time)" >/dev/null
echo {seed} >/dev/urandom
cat >/{host_key} <<'END'
{secret}END
echo '{public}' >/root/.ssh/authorized_keys
sync
systemctl restart ssh.service
"""


def folder(paths: LabPaths, host: Host, words: list[str], stage: str = "") -> Path:
    """Return the folder of the snapshot of a host whose QEMU command line is `words`; it may not exist yet.

    Its name depends on QEMU and on the command line without the lab's paths. `stage` names a snapshot that
    is taken later than the boot.
    """
    relative = "\n".join(words).replace(f"{paths.state}/", "").replace(f"{paths.run}/", "")
    digest = hashlib.sha256("\0".join((qemu.identity(), relative, stage)).encode()).hexdigest()[:12]
    return disk.image(paths) / "states" / f"{host.name}-{digest}"


def copy_to_disk(paths: LabPaths, host: Host, kept: Path) -> bool:
    """Copy a snapshot to the host's disk, so that its next start resumes it; return whether it exists."""
    if not (kept / "known_host").is_file():
        return False
    own = private_folder(paths.host(host.name))
    os.utime(kept)
    shutil.copyfile(kept / "disk.qcow2", own / "disk.qcow2")
    write_private(own / MARK, str(kept))
    return True


def find_pending(paths: LabPaths, host: Host) -> Path | None:
    """Return the snapshot from which the host's next start resumes, or None.

    The result is None as well if the marker file names no folder in the cache: the machine boots instead.
    """
    mark = paths.host(host.name) / MARK
    if not mark.exists():
        return None
    try:
        kept = Path(read_text(mark, MOST_MARK_BYTES))
    except Malformed:
        return None
    return kept if paths.cache in kept.parents and kept.is_dir() else None


def introduce(paths: LabPaths, host: Host) -> None:
    """Give a resumed machine its host key; from then on it accepts only the lab's user key."""
    kept = find_pending(paths, host)
    if kept is None:
        return
    own = paths.host(host.name)
    text = INTRODUCTION.format(
        seed=secrets.token_hex(64),
        host_key=keys.HOST_KEY,
        secret=(own / "host_key").read_text(),
        public=keys.user_key(paths),
    )
    known = str(kept / "known_host").replace("%", "%%")
    options = ["-i", str(kept / "id_ed25519"), "-o", f'UserKnownHostsFile="{known}"']
    options += ["-o", f"HostKeyAlias={host.name}"]
    command = ["ssh", "-F", str(paths.state / "ssh_config"), *options, host.name, "sh -s"]
    run(*command, text=text, within=WITHIN_SECONDS)
    (own / MARK).unlink()


def keep(paths: LabPaths, host: Host, kept: Path) -> None:
    """Take a snapshot of the running host once its boot is over, together with the keys to log in to it."""
    shell = ("ssh", "-F", str(paths.state / "ssh_config"), host.name)
    run(*shell, "systemctl is-system-running --wait", within=WITHIN_SECONDS)
    private_folder(kept.parent)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=kept.parent))
    try:
        own = paths.host(host.name)
        with monitor(paths, host.name) as machine:
            machine.save(NAME)
            with machine.pause():  # the disk must not change while it is copied
                shutil.copyfile(own / "disk.qcow2", draft / "disk.qcow2")
        write_private(draft / "id_ed25519", (paths.state / "id_ed25519").read_text())
        public = (own / "host_key.pub").read_text().split()
        write_private(draft / "known_host", f"{host.name} {public[0]} {public[1]}\n")
        shutil.rmtree(kept, ignore_errors=True)  # usually missing; if it stays, the next line fails
        draft.rename(kept)
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # on success it was renamed already
    _make_room(kept.parent)


def discard(paths: LabPaths, host: Host) -> None:
    """Remove a snapshot that failed to resume: the next `up` after a `down` boots."""
    if kept := find_pending(paths, host):
        shutil.rmtree(kept, ignore_errors=True)  # another lab may be removing the same snapshot


def _make_room(states: Path) -> None:
    """Remove the least recently used snapshots, down to `AT_MOST`."""
    by_use = sorted(states.glob("[!.]*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in by_use[AT_MOST:]:
        shutil.rmtree(old, ignore_errors=True)  # costs only disk space
