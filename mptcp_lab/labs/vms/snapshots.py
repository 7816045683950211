"""Booted machines kept in the cache, so that `up` wakes them in seconds instead of booting them.

A kept state is a disk with the machine's memory in it, made by one QEMU for one host of one image, and good
for just that. It remembers who could log in when it was made; whoever wakes it says, over SSH and by that
key, who the machine is now: a host key and a user's key of the lab's own, the time, and randomness nobody had
before. The kernel's random numbers begin anew when QEMU tells it (vmgenid) that it was woken.
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

#: QEMU's name of the state in a disk.
NAME = "kept"
#: How many are kept, of some 200 MB each; the one that was not used for longest goes first.
AT_MOST = 8
#: Emulated on a busy machine: starting sshd anew, or the end of a boot.
WITHIN_SECONDS = 600.0
#: The state that a host was laid down from and has not been woken and introduced from yet.
MARK = "asleep"
MOST_MARK_BYTES = 4096
#: What a woken machine is told on standard input. The clock is right by QEMU's, to a second, as after a boot.
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
    """Return where the state is kept, or would be, of a host that QEMU is called for with `words`.

    All that QEMU is and is told counts, but for the lab's own paths. `stage`: of a state later than the boot.
    """
    told = "\n".join(words).replace(f"{paths.state}/", "").replace(f"{paths.run}/", "")
    digest = hashlib.sha256("\0".join((qemu.identity(), told, stage)).encode()).hexdigest()[:12]
    return disk.image(paths) / "states" / f"{host.name}-{digest}"


def lay(paths: LabPaths, host: Host, kept: Path) -> bool:
    """Lay down a kept state as the host's disk, to be woken by its next start; tell whether there was one."""
    if not (kept / "known_host").is_file():
        return False
    own = private_folder(paths.host(host.name))
    os.utime(kept)
    shutil.copyfile(kept / "disk.qcow2", own / "disk.qcow2")
    write_private(own / MARK, str(kept))
    return True


def laid(paths: LabPaths, host: Host) -> Path | None:
    """Return the snapshot from which the host is to be woken, or None.

    None too where the note does not name a folder of the cache: the machine boots instead.
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
    """Tell a woken machine who it is; from then on it answers as the lab's, and to the lab's user alone."""
    kept = laid(paths, host)
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
    """Keep the running host's state, with the keys to it, once its boot is over."""
    shell = ("ssh", "-F", str(paths.state / "ssh_config"), host.name)
    run(*shell, "systemctl is-system-running --wait", within=WITHIN_SECONDS)
    private_folder(kept.parent)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=kept.parent))
    try:
        own = paths.host(host.name)
        with monitor(paths, host.name) as machine:
            machine.save(NAME)
            with machine.paused():  # a disk that nobody writes to
                shutil.copyfile(own / "disk.qcow2", draft / "disk.qcow2")
        write_private(draft / "id_ed25519", (paths.state / "id_ed25519").read_text())
        public = (own / "host_key.pub").read_text().split()
        write_private(draft / "known_host", f"{host.name} {public[0]} {public[1]}\n")
        shutil.rmtree(kept, ignore_errors=True)  # mostly there is none; what stays makes the next line fail
        draft.rename(kept)
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # not there any more when all went well
    _make_room(kept.parent)


def discard(paths: LabPaths, host: Host) -> None:
    """Forget a state that did not wake: the next `up` after a `down` boots."""
    if kept := laid(paths, host):
        shutil.rmtree(kept, ignore_errors=True)  # another lab may be at the same, having seen the same


def _make_room(states: Path) -> None:
    """Remove the states that were not used for longest."""
    by_use = sorted(states.glob("[!.]*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in by_use[AT_MOST:]:
        shutil.rmtree(old, ignore_errors=True)  # only room is lost
