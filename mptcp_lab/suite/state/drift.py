"""Compare the hosts with what the playbooks and the lock ask for."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from mptcp_lab import lock
from mptcp_lab.errors import Inconclusive, LabBroken
from mptcp_lab.lock.observe import observe
from mptcp_lab.machines.kernel_files import read_kernel_files
from mptcp_lab.machines.session import Session
from mptcp_lab.playbook import run_lab
from mptcp_lab.render import render

RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", re.MULTILINE)
LINES_PER_FILE = 6
#: The first lines of a difference, and the actions that a unit needs, as Ansible prints the result of the
#: module `converge`.
HEADER = re.compile(r"^(?:---|\+\+\+) (?:before|after): (.*)$")
PREPARED = re.compile(r"^\S+[.]service: (?:enable|start|restart|reload)")
CHANGED = re.compile(r"^changed: \[(\S+?)\]", re.MULTILINE)


def rehearsal(inventory: str) -> str:
    """Run lab.yml in check mode with differences, which changes nothing; return what Ansible printed.

    Raises:
        LabBroken: the playbook failed; the message has the end of its output.
    """
    done = run_lab(inventory, "--check", "--diff")
    if done.returncode != 0 or not RECAP.search(done.stdout):
        end = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
        raise LabBroken(
            f"lab.yml --check fails:\n{end}", inventory, f"ansible-playbook -i {inventory} lab.yml"
        )
    return done.stdout


def differences(printed: str) -> list[str]:
    """Return every line that a rehearsal would change, as ``host: file or state: line``.

    A task that shows no lines is returned as ``host: task``.
    """
    found, task, what, lines = [], "", "", list[str]()
    for line in printed.splitlines():
        if line.startswith("TASK ["):
            task, what, lines = line.removeprefix("TASK [").rstrip("* ").rstrip("]"), "", []
        elif match := HEADER.match(line):
            what = match[1]
        elif re.match(r"[+-](?![+-]{2} )", line):
            lines.append(f"{what}: {line}" if what else line)
        elif PREPARED.match(line):
            lines.append(line)
        elif match := CHANGED.match(line):
            found += [f"{match[1]}: {each}" for each in _shorten(lines) or [task]]
            what, lines = "", []
    return found


def _shorten(lines: list[str]) -> list[str]:
    """Return all lines of live state and units, and for each file the first lines and a count of the rest."""
    kept, files = [], Counter[str]()
    for line in lines:
        path = line.partition(": ")[0] if line.startswith("/") else ""
        files[path] += bool(path)
        if files[path] <= LINES_PER_FILE:
            kept.append(line)
    return kept + [
        f"{path}: and {count - LINES_PER_FILE} more lines"
        for path, count in files.items()
        if count > LINES_PER_FILE
    ]


def drift_from_lock(machines: Session, path: Path) -> list[lock.Difference]:
    """Return every difference of the hosts from the lock, and from what the inventory renders today.

    Raises:
        Inconclusive: the lock cannot be read, or does not fit the inventory.
    """
    try:
        locked = lock.read(path)
        locked.check_inventory(machines.lab.hosts, str(path))
    except lock.LockError as error:
        raise Inconclusive("lock", str(error)) from None
    rendered = lock.expected_files(render(machines.lab, lock.papers(locked.hosts)))
    found = {
        name: host.select_files({*locked.hosts[name].files, *rendered.get(name, {})})
        for name, host in observe(machines).items()
    }
    from_lock = [
        *lock.kernel_differences(locked.tools, read_kernel_files(machines.lab)),
        *lock.differences(locked.hosts, found),
    ]
    as_rendered = {name: replace(host, files=rendered.get(name, {})) for name, host in found.items()}
    reported = {(each.host, each.what) for each in from_lock}
    return from_lock + [
        replace(each, expected=f"{each.expected} (rendered)")
        for each in lock.differences(as_rendered, found)
        if (each.host, each.what) not in reported
    ]
