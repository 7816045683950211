#!/usr/bin/python
"""Record a host's state before the lab, and restore it: an Ansible module.

Module `converge` writes the manifest before it changes anything. An entry can therefore describe a change
that never happened: the host is as before, and nothing is done. Anything that somebody else has changed since
is named and left alone. Edits are never lost: a file that the lab created and that was edited since is moved
below BACKUPS; if an edited file stays in its place, the version from before the lab is written below BACKUPS.
The record also holds the backup copies of the account files (/etc/passwd- and others), which change when
packages are installed or removed.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, TypedDict

DOCUMENTATION = """
module: host_record
short_description: Record a host's state before the lab, and restore it
author: mptcp-lab maintainers
description:
  - The record is a host's state from before the lab. The manifest lists the changes that the lab made since,
    with the state before each. Both lie below /var/lib/mptcp-lab.
  - Changes that somebody else has made since are named in C(left), and left alone.
  - In check mode nothing is changed, and C(done) lists what would be restored.
options:
  state:
    description: >-
      C(recorded) writes the record, unless there is one. C(read) returns the host's present state, and
      changes nothing. C(removed) undoes the changes that only C(owners) made; their packages, the record and
      the rest of the manifest stay. C(restored) undoes all changes in the manifest, compares the host with
      the record, and removes both.
    type: str
    choices: [recorded, read, removed, restored]
    default: recorded
  owners:
    description: The roles whose changes are undone; required for C(removed), and for no other state.
    type: list
    elements: str
  network:
    description: >-
      What belongs to the network state of a host: the parts, each with the kinds of facts in which it is
      recorded, and the patterns of sysctls (C(mptcp_lab/agent/lab_agent/kernel/network_state.json)). Required
      for each state but C(removed).
    type: dict
  tools:
    description: Programs whose versions C(read) returns besides those of the system, each with its command.
    type: dict
"""
RETURN = """
done:
  description: The changes that were undone.
  returned: C(state) is C(removed) or C(restored)
  type: list
left:
  description: The things that were left alone, the reasons, and each difference from the record.
  returned: C(state) is C(removed) or C(restored)
  type: list
packages:
  description: The packages that are removed, or change to their earlier version.
  returned: C(state) is C(restored)
  type: list
summary:
  description: One sentence about what was restored and compared.
  returned: C(state) is C(removed) or C(restored)
  type: str
found:
  description: The host's state by kind, with kernel, system and versions of tools.
  returned: C(state) is C(read)
  type: dict
"""

#: Ansible replaces this text with the arguments; its presence makes Ansible run the module in one round trip.
ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""
#: By option: the type of its value, and the default.
OPTIONS: dict[str, tuple[type, Any]] = {
    "state": (str, "recorded"),
    "owners": (list, None),
    "network": (dict, None),
    "tools": (dict, None),
}
STATES = ("recorded", "read", "removed", "restored")
RECORD = Path("/var/lib/mptcp-lab/record.json")
MANIFEST = RECORD.with_name("manifest.json")
#: The folder in which module `converge` records which files each unit has loaded.
LOADED = RECORD.with_name("loaded")
#: The marker file of a network change that is not confirmed (roles/lab_network/files/mptcp-lab-confirmed).
TRIAL = Path("/run/mptcp-lab-network.trial")
BACKUPS = Path("/var/backups/mptcp-lab")
UNITS = "/etc/systemd/system"  # module `converge` locks this folder too
PROC_SYS = Path("/proc/sys")
#: Trees in which a package's folders can hold other files, which a purge of the package would remove.
KEPT_TREES = ("/etc/", "/var/lib/", "/var/www/", "/srv/", "/opt/")
RUN = Path("/run/mptcp-lab")  # files of test runs: lock files, fault records
TREES = ("/etc", "/usr/local")
# Files that are rewritten when accounts or libraries change, without a change in meaning.
VOLATILE = {"/etc/.pwd.lock", "/etc/ld.so.cache", "/etc/.updated"}
# Backup copies of the account files. They change when a package adds accounts, or a purge removes them.
ACCOUNTS_BEFORE = tuple(
    f"/etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
)
# Systemd targets that the lab's units pull in.
TARGETS = ("network-pre.target", "network-online.target")
#: Programs whose version matters, with the command that prints it. They need not come from a package.
TOOLS = {
    "ip": ("ip", "-V"),
    "nft": ("nft", "--version"),
    "python3": ("python3", "--version"),
    "systemd": ("systemctl", "--version"),
}
Facts = dict[str, str]


class FileState(TypedDict, total=False):
    """A file (`content` in base64, `mode`, `uid`, `gid`), a symbolic link (`link`), or else `other`."""

    content: str
    mode: int
    uid: int
    gid: int
    link: str
    other: str


class Record(TypedDict):
    """A host's state before the lab: facts by kind, and files with their content."""

    format: int
    was: dict[str, Facts]
    kept: dict[str, FileState | None]


class Entry(TypedDict):
    """A change that the lab made, as module `converge` records it; the values depend on `kind`."""

    kind: str
    name: str
    owners: list[str]
    before: Any
    after: list[Any]


class Failed(Exception):
    """A step failed; the message names the step and the reason."""


def run(*argv: str) -> str:
    """Run a command and return its standard output; raise `Failed` with its message if it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise Failed(f"`{' '.join(argv)}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def ask(*argv: str) -> str:
    """Run a command and return its output and errors, whatever its exit status; "" if it is not installed."""
    try:
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
        )
    except FileNotFoundError:
        return ""
    return done.stdout


def output(*argv: str) -> str:
    """Return the standard output of a command, whatever its exit status."""
    return subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False).stdout


def lines(*argv: str) -> list[str]:
    """Return the non-empty lines that a command prints, with single spaces, whatever its exit status."""
    return [" ".join(line.split()) for line in output(*argv).splitlines() if line.strip()]


def options(given: dict[str, Any]) -> dict[str, Any]:
    """Return the module's options with their defaults; raise `Failed` for one that is unknown or wrong."""
    found = {name: value for name, value in given.items() if not name.startswith("_ansible_")}
    if unknown := sorted(found.keys() - OPTIONS.keys()):
        raise Failed(f"host_record has no option {', '.join(unknown)}; it has {', '.join(OPTIONS)}")
    for name, (kind, default) in OPTIONS.items():
        if found.get(name) is None:
            found[name] = default
        if not isinstance(found[name], kind) and found[name] != default:
            raise Failed(f"host_record: {name} is {found[name]!r}, and has to be a {kind.__name__}")
    if found["state"] not in STATES:
        raise Failed(f"host_record: state is {found['state']!r}; give one of {', '.join(STATES)}")
    if (found["owners"] is not None) != (found["state"] == "removed"):
        raise Failed("host_record: owners are required for state removed, and for no other state")
    if found["network"] is None and found["state"] != "removed":
        raise Failed(f"host_record: network is required for state {found['state']}")
    return found


@dataclass
class Outcome:
    """The result of a run: one line per change that was undone (or would be), left alone, or failed."""

    apply: bool
    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Record a step as done, or as failed if its body raises Failed or OSError."""
        try:
            yield
        except (Failed, OSError) as error:
            self.failed.append(f"{text}: {error}")
        else:
            self.done.append(text)

    def raise_failures(self) -> None:
        """Raise `Failed`, with all that was found, if a step failed."""
        if self.failed:
            message = [*self.failed, *self.left, "These were not taken back; repair them, and repeat"]
            raise Failed("\n".join(message))


# --- the host's state: one function per kind of fact, each returns key -> value -----------------------------


def read_files() -> Facts:
    """Return mode, owner, and digest or link target of every file below TREES, by path."""
    return {
        str(path): describe(path) for tree in TREES for path in _walk(Path(tree)) if str(path) not in VOLATILE
    }


def _walk(tree: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(tree):
        yield from (Path(folder, name) for name in folders + names)


def describe(path: Path) -> str:
    """Return a file's mode and owner, and its content's digest or a link's target."""
    found = path.lstat()
    what = f"{stat.filemode(found.st_mode)} {found.st_uid}:{found.st_gid}"
    if path.is_symlink():
        return f"{what} -> {path.readlink()}"
    return f"{what} {hashlib.sha256(path.read_bytes()).hexdigest()}" if path.is_file() else what


def read_packages() -> Facts:
    """Return the versions of the installed packages by name."""
    if not shutil.which("dpkg-query"):
        return read_rpms()
    shown = lines(
        "dpkg-query", "--show", "--showformat", "${binary:Package} ${Version} ${db:Status-Abbrev}\n"
    )
    return {name: version for name, version, *status in map(str.split, shown) if status and status[0] != "un"}


def read_rpms() -> Facts:
    """Return the versions of the installed packages of the RHEL family, by NAME.ARCH.

    If several versions are installed, as of kernels, the one installed last counts.
    """
    pattern = "%{INSTALLTIME} %{NAME}.%{ARCH} %|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\\n"
    shown = map(str.split, lines("rpm", "--query", "--all", "--queryformat", pattern))
    by_time = sorted(shown, key=lambda words: int(words[0]))
    return {name: version for _, name, version in by_time if not name.endswith(".(none)")}  # not signing keys


def read_sysctls(patterns: Iterable[str]) -> Facts:
    """Return the values of the sysctls that match these patterns, by path below /proc/sys."""
    root = Path("/proc/sys")
    found = {}
    for path in sorted(p for pattern in patterns for p in root.glob(pattern)):
        try:
            found[str(path.relative_to(root))] = " ".join(path.read_text().split())
        except OSError:  # some settings can only be written
            continue
    return found


def read_ip(*arguments: str) -> list[dict[str, Any]]:
    """Return the devices that ip prints as JSON, without the empty objects of those that a filter left out.

    Raises `Failed` if the output is not a JSON list.
    """
    printed = run("ip", "-j", *arguments)
    try:
        found = json.loads(printed or "[]")
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise Failed(f"`ip -j {' '.join(arguments)}` printed no list: {printed[:80]!r}")
    return [entry for entry in found if "ifname" in entry]


def read_links() -> Facts:
    """Return "up" or "down" for each network device, as it is set administratively."""
    shown = read_ip("link", "show")
    return {link["ifname"]: "up" if "UP" in link.get("flags", ()) else "down" for link in shown}


def read_addresses() -> Facts:
    """Return the configured addresses: of global scope, and neither leased nor autoconfigured."""
    return {
        f"{a['local']}/{a['prefixlen']} dev {link['ifname']}": "present"
        for link in read_ip("address", "show")
        for a in link.get("addr_info", [])
        if a.get("scope") == "global" and not a.get("dynamic") and {"local", "prefixlen"} <= a.keys()
    }


def read_routes() -> Facts:
    """Return the configured routes as `ip route` prints them, with the family first.

    Routes of the kernel, of router advertisements and of table local are left out.
    """
    return {
        f"-{family} {line}": "present"
        for family in (4, 6)
        for line in lines("ip", f"-{family}", "route", "show", "table", "all")
        if not any(
            word in f" {line} " for word in (" proto kernel ", " proto ra ", " table local ", " expires ")
        )
    }


def read_rules() -> Facts:
    """Return the routing rules as `ip rule` prints them, with the family first."""
    return {
        f"-{family} {line.replace(':', '', 1)}": "present"
        for family in (4, 6)
        for line in lines("ip", f"-{family}", "rule", "show")
    }


def read_endpoints() -> Facts:
    """Return the MPTCP endpoints as `ip mptcp endpoint` prints them."""
    return dict.fromkeys(lines("ip", "mptcp", "endpoint", "show"), "present")


def read_limits() -> Facts:
    """Return the MPTCP limits as `ip mptcp limits` prints them."""
    shown = lines("ip", "mptcp", "limits", "show")
    return {"limits": shown[0]} if shown else {}


def read_nft_tables() -> Facts:
    """Return the nftables rule set by table."""
    return {line: output("nft", "list", *line.split()) for line in lines("nft", "list", "tables")}


def read_qdiscs() -> Facts:
    """Return the configured queueing disciplines as `tc qdisc` prints them, without handle and refcnt.

    Those that the kernel chose have the handle 0.
    """
    words = [line.split() for line in lines("tc", "qdisc", "show") if shutil.which("tc")]
    return {
        re.sub(r" refcnt \d+", "", " ".join([name, *options])): "present"
        for _, name, handle, *options in words
        if handle != "0:"
    }


def read_neighbours() -> Facts:
    """Return the permanent entries of the neighbour tables as `ip neighbour` prints them."""
    shown = lines("ip", "neighbour", "show", "nud", "permanent")
    return dict.fromkeys(shown, "present")


def read_units() -> Facts:
    """Return for each service whether it is enabled and whether it runs."""
    enabled = lines("systemctl", "list-unit-files", "--type=service", "--no-legend", "--plain", "--no-pager")
    active = lines(
        "systemctl", "list-units", "--type=service", "--state=active", "--no-legend", "--plain", "--no-pager"
    )
    running = {line.split()[0] for line in active if "exited" not in line.split()[:4]}
    return {
        name: f"{state}, {'runs' if name in running else 'does not run'}"
        for name, state in (line.split()[:2] for line in enabled)
        if state in ("enabled", "disabled")
    }


def read_targets() -> Facts:
    """Return the states of the systemd targets in TARGETS."""
    return {name: output("systemctl", "is-active", name).strip() for name in TARGETS}


#: The function that reads each kind of fact of the network state, but for sysctls.
NETWORK: dict[str, Callable[[], Facts]] = {
    "links": read_links,
    "addresses": read_addresses,
    "routes": read_routes,
    "rules": read_rules,
    "endpoints": read_endpoints,
    "limits": read_limits,
    "nft_tables": read_nft_tables,
    "qdiscs": read_qdiscs,
    "neighbours": read_neighbours,
}
Kinds = dict[str, Callable[[], Facts]]


def kinds_of(network: dict[str, Any]) -> Kinds:
    """Return the function that reads each kind of fact, with this definition of the network state."""
    patterns = [pattern for group in network["sysctls"].values() for pattern in group]
    readers = {**NETWORK, "sysctls": lambda: read_sysctls(patterns)}
    wanted = list(dict.fromkeys(kind for kinds in network["parts"].values() for kind in kinds))
    if unknown := sorted(set(wanted) - readers.keys()):
        raise Failed(f"host_record cannot record {', '.join(unknown)}; it can record {', '.join(readers)}")
    return {
        "files": read_files,
        "packages": read_packages,
        **{kind: readers[kind] for kind in wanted},
        "units": read_units,
        "targets": read_targets,
    }


# --- keeping files -----------------------------------------------------------------------------------------


def keep(path: Path) -> FileState | None:
    """Return content, mode and owner of a file, or None if there is no such file."""
    if not path.is_file():
        return None
    found = path.stat()
    return {
        "content": base64.b64encode(path.read_bytes()).decode(),
        "mode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
    }


def restore_kept(kept: dict[str, FileState | None]) -> None:
    """Restore files with content, mode and owner; remove those that did not exist."""
    for name, what in kept.items():
        path = Path(name)
        if what is None:
            path.unlink(missing_ok=True)
            continue
        content = base64.b64decode(what["content"])
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
        path.chmod(what["mode"])
        os.chown(path, what["uid"], what["gid"])


# --- the manifest ------------------------------------------------------------------------------------------


def read_manifest() -> list[Entry]:
    """Return the manifest's entries, none if there is no manifest; raise `Failed` if it is damaged."""
    if not MANIFEST.exists():
        return []
    try:
        entries: list[Entry] = json.loads(MANIFEST.read_text())["entries"]
        for entry in entries:
            _ = entry["kind"] + entry["name"], entry["before"], [*entry["after"]], [*entry["owners"]]
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise Failed(
            f"{MANIFEST} is damaged ({type(error).__name__}: {error}); nothing was changed. Put a copy of it "
            f"back, or undo by hand what docs/roles.md lists and remove {MANIFEST.parent}"
        ) from None
    return entries


def write_manifest(entries: list[Entry]) -> None:
    """Replace the manifest atomically, as module `converge` does."""
    draft = MANIFEST.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        json.dump({"format": 1, "entries": entries}, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(MANIFEST)
    folder = os.open(MANIFEST.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def of_kind(entries: Iterable[Entry], kind: str) -> list[Entry]:
    """Return the entries of one kind."""
    return [entry for entry in entries if entry["kind"] == kind]


# --- files and folders -------------------------------------------------------------------------------------


def now_at(path: Path) -> FileState | None:
    """Return the file at a path in the manifest's form: None if there is none, {"other": ...} if a folder."""
    if path.is_symlink():
        return {"link": str(path.readlink())}
    if not path.exists():
        return None
    return keep(path) or {"other": stat.filemode(path.stat().st_mode)}


def digest(found: FileState | None) -> str:
    """Return the SHA-256 digest of a file in the manifest's form; "absent" for None, "" for other types."""
    if found is None:
        return "absent"
    if "content" not in found:
        return ""
    return hashlib.sha256(base64.b64decode(found["content"])).hexdigest()


def is_the_labs(entry: Entry, found: FileState | None) -> bool:
    """Return whether the content of a path is one that the lab wrote, in the last run or an earlier one."""
    return digest(found) in entry["after"] or ("any" in entry["after"] and found is not None)


def is_edited(entry: Entry) -> bool:
    """Return whether a file differs from all that the lab wrote and from the version before the lab."""
    found = now_at(Path(entry["name"]))
    return found is not None and found != entry["before"] and not is_the_labs(entry, found)


def put(path: Path, what: FileState) -> None:
    """Write a file or a symbolic link atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.converge")
    draft.unlink(missing_ok=True)
    if "link" in what:
        draft.symlink_to(what["link"])
    else:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(base64.b64decode(what["content"]))
            stream.flush()
            os.fsync(stream.fileno())
        os.chown(draft, what["uid"], what["gid"])
        draft.chmod(what["mode"])
    draft.replace(path)
    if Path("/sys/fs/selinux/enforce").exists():
        ask("restorecon", str(path))


def backup_path(path: Path, word: str) -> Path:
    """Return an unused path below BACKUPS for a copy of a file."""
    BACKUPS.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = BACKUPS / f"{path.relative_to('/')}.{word}"
    wanted.parent.mkdir(parents=True, exist_ok=True)
    copies = (wanted.with_name(f"{wanted.name}.{number}") for number in range(2, 1000))
    return next(copy for copy in (wanted, *copies) if not copy.exists() and not copy.is_symlink())


def restore_file(entry: Entry, outcome: Outcome) -> None:
    """Restore a file's version from before the lab, unless somebody else has changed it since."""
    path, before = Path(entry["name"]), entry["before"]
    found = now_at(path)
    if outcome.apply:
        for writer in ("converge", "confirmed"):
            path.with_name(f".{path.name}.{writer}").unlink(missing_ok=True)  # the draft of a killed run
    if found == before:
        return
    if is_the_labs(entry, found):
        with outcome.step(f"file {path}"):
            if outcome.apply and before is None:
                path.unlink()
            elif outcome.apply:
                put(path, before)
        return
    if found is not None and before is None and "other" not in found:
        with outcome.step(f"file {path}"):
            if outcome.apply:
                copy = backup_path(path, "edited")
                shutil.move(str(path), copy)
                outcome.left.append(f"file {path}: the lab's own, edited since; moved to {copy}")
        return
    what = "removed" if found is None else "edited"
    saved = ""
    if outcome.apply and before is not None:
        copy = backup_path(path, "before-lab")
        put(copy, before)
        saved = f"; what was there before the lab is now {copy}"
    outcome.left.append(f"file {path}: {what} since the lab wrote it; left alone{saved}")


def restore_folder(entry: Entry, outcome: Outcome) -> None:
    """Remove a folder that the lab made if no file is left in it, or restore a folder's mode and owner."""
    path, before = Path(entry["name"]), entry["before"]
    if path.is_symlink() or (before is None and not path.is_dir()):
        return
    if before is not None:
        if not path.is_dir():
            if entry["after"][-1] == "absent":
                with outcome.step(f"folder {path}"):
                    if outcome.apply:
                        path.mkdir(parents=True)
                        apply_attributes(path, before)
            return
        found = path.stat()
        now = {"mode": f"{stat.S_IMODE(found.st_mode):04o}", "owner": f"{found.st_uid}:{found.st_gid}"}
        if now != before and now == {"mode": "0755", "owner": "0:0"}:
            with outcome.step(f"folder {path}"):
                if outcome.apply:
                    apply_attributes(path, before)
        return
    if not outcome.apply:
        outcome.done.append(f"folder {path}")
        return
    for cache in path.rglob("__pycache__"):  # Python wrote them for the lab's programs
        shutil.rmtree(cache, ignore_errors=True)
    others = [each for each in path.rglob("*") if each.is_symlink() or not each.is_dir()]
    if others:
        outcome.left.append(f"folder {path}: holds {', '.join(map(str, sorted(others)[:3]))}; left alone")
        return
    with outcome.step(f"folder {path}"):
        shutil.rmtree(path)


def apply_attributes(path: Path, wanted: dict[str, str]) -> None:
    """Set a folder's mode and owner."""
    uid, gid = map(int, wanted["owner"].split(":"))
    os.chown(path, uid, gid)
    path.chmod(int(wanted["mode"], 8))


def restore_files(entries: list[Entry], outcome: Outcome) -> None:
    """Restore the files, then the folders, the deepest ones first."""
    for entry in of_kind(entries, "file"):
        restore_file(entry, outcome)
    for entry in sorted(of_kind(entries, "folder"), key=lambda each: each["name"].count("/"), reverse=True):
        restore_folder(entry, outcome)


# --- units -------------------------------------------------------------------------------------------------


def show(unit: str) -> dict[str, str]:
    """Return the states and the path that systemd reports for a unit."""
    shown = ask("systemctl", "show", "--property=UnitFileState,ActiveState,LoadState,FragmentPath", unit)
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def stop_units(
    entries: list[Entry], all_entries: list[Entry], packages: Packages, outcome: Outcome
) -> list[str]:
    """Stop and disable the units that the lab started and enabled; return the active ones, to restart later.

    A unit whose file the lab wrote, or whose package the lab installed, is stopped and disabled. If somebody
    has edited the configuration of a unit's package since, the unit is in use and is left alone.
    """
    own = {entry["name"] for entry in of_kind(all_entries, "file") if entry["before"] is None}
    installed = {entry["name"] for entry in of_kind(all_entries, "package") if is_new(entry)}
    again = []
    for entry in reversed(of_kind(entries, "unit")):
        name, before, now = entry["name"], entry["before"], show(entry["name"])
        state = now.get("ActiveState", "")
        if now.get("LoadState") in ("not-found", None) and state != "active":
            continue
        is_own = f"{UNITS}/{re.sub('@[^.]*[.]', '@.', name)}" in own
        package = "" if is_own else owner_of(now.get("FragmentPath", ""))
        if package in packages.used:
            outcome.left.append(f"unit {name}: {packages.kept[package]}; left alone")
            continue
        is_going = is_own or (package in installed and package not in packages.kept)
        did = ", ".join(entry["after"])
        was_disabled = "enable" in did and before["enabled"] != "enabled"
        was_stopped = "start" in did and before["active"] != "active"
        todo = ["disable"] if now.get("UnitFileState") == "enabled" and (is_going or was_disabled) else []
        if state in ("active", "activating", "failed") and (is_going or was_stopped):
            todo.append("stop")
        elif state == "active":
            again.append(name)
        if todo:
            with outcome.step(f"unit {name}"):
                for verb in todo if outcome.apply else []:
                    run("systemctl", "--quiet", verb, name)
                if outcome.apply and "stop" in todo:
                    ask("systemctl", "reset-failed", name)
                    (LOADED / name).unlink(missing_ok=True)
    return again


def restart_units(names: list[str], outcome: Outcome) -> None:
    """Restart the units that stay, so that they use the restored files."""
    for name in names:
        with outcome.step(f"unit {name} restarted"):
            if outcome.apply:
                run("systemctl", "try-restart", name)


def reload_managers(entries: list[Entry], outcome: Outcome) -> None:
    """Make systemd reload its files, and NetworkManager too if a file of it was restored."""
    if not outcome.apply:
        return
    with outcome.step("systemd reloaded"):
        run("systemctl", "daemon-reload")
    if any("/etc/NetworkManager/" in entry["name"] for entry in of_kind(entries, "file")):
        ask("systemctl", "try-reload-or-restart", "NetworkManager.service")
        ask("nmcli", "connection", "reload")


def restore_targets(entries: list[Entry], outcome: Outcome) -> None:
    """Stop systemd targets that only the lab started, unless an active unit requires them."""
    for entry in of_kind(entries, "target"):
        name = entry["name"]
        if entry["before"] == "active" or ask("systemctl", "is-active", name).strip() != "active":
            continue
        properties = "--property=RequiredBy,RequisiteOf,BoundBy,ConsistsOf"
        units = ask("systemctl", "show", "--value", properties, name).split()
        needing = [unit for unit in units if ask("systemctl", "is-active", unit).strip() == "active"]
        if needing:
            outcome.left.append(f"target {name}: {', '.join(needing)} requires it; left alone")
            continue
        with outcome.step(f"target {name}"):
            if outcome.apply:
                run("systemctl", "stop", name)


# --- the kernel's settings ---------------------------------------------------------------------------------


def wanted_sysctls(entries: list[Entry], outcome: Outcome) -> dict[str, str]:
    """Return the value to restore for each sysctl; call this before units stop, which can change sysctls.

    It is the value from before the lab if the sysctl still has a value that the lab set, else the current
    value, which somebody else has set.
    """
    wanted = {}
    for entry in of_kind(entries, "sysctl"):
        path = PROC_SYS / entry["name"]
        if entry["before"] is None or not path.exists():
            continue
        now = " ".join(path.read_text().split())
        is_ours = now in entry["after"]
        wanted[entry["name"]] = entry["before"] if is_ours else now
        if not is_ours and now != entry["before"]:
            outcome.left.append(
                f"sysctl {entry['name']}: is {now}, was {entry['before']} before the lab, which set "
                f"{entry['after'][-1]}; changed since, left alone"
            )
    return wanted


def restore_sysctls(wanted: dict[str, str], outcome: Outcome) -> None:
    """Write each sysctl that differs from its wanted value; those that change others are written first."""
    first = ("ip_forward", "/all/")
    for name, value in sorted(wanted.items(), key=lambda item: not any(word in item[0] for word in first)):
        path = PROC_SYS / name
        if path.exists() and " ".join(path.read_text().split()) != value:
            with outcome.step(f"sysctl {name}"):
                if outcome.apply:
                    path.write_text(value)


# --- the network -------------------------------------------------------------------------------------------


@dataclass
class Network:
    """Network state that can be lost when units of the lab stop: sets of lines as `ip` prints them."""

    addresses: set[str]
    routes: set[str]
    rules: set[str]
    endpoints: set[str]
    limits: str

    @classmethod
    def read(cls) -> Network:
        """Read the state from the host."""
        return cls(
            addresses=set(read_addresses()),
            routes=set(read_routes()),
            rules=set(read_rules()),
            endpoints=set(read_endpoints()),
            limits=read_limits().get("limits", ""),
        )


def without_the_labs(found: Network, entries: list[Entry]) -> Network:
    """Return the host's network state without the addresses, routes, rules and endpoints of the lab."""
    marks = {after for entry in of_kind(entries, "routes") for after in entry["after"]}
    lab = {
        f"{canonical(address)} dev {entry['name']}"
        for entry in of_kind(entries, "device")
        for after in entry["after"]
        for address in after
    }
    lab_endpoints: set[str] = set()
    by_a_daemon = False
    for entry in of_kind(entries, "endpoints"):
        for after in entry["after"]:
            by_a_daemon |= isinstance(after, str)
            lab_endpoints |= set() if isinstance(after, str) else set(after)

    def is_marked(line: str) -> bool:
        return any(f" {mark} " in f" {line} " for mark in marks)

    return Network(
        {line for line in found.addresses if line not in lab},
        {line for line in found.routes if not is_marked(line)},
        {line for line in found.rules if not is_marked(line)},
        {
            line
            for line in found.endpoints
            if line.split()[0] not in lab_endpoints and " implicit" not in line and not by_a_daemon
        },
        found.limits,
    )


def canonical(address: str) -> str:
    """Return an address with its prefix length, as `ip` prints it."""
    return str(ip_interface(address))


def restore_network(entries: list[Entry], others: Network, outcome: Outcome) -> None:
    """Remove the lab's addresses, and restore what was lost with its units or existed before the lab."""
    before = Network(set(), set(), set(), set(), others.limits)
    for entry in of_kind(entries, "endpoints"):
        before.endpoints |= {" ".join(line.split()) for line in entry["before"].splitlines()}
    for entry in of_kind(entries, "device"):
        restore_device(entry, others, before, outcome)
    missing = (
        ("address", sorted((before.addresses | others.addresses) - set(read_addresses()))),
        ("route", [line for line in sorted(others.routes) if line not in read_routes()]),
        ("rule", [line for line in sorted(others.rules) if line not in read_rules()]),
    )
    for kind, lines in missing:
        for line in lines:
            add_line(kind, line, outcome)
    endpoints = {line for line in before.endpoints if " implicit" not in line} | others.endpoints
    for line in sorted(endpoints - set(read_endpoints())):
        with outcome.step(f"endpoint {line}"):
            run("ip", "mptcp", "endpoint", "add", *line.split())
    for entry in of_kind(entries, "limits"):
        restore_limits(entry, others.limits, outcome)


def restore_device(entry: Entry, others: Network, before: Network, outcome: Outcome) -> None:
    """Restore a device's link state, remove the lab's addresses, and add its earlier ones to `before`."""
    device = entry["name"]
    try:
        link = json.loads(entry["before"])[0]
    except (ValueError, LookupError):
        return  # there was no such device
    had = {
        f"{address['local']}/{address['prefixlen']} dev {device}"
        for address in link.get("addr_info", [])
        if address["scope"] == "global" and not address.get("dynamic")
    }
    before.addresses |= had
    lab = {f"{canonical(address)} dev {device}" for after in entry["after"] for address in after}
    now = read_links()
    if device not in now:
        return
    for line in sorted((lab - had) & set(read_addresses())):
        with outcome.step(f"address {line}"):
            run("ip", "address", "delete", *line.split())
    state = "up" if "UP" in link["flags"] else "down"
    used = [line for line in others.addresses if line.endswith(f" dev {device}")]
    if now[device] != state and not (state == "down" and used):
        with outcome.step(f"link {device} {state}"):
            run("ip", "link", "set", "dev", device, state)


def add_line(kind: str, line: str, outcome: Outcome) -> None:
    """Restore an address, a route or a rule that was lost with the lab's; report it if that fails."""
    family, *rest = line.split() if kind != "address" else ("-family", *line.split())
    argv = ("ip",) if kind == "address" else ("ip", family)
    rest = ["priority", *rest] if kind == "rule" else rest
    try:
        run(*argv, kind, "add", *rest, *(["nodad"] if kind == "address" and ":" in line else []))
    except Failed as error:
        reason = str(error).rpartition("failed: ")[2]
        outcome.left.append(f"{kind} {line}: not the lab's; it went with the lab's addresses ({reason})")
    else:
        outcome.done.append(f"{kind} {line} put back")


def restore_limits(entry: Entry, seen: str, outcome: Outcome) -> None:
    """Restore the MPTCP limits, unless somebody else has changed them since."""

    def pairs(text: str) -> dict[str, str]:
        words = text.split()
        return dict(zip(words[::2], words[1::2]))

    is_ours = any(pairs(seen) == pairs(after) for after in entry["after"])
    wanted = pairs(entry["before"] if is_ours else seen)
    if wanted and pairs(read_limits().get("limits", "")) != wanted:
        with outcome.step("MPTCP limits"):
            run("ip", "mptcp", "limits", "set", *(word for pair in wanted.items() for word in pair))
    if not is_ours and wanted != pairs(entry["before"]):
        outcome.left.append(f"MPTCP limits: are {seen}; changed since the lab set them, left alone")


def restore_nft(entries: list[Entry], outcome: Outcome) -> None:
    """Remove the lab's nftables tables that its units left behind."""
    for entry in of_kind(entries, "nft"):
        table = entry["name"].split()
        if entry["before"] is None and ask("nft", "list", "table", *table).startswith("table "):
            with outcome.step(f"nftables table {entry['name']}"):
                if outcome.apply:
                    run("nft", "delete", "table", *table)


# --- packages ----------------------------------------------------------------------------------------------


class Apt:
    """The package manager of Debian and Ubuntu.

    Names of packages of the host's architecture are used without the architecture.
    """

    def __init__(self) -> None:
        self.native = ask("dpkg", "--print-architecture").strip()
        shown = ask("dpkg-query", "--show", "--showformat=${db:Status-Status} ${binary:Package} ${Version}\n")
        lines = [line.split() for line in shown.splitlines() if len(line.split()) == 3]
        there = [line for line in lines if line[0] not in ("config-files", "not-installed")]
        self.versions = {self.plain(name): version for _, name, version in there}

    def plain(self, name: str) -> str:
        """Return a package's name without the suffix of the host's architecture."""
        return name[: -len(self.native) - 1] if name.endswith(f":{self.native}") else name

    def goes_with(self, names: Iterable[str]) -> set[str]:
        """Return all packages that are removed if these are, themselves included."""
        shown = run("apt-get", "--simulate", "--yes", "--no-auto-remove", "purge", *sorted(names))
        words = [line.split() for line in shown.splitlines()]
        return {self.plain(line[1]) for line in words if line and line[0] in ("Purg", "Remv")}

    def owner(self, path: str) -> str:
        """Return the package that a file belongs to; "" for none."""
        # On Debian /lib is a symbolic link to /usr/lib, and the database can hold either path.
        for name in (path, path.removeprefix("/usr") if path.startswith("/usr/lib/") else f"/usr{path}"):
            found, colon, _ = ask("dpkg-query", "--search", name).partition(f": {name}\n")
            if colon:
                return self.plain(found.rpartition("\n")[2].split(", ")[0])
        return ""

    def files(self, names: Iterable[str]) -> set[str]:
        """Return the paths of all files in these packages."""
        return set(ask("dpkg-query", "--listfiles", *sorted(names)).splitlines())

    def edited_files(self, going: set[str]) -> dict[str, list[str]]:
        """Return by package its edited configuration files, and files of others in its folders.

        `going` are the packages that would be removed: a purge also removes other files in the folders that
        belong to these packages alone.
        """
        found: dict[str, list[str]] = {}
        shown = ask("dpkg-query", "--show", "--showformat=${binary:Package}\n${Conffiles}\n", *sorted(going))
        name = ""
        for line in shown.splitlines() if going else []:
            path, _, rest = line.strip().partition(" ")
            if not line.startswith(" "):
                name = self.plain(line) or name
            elif Path(path).is_file() and rest.split()[0] != md5(Path(path)):
                found.setdefault(name, []).append(path)
        theirs = self.files(going) if going else set()
        folders = [path for path in theirs if path.startswith(KEPT_TREES) and Path(path).is_dir()]
        users = ask("dpkg-query", "--search", *folders) if folders else ""
        for line in users.splitlines():
            names, _, folder = line.partition(": ")
            owners = {self.plain(each) for each in names.split(", ")}
            if folder in folders and owners <= going:
                others = [str(path) for path in sorted(Path(folder).rglob("*")) if is_others(path, theirs)]
                for owner in owners if others else ():
                    found.setdefault(owner, []).extend(others)
        return found

    def remove(self, entries: list[Entry]) -> None:
        """Purge the packages; those with configuration from before the lab are removed without a purge."""
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        apt = ("apt-get", "--yes", "--quiet", "--no-auto-remove")
        kept = [entry["name"] for entry in entries if entry["before"].get("configured")]
        gone = [entry["name"] for entry in entries if not entry["before"].get("configured")]
        for verb, names in (("remove", kept), ("purge", gone)):
            if names:
                run(*apt, verb, *names)

    def obstacle(self, entry: Entry, going: set[str]) -> str:
        """Return why a package cannot return to its earlier version once `going` are removed, or ""."""
        without = [f"{name}-" for name in sorted(going)]
        package = f"{entry['name']}={entry['before']['version']}"
        apt = ("apt-get", "--simulate", "--yes", "--quiet", "--allow-downgrades", "--no-install-recommends")
        try:
            shown = run(*apt, "install", package, *without)
        except Failed as error:
            return f"version {entry['before']['version']} cannot be had ({str(error).rpartition('E: ')[2]})"
        gone = {
            self.plain(line.split()[1]) for line in shown.splitlines() if line.startswith(("Remv", "Purg"))
        }
        others = sorted(gone - going)
        return f"needed by {', '.join(others)}" if others else ""

    def back(self, entry: Entry) -> None:
        """Install the version that was there before the lab."""
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        package = f"{entry['name']}={entry['before']['version']}"
        apt = ("apt-get", "--yes", "--quiet", "--allow-downgrades", "--no-remove", "--no-install-recommends")
        run(*apt, "--option=Dpkg::Options::=--force-confold", "install", package)
        if entry["before"].get("auto"):
            run("apt-mark", "auto", entry["name"])


class Dnf:
    """The package manager of the RHEL family.

    Names include the architecture; a package can be installed in several versions.
    """

    def __init__(self) -> None:
        version = "%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}"
        pattern = f"%{{NAME}}.%{{ARCH}} {version} %{{NAME}}-%{{VERSION}}-%{{RELEASE}}.%{{ARCH}}\\n"
        shown = ask("rpm", "--query", "--all", "--queryformat", pattern)
        lines = [line.split() for line in shown.splitlines()]
        self.all = {(name, version): full for name, version, full in lines if not name.endswith(".(none)")}
        self.versions = dict(list(self.all))

    def full(self, name: str) -> list[str]:
        """Return the full rpm names (NAME-VERSION-RELEASE.ARCH) of all installed versions of a package."""
        return [full for (each, _), full in self.all.items() if each == name]

    def goes_with(self, names: Iterable[str]) -> set[str]:
        """Return all packages that are removed if these are, themselves included."""
        names = set(names)
        named = {full: name for (name, _), full in self.all.items()}
        while True:
            words = [full for name in names for full in self.full(name)]
            said = ask("rpm", "--erase", "--test", *words) if words else ""
            needing = {
                named.get(found, found) for found in re.findall(r"needed by \(installed\) (\S+)", said)
            }
            if needing <= names:
                return names
            names |= needing

    def owner(self, path: str) -> str:
        """Return the package that a file belongs to; "" for none."""
        found = ask("rpm", "--query", "--file", "--queryformat", "%{NAME}.%{ARCH}\\n", path).split()
        return found[0] if len(found) == 1 else ""

    def edited_files(self, going: set[str]) -> dict[str, list[str]]:
        """Return by package its edited configuration files."""
        found: dict[str, list[str]] = {}
        for name in going:
            for line in ask("rpm", "--verify", "--nodeps", *self.full(name)).splitlines():
                match = re.match(r"(\S{8,})\s+c\s+(/.*)", line)
                if match and "5" in match[1]:
                    found.setdefault(name, []).append(match[2])
        return found

    def obstacle(self, _entry: Entry, _going: set[str]) -> str:
        """Return "": dnf itself reports why a package cannot return to its earlier version."""
        return ""

    def remove(self, entries: list[Entry]) -> None:
        """Remove the versions that the lab installed."""
        words = [
            full
            for entry in entries
            for (name, version), full in self.all.items()
            if name == entry["name"] and (version in entry["after"] or len(self.full(name)) == 1)
        ]
        run("dnf", "--assumeyes", "--quiet", "remove", "--noautoremove", *words)

    def back(self, entry: Entry) -> None:
        """Install the version that was there before the lab."""
        name, arch = entry["name"].rsplit(".", 1)
        package = f"{name}-{entry['before']['version']}.{arch}"
        verb = "downgrade" if entry["name"] in self.versions else "install"
        run("dnf", "--assumeyes", "--quiet", verb, package)


def manager() -> Apt | Dnf:
    """Return the host's package manager."""
    return Apt() if shutil.which("dpkg-query") else Dnf()


def is_others(path: Path, theirs: set[str]) -> bool:
    """Return whether a path is a file that is not part of the packages, whose files are `theirs`."""
    if str(path) in theirs:
        return False
    if path.is_symlink():  # a package's scripts may have made a link that points to one of its files
        return str(path).startswith("/etc/") and str(path.resolve()) not in theirs
    return path.is_file() and path.stat().st_size > 0  # units leave empty files that were mount points


def md5(path: Path) -> str:
    """Return the MD5 digest of a configuration file, as dpkg stores it."""
    return hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324 - compared, trusted with nothing


def owner_of(path: str) -> str:
    """Return the package that a file belongs to; "" for none."""
    return manager().owner(path) if path else ""


def is_new(entry: Entry) -> bool:
    """Return whether a package was not installed before the lab."""
    return not entry["before"].get("version")


@dataclass
class Packages:
    """The plan for packages: those to remove, those to change back, and by name why one is kept."""

    remove: list[Entry] = field(default_factory=list)
    back: list[Entry] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # packages in `kept` whose configuration was edited
    left: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """Return the names of the packages that would be removed or changed."""
        changed = [f"{entry['name']} ({entry['before']['version']})" for entry in self.back]
        return sorted([entry["name"] for entry in self.remove] + changed)


def plan_packages(entries: list[Entry]) -> Packages:
    """Plan to remove the packages that the lab installed, except those that somebody has started to use.

    Packages that the lab changed return to their earlier version, if that is possible.
    """
    host, plan = manager(), Packages()
    packages = of_kind(entries, "package")
    going = {entry["name"] for entry in packages if is_new(entry) and entry["name"] in host.versions}
    ours = {entry["name"]: entry for entry in of_kind(entries, "file")}
    for name, paths in sorted(host.edited_files(going).items()):
        edited = [path for path in paths if path not in ours or is_edited(ours[path])]
        if edited:
            for each in host.goes_with({name}) & going:
                plan.kept.setdefault(each, f"{edited[0]} is not as the package or the lab left it")
    plan.used = set(plan.kept)
    going -= plan.used
    while going and (others := host.goes_with(going) - going):
        needed = {name: sorted(host.goes_with({name}) & others) for name in sorted(going)}
        found = {name: f"needed by {', '.join(users)}" for name, users in needed.items() if users}
        plan.kept.update(found or dict.fromkeys(going, f"needed by {', '.join(sorted(others))}"))
        going -= set(plan.kept)
    plan.remove = [entry for entry in packages if entry["name"] in going]
    for entry in packages:
        now = host.versions.get(entry["name"])
        before = entry["before"].get("version")
        if is_new(entry) or now == before:
            continue
        if (now or "absent") in entry["after"]:
            obstacle = host.obstacle(entry, going)
            if obstacle:
                plan.left.append(
                    f"package {entry['name']}: was {before} before the lab; {obstacle}; left alone"
                )
            else:
                plan.back.append(entry)
        else:
            plan.left.append(
                f"package {entry['name']}: is {now or 'absent'}, was {before} before the lab, which "
                f"installed {entry['after'][-1]}; changed since, left alone"
            )
    plan.left += [f"package {name}: {why}; left alone" for name, why in sorted(plan.kept.items())]
    return plan


def restore_packages(plan: Packages, outcome: Outcome) -> None:
    """Remove packages, and install earlier versions of others."""
    outcome.left += plan.left
    if plan.remove:
        with outcome.step(f"packages {', '.join(entry['name'] for entry in plan.remove)}"):
            if outcome.apply:
                manager().remove(plan.remove)
    for entry in plan.back:
        text = f"package {entry['name']} {entry['before']['version']}"
        try:
            if outcome.apply:
                manager().back(entry)
        except Failed as error:
            outcome.left.append(f"{text}: cannot go back to it: {error}")
        else:
            outcome.done.append(text)


# --- the module -------------------------------------------------------------------------------------------


def read_all(kinds: Kinds) -> dict[str, Facts]:
    """Return the facts of all kinds, as a record holds them."""
    return {name: read() for name, read in kinds.items()}


def differences(was: dict[str, Facts], now: dict[str, Facts]) -> Iterator[str]:
    """Yield one line per fact that differs; sysctls that an older record does not have are not compared."""
    for kind, before in was.items():
        after = now[kind]
        for key in sorted(before if kind == "sysctls" else before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                yield f"{kind}: {key}: was {before.get(key, 'absent')}, is {after.get(key, 'absent')}"


def read_record() -> Record | None:
    """Return the record, or None if there is none; raise `Failed` if it is damaged."""
    if not RECORD.exists():
        return None
    try:
        record: Record = json.loads(RECORD.read_text())
        _ = [*record["was"].items()], [*record["kept"].items()]
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise Failed(
            f"{RECORD} is damaged ({type(error).__name__}: {error}); nothing was changed. Put a copy of it "
            "back, or remove it to restore the host without a comparison"
        ) from None
    return record


def restore_accounts(was: Record) -> None:
    """Restore the backup copy of each account file that is itself as it was before the lab."""
    for name, what in was["kept"].items():
        accounts = Path(name.rstrip("-"))
        is_same = accounts.exists() and describe(accounts) == was["was"]["files"].get(str(accounts))
        if name in ACCOUNTS_BEFORE and is_same:
            restore_kept({name: what})


def restore(apply: bool, kinds: Kinds) -> dict[str, Any]:
    """Undo all changes, compare the host with the record, and return the result.

    Raises `Failed` if a step fails; record and manifest stay, so that the task can be repeated.
    """
    entries, was = read_manifest(), read_record()
    outcome = Outcome(apply)
    if not entries and not was:
        return result(
            outcome, "unchanged: the lab has changed nothing here, or was taken back already", False
        )
    if was and not entries and "format" not in was:
        raise Failed(
            "an earlier version of this project set this host up, and did not note what it changed; nothing "
            "was changed now. Restore the host with that version"
        )
    packages = plan_packages(entries)
    others = without_the_labs(Network.read(), entries)
    sysctls = wanted_sysctls(entries, outcome)
    if apply:
        ask("systemctl", "stop", "mptcp-lab-way-back.timer")  # a killed run may have left it
        TRIAL.unlink(missing_ok=True)
    again = stop_units(entries, entries, packages, outcome)
    restore_nft(entries, outcome)
    restore_files(entries, outcome)
    reload_managers(entries, outcome)
    restore_sysctls(sysctls, outcome)
    if apply:
        restore_network(entries, others, outcome)
    restart_units(again, outcome)
    restore_packages(packages, outcome)
    restore_targets(entries, outcome)
    outcome.raise_failures()
    summary = f"would be taken back: {', '.join(outcome.done) or 'nothing but the record'}"
    if apply:
        compared = finish(was, outcome, kinds)
        summary = f"{len(outcome.done)} changes were taken back; {compared}"
    return {**result(outcome, summary), "packages": packages.names()}


def result(outcome: Outcome, summary: str, changed: bool = True) -> dict[str, Any]:
    """Return a result as Ansible reads it."""
    diff = [{"prepared": "".join(f"restore {line}\n" for line in outcome.done)}] if changed else []
    return {
        "changed": changed,
        "diff": diff,
        "done": outcome.done,
        "left": outcome.left,
        "packages": [],
        "summary": summary,
    }


def finish(was: Record | None, outcome: Outcome, kinds: Kinds) -> str:
    """Compare the host with the record, remove record and manifest, and return what the comparison found.

    The differences are added to what was left alone.
    """
    compared = "there is no record of before the lab to compare with"
    if was:
        restore_accounts(was)
        found = list(differences(was["was"], read_all(kinds)))
        outcome.left += [f"{line}: not the lab's, left alone" for line in found]
        counted = ", ".join(f"{len(facts)} {kind.replace('_', ' ')}" for kind, facts in was["was"].items())
        word = f"{len(found)} differences, named above" if found else "no difference"
        compared = f"compared with the record of before the lab, {word}: {counted}"
    RECORD.unlink(missing_ok=True)
    MANIFEST.unlink(missing_ok=True)
    for folder in (RECORD.parent, RUN):  # both hold nothing but state of the lab
        shutil.rmtree(folder, ignore_errors=True)
    return compared


def remove(apply: bool, owners: list[str]) -> dict[str, Any]:
    """Undo the changes that only these roles made, and return the result; their packages stay."""
    entries = read_manifest()

    def is_of(owner: str) -> bool:
        return any(owner == each or owner.startswith(f"{each}@") for each in owners)

    def is_theirs(entry: Entry) -> bool:
        return entry["kind"] != "package" and any(map(is_of, entry["owners"]))

    theirs = [entry for entry in entries if is_theirs(entry)]
    alone = [entry for entry in theirs if all(map(is_of, entry["owners"]))]
    outcome = Outcome(apply)
    if not theirs:
        return result(outcome, "unchanged", False)
    sysctls = wanted_sysctls(alone, outcome)
    again = stop_units(alone, entries, Packages(), outcome)
    restore_nft(alone, outcome)
    restore_files(alone, outcome)
    reload_managers(alone, outcome)
    restore_sysctls(sysctls, outcome)
    restart_units(again, outcome)
    outcome.raise_failures()
    if apply:
        for entry in theirs:
            entry["owners"] = [owner for owner in entry["owners"] if not is_of(owner)]
        write_manifest([entry for entry in entries if entry["owners"]])
    return result(outcome, ", ".join(outcome.done) or "the manifest")


def take_record(apply: bool, kinds: Kinds) -> dict[str, Any]:
    """Write the record, unless there is one, and return the result."""
    changed = not RECORD.exists()
    if changed and apply:
        kept = {name: keep(Path(name)) for name in ACCOUNTS_BEFORE}
        document: Record = {"format": 2, "was": read_all(kinds), "kept": kept}
        RECORD.parent.mkdir(mode=0o700, exist_ok=True)
        draft = RECORD.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump(document, stream, indent=1, sort_keys=True)
            stream.flush()
            os.fsync(stream.fileno())
        draft.rename(RECORD)
    return {"changed": changed, "diff": [{"prepared": f"write {RECORD}\n"}] if changed else []}


def read_host(kinds: Kinds, tools: dict[str, list[str]]) -> dict[str, Any]:
    """Return the host's state, with kernel, system and versions of TOOLS and these tools."""
    entries = (line.partition("=") for line in Path("/etc/os-release").read_text().splitlines())
    release = {key: value.strip("\"'") for key, _, value in entries}
    found: dict[str, Any] = {
        **read_all(kinds),
        "kernel": platform.release(),
        "system": f"{release['ID']}-{release.get('VERSION_ID', 'unreleased')}",
        "tools": {
            name: tool_version(*argv) for name, argv in {**TOOLS, **tools}.items() if shutil.which(argv[0])
        },
    }
    if shutil.which("dpkg-query"):
        left_behind = ("rc", "un")  # dpkg's states: removed with configuration kept; known by name only
        shown = lines(
            "dpkg-query", "--show", "--showformat", "${db:Status-Abbrev} ${binary:Package} ${Version}\n"
        )
        found["packages"] = dict(line.split()[1:3] for line in shown if line.split()[0] not in left_behind)
    return found


def tool_version(*argv: str) -> str:
    """Return the first line that a tool prints about its version; some print it to standard error."""
    return ask(*argv).splitlines()[0].strip()


def act(wanted: dict[str, Any], check: bool) -> dict[str, Any]:
    """Bring the host to the state that the options name, and return the result."""
    kinds = kinds_of(wanted["network"]) if wanted["network"] else {}
    if wanted["state"] == "read":
        return {"changed": False, "found": read_host(kinds, wanted["tools"] or {})}
    if wanted["state"] == "recorded":
        return take_record(not check, kinds)
    lock = os.open(UNITS, os.O_RDONLY)
    if not check:
        fcntl.flock(lock, fcntl.LOCK_EX)
    return remove(not check, wanted["owners"]) if wanted["state"] == "removed" else restore(not check, kinds)


def main() -> None:
    """Do what the arguments name, and print the result as Ansible reads it."""
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
    os.environ["LC_ALL"] = "C.UTF-8"
    given = json.loads(ARGUMENTS)
    try:
        outcome = act(options(given), given["_ansible_check_mode"])
    except (Failed, OSError) as error:
        outcome = {"changed": False, "failed": True, "msg": str(error)}
    if not given["_ansible_diff"]:
        outcome.pop("diff", None)
    print(json.dumps(outcome))
    sys.exit("failed" in outcome)


if __name__ == "__main__":
    main()
