"""``python -m mptcp_lab.lock write|expect [--inventory NAME] [--lock FILE]``: write or print a lock."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from mptcp_lab.errors import LabError
from mptcp_lab.files import write_synced
from mptcp_lab.inventory import Lab, load, resolve
from mptcp_lab.lock import (
    NAME,
    Difference,
    Lock,
    LockError,
    dump,
    expected_files,
    kernel_differences,
    papers,
    read,
)
from mptcp_lab.lock.observe import observe
from mptcp_lab.machines.kernel_files import read_kernel_files
from mptcp_lab.machines.session import session
from mptcp_lab.paths import ROOT
from mptcp_lab.render import render
from mptcp_lab.revision import read_revision

SHOWN = 12


def main(words: list[str] | None = None) -> int:
    """Write a lock or print its expectations; return 0, or 4 after printing one error message."""
    parser = argparse.ArgumentParser(prog="mptcp_lab.lock", description="Write or check the lock of a lab.")
    parser.add_argument("action", choices=["write", "expect"])
    parser.add_argument("--inventory", default="inventory", help="a path, or a name under inventories/")
    parser.add_argument("--lock", type=Path, help=f"default: {NAME} beside the inventory")
    arguments = parser.parse_args(words)
    try:
        lab = load(resolve(arguments.inventory))
        source = Path(lab.source)
        path = arguments.lock or (source if source.is_dir() else source.parent) / NAME
        print(write(lab, path) if arguments.action == "write" else expect(lab, path))
    except LabError as error:
        print(error, file=sys.stderr)
        return 4
    return 0


def write(lab: Lab, path: Path) -> str:
    """Write the lock of the lab in its present state, and return a summary line.

    Raises:
        LockError: files on the hosts differ from those that the inventory renders, or `path` is not writable.
        LabBroken: a host cannot be read.
    """
    with session(lab) as machines:
        hosts = observe(machines)
    wanted = expected_files(render(lab, papers(hosts)))
    hosts = {name: host.select_files(wanted.get(name, {})) for name, host in hosts.items()}
    found = {name: dict(host.files) for name, host in hosts.items()}
    if drift := _files_that_differ(wanted, found):
        raise LockError(
            f"the hosts differ from what the inventory renders: {_some(drift)}",
            lab.source,
            "run ansible-playbook lab.yml, then ./lab lock",
        )
    tools = controller_tools() | read_kernel_files(lab)
    try:
        write_synced(path, dump(Lock(lab.name, revision(), tools, hosts)))
    except OSError as error:
        why = f"the file cannot be written: {error.strerror}"
        raise LockError(why, str(path), "free some space, or choose another file with --lock FILE") from None
    return f"{path}: wrote {len(hosts)} hosts, {sum(len(host.files) for host in hosts.values())} files"


def expect(lab: Lab, path: Path) -> str:
    """Return, as JSON, the kernel and packages that each host must have; no host is contacted.

    Raises:
        LockError: the lock cannot be used, the lab is up on a kernel of other files than the locked ones, or
            inventory and templates do not render the locked files.
    """
    lock = read(path)
    lock.check_inventory(lab.hosts, str(path))
    if others := list(kernel_differences(lock.tools, read_kernel_files(lab))):
        raise LockError(
            f"the lab is up on another kernel than the locked one: {'; '.join(map(str, others))}",
            str(path),
            "./lab down, and ./lab up --kernel with the locked files; or -e lab_lock=, and then ./lab lock",
        )
    locked = {name: dict(host.files) for name, host in lock.hosts.items()}
    if drift := _files_that_differ(locked, expected_files(render(lab, papers(lock.hosts)))):
        raise LockError(
            f"inventory and templates do not render the files of the lock ({lock.revision}): {_some(drift)}",
            str(path),
            "undo the changes there, or run ansible-playbook lab.yml -e lab_lock= and then ./lab lock",
        )
    return json.dumps(
        {name: {"kernel": host.kernel, "packages": dict(host.packages)} for name, host in lock.hosts.items()}
    )


def _files_that_differ(
    expected: dict[str, dict[str, str]], found: dict[str, dict[str, str]]
) -> list[Difference]:
    return [
        Difference(host, path, was.get(path, "absent"), now.get(path, "absent"))
        for host in expected
        for was, now in [(expected[host], found.get(host, {}))]
        for path in sorted(was.keys() | now.keys())
        if was.get(path) != now.get(path)
    ]


def _some(drift: list[Difference]) -> str:
    more = f" and {len(drift) - SHOWN} more" if len(drift) > SHOWN else ""
    return "; ".join(f"{each.host}: {each.what}" for each in drift[:SHOWN]) + more


def revision() -> str:
    """Return the commit of this checkout, followed by "+edits" if it has uncommitted changes."""
    return str(read_revision())


def controller_tools() -> dict[str, str]:
    """Return the versions of the controller's tools, and the SHA-256 of requirements.txt.

    Rendered files depend on these tools: Python, ansible-core and Jinja2.
    """
    tools = {name: version(name) for name in ("ansible-core", "jinja2")}
    pinned = sha256((ROOT / "requirements.txt").read_bytes()).hexdigest()
    return {**tools, "python": platform.python_version(), "requirements.txt": f"sha256:{pinned}"}


if __name__ == "__main__":
    sys.exit(main())
