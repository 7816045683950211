"""Run hosts as systemd-nspawn containers on the shared image, each with an overlay, a cgroup and NICs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mptcp_lab.inventory.model import Host
from mptcp_lab.labs import keys
from mptcp_lab.labs.capacity import HOST_INOTIFY, inotify_instances
from mptcp_lab.labs.containers import image
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths, give_to_caller, private_folder
from mptcp_lab.labs.machine_check import CGROUP_ADVICE, CGROUP_ROOTS
from mptcp_lab.patience import patient

#: Capabilities that nspawn grants by default and a lab host does not need. A host keeps those for file
#: ownership by apt and sshd (CHOWN, DAC_*, FOWNER, FSETID, SETUID, SETGID, SETPCAP, SYS_CHROOT), units with
#: mounts, limits and priorities (SYS_ADMIN, SYS_RESOURCE, SYS_NICE, KILL), reboot (SYS_BOOT), to find the
#: process that holds a socket (SYS_PTRACE), and the network (NET_ADMIN, NET_RAW, NET_BIND_SERVICE).
DROPPED = (
    "CAP_AUDIT_CONTROL CAP_AUDIT_WRITE CAP_IPC_OWNER CAP_LEASE CAP_LINUX_IMMUTABLE CAP_MKNOD "
    "CAP_NET_BROADCAST CAP_SETFCAP CAP_SYS_TTY_CONFIG"
).split()
STOP_WITHIN_SECONDS = 10.0
#: Timeout of one attempt to read sshd's greeting. Each attempt starts an sshd on the host, so that frequent
#: retries would slow a slow host down further.
GREETS_WITHIN_SECONDS = 30.0


def cgroup_root() -> Path:
    """Return the root of the machine's cgroup v2 tree, on unified and hybrid set-ups."""
    for path in CGROUP_ROOTS:
        if (path / "cgroup.controllers").exists():
            return path
    raise EmbeddedError("this machine has no cgroup v2 tree", CGROUP_ADVICE)


def cgroup(paths: LabPaths, host: str = "") -> Path:
    """Return the cgroup of a host, or of the whole lab."""
    lab = cgroup_root() / f"mptcp-lab-{paths.id}"
    return lab / host if host else lab


def list_running(paths: LabPaths) -> list[str]:
    """Return the hosts whose cgroup holds a process."""
    lab = cgroup(paths)
    if not lab.is_dir():
        return []
    return sorted(p.name for p in lab.iterdir() if p.is_dir() and _has_processes(p))


def _has_processes(group: Path) -> bool:
    try:
        return "populated 1" in (group / "cgroup.events").read_text()
    except FileNotFoundError:
        return False


def answers(paths: LabPaths, host: str) -> bool:
    """Return whether a host's sshd sends its greeting on the host's Unix socket now."""
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(patient(GREETS_WITHIN_SECONDS))
            link.connect(str(paths.socket(host)))
            return link.recv(4) == b"SSH-"
    except OSError:
        return False


def prepare(paths: LabPaths, host: Host, public_key: str) -> str:
    """Write the files of a host's identity (host key, authorized key); return its public host key."""
    own = private_folder(paths.host(host.name))
    upper = own / "upper"
    fresh = not upper.exists()
    for folder in (upper, own / "work", own / "merged"):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
    (upper / "etc/ssh").mkdir(parents=True, exist_ok=True)
    host_key = keys.ensure_key(upper / keys.HOST_KEY, host.name)
    if fresh:
        (upper / "root/.ssh").mkdir(parents=True)
        (upper / "root").chmod(0o700)
        (upper / "root/.ssh").chmod(0o700)
        (upper / "root/.ssh/authorized_keys").write_text(public_key + "\n")
        (upper / "etc/hosts").write_text(keys.etc_hosts(host.name))
    return host_key


def start(paths: LabPaths, host: Host, *, fresh: bool) -> None:
    """Power a host on and return at once; `await_answers` waits until it is up.

    Unless its network namespace is `fresh`, its NICs are first reset to the state after a reboot.
    """
    base = image.image(paths, image.recipe_of(host))
    own, run = paths.host(host.name), paths.run / host.name
    script = str(Path(__file__).with_name("host.sh"))
    arguments = [str(base), str(own), paths.netns(host.name), host.name, str(run), str(base / "pool")]
    arguments += [",".join(DROPPED), "yes" if fresh else "no"]
    launch(paths, host.name, ["sh", script, "power", *arguments])


def launch(paths: LabPaths, host: str, command: list[str]) -> None:
    """Start a host's container or virtual machine in its cgroup; its console is written to a file."""
    group, own, run = cgroup(paths, host), paths.host(host), paths.run / host
    group.mkdir(parents=True, exist_ok=True)
    run.mkdir(exist_ok=True, mode=0o700)
    give_to_caller(run)
    # The shell enters the cgroup first, so that no process of the host is ever outside it.
    enter = 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"'
    with (own / "console.log").open("ab") as console:
        subprocess.Popen(
            ["sh", "-c", enter, "sh", str(group), *command],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
            close_fds=True,
            cwd="/",
        )


def await_answers(paths: LabPaths, hosts: Iterable[str], say: Callable[[str], None], within: float) -> None:
    """Wait until every host answers over SSH; raise `EmbeddedError`, with the console, if one does not.

    `within` is the timeout in seconds for all hosts together.
    """
    names = list(hosts)
    if not names:
        return
    deadline, given_up = time.monotonic() + patient(within), threading.Event()
    with ThreadPoolExecutor(len(names)) as pool:
        waits = [pool.submit(_await_answer, paths, name, deadline, given_up) for name in names]
        try:
            for name, wait in zip(names, waits, strict=True):
                if not wait.result():
                    what = f"{name} does not answer over SSH{inotify_hint()}:\n{_console_end(paths, name)}"
                    raise EmbeddedError(what, "run ./lab down, then ./lab up")
                say(f"{name} answers")
        finally:
            given_up.set()  # an interrupt, or a host that died, ends all waits


def _await_answer(paths: LabPaths, host: str, deadline: float, given_up: threading.Event) -> bool:
    """Poll until the host answers; return False at the deadline, or early if the host has died."""
    lived = False
    while time.monotonic() < deadline and not given_up.is_set():
        if answers(paths, host):
            return True
        lives = _has_processes(cgroup(paths, host))
        if lived and not lives:
            return False
        lived = lived or lives
        time.sleep(0.02)  # a socket that does not exist yet cannot be waited on
    return False


def _console_end(paths: LabPaths, host: str) -> str:
    try:
        lines = (paths.host(host) / "console.log").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return "    (no console output)"
    return "\n".join(f"    {line}" for line in lines[-8:]) or "    (no console output)"


def inotify_hint() -> str:
    """Return a hint if the inotify instances of root, of which each host needs some, are nearly used up."""
    limit, used = inotify_instances()
    if used + HOST_INOTIFY < limit:
        return ""
    return f" ({used} of {limit} inotify instances are in use; raise sysctl fs.inotify.max_user_instances)"


def stop(paths: LabPaths, hosts: Iterable[str]) -> None:
    """Power hosts off at once and remove their cgroups."""
    groups = [cgroup(paths, host) for host in hosts]
    for group in groups:
        if group.is_dir():
            (group / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + patient(STOP_WITHIN_SECONDS)
    for group in groups:
        while _has_processes(group):
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"processes in {group} did not end", f"cat {group}/cgroup.procs, then ./lab down"
                )
            time.sleep(0.01)
        remove_cgroup(group)


def remove_cgroup(group: Path) -> None:
    """Remove a cgroup without processes, and all cgroups below it."""
    if not group.is_dir():
        return
    for folder, _, _ in os.walk(group, topdown=False):
        Path(folder).rmdir()


def forget(paths: LabPaths, host: str) -> None:
    """Remove the files of a stopped host."""
    shutil.rmtree(paths.host(host), ignore_errors=True)  # after a crash it may not be there
    shutil.rmtree(paths.run / host, ignore_errors=True)  # nor may this
