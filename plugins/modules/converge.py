#!/usr/bin/python
"""Converge folders, files, kernel settings and units of a host in one round trip: an Ansible module.

The module compares the arguments with the host's files, the kernel's live state, and the files that each unit
has loaded, and changes only the differences. The next run completes a run that was killed at any moment.
Before a change, the module writes it to the host's manifest together with the earlier state, so that
`playbooks/restore.yml` can restore that state and leave everything else alone.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import ipaddress
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, cast

DOCUMENTATION = """
module: converge
short_description: Bring folders, files, kernel settings and units to what they should be
author: mptcp-lab maintainers
description:
  - In this order, and in one execution on the host. Everything belongs to root.
  - All files that differ are validated before the first is replaced; each is replaced in one piece. A
    symbolic link in a file's place is replaced, not followed.
  - In check mode nothing is touched and nothing validated; units whose files would change count as behind.
options:
  folders:
    description: Folders, mode 0755.
    type: list
    elements: path
  files:
    description: >-
      Each has C(path) and C(content), and may have C(mode) (octal, C("0644") unless given) and C(validate): a
      command that reads the new content in C(%s) and refuses it by its exit status.
    type: list
    elements: dict
  absent:
    description: Files that must not be there, and folders, which go with all that is in them.
    type: list
    elements: path
  sysctls:
    description: >-
      Files in the form of sysctl.d(5) whose settings must be live; a key that begins with C(-) may be
      missing.
    type: list
    elements: path
  unnamed:
    description: >-
      Folders below /proc/sys. Settings in them that none of C(sysctls) names are to have the value that they
      had before the lab, which is on record, or the kernel's default.
    type: list
    elements: path
  units:
    description: >-
      Each has C(names) of units that are to be enabled and active, and may have C(restart) and C(reload):
      files that a running unit takes by a restart, or by a reload. C(%i) in them is the unit's instance;
      C(+FILE) asks for a restart by being there. With C(report_only) it is said what there is to do, and not
      done. C(live) is the state that the running unit gives the host, as lines by kind, in the words of
      C(LIVE) below; where the host's differs, each difference is shown and the unit is restarted.
    type: list
    elements: dict
  owner:
    description: >-
      The role on whose behalf changes are made. With it, every change is noted in the manifest before it is
      made. A file and a unit may have a different C(owner), in which C(%i) is the unit's instance.
    type: str
  notes:
    description: >-
      Changes that the units, or the next task, will make. Each has C(kind), C(name) and C(after), the value
      it will have. They are noted when a unit needs anything, or when there are no units. Kinds are C(sysctl)
      (a key), C(sysctls) (a file in the form of sysctl.d(5)), C(file), C(folder), C(device), C(endpoints),
      C(limits), C(nft), C(routes), C(target), and C(packages), whose C(name) lists what C(manager) will
      install from C(suite).
    type: list
    elements: dict
  manifest:
    description: The manifest's path.
    type: path
    default: /var/lib/mptcp-lab/manifest.json
"""
RETURN = """
units:
  description: The actions that were needed, by unit; units that needed none are not named.
  returned: success
  type: dict
"""

#: Ansible replaces this text with the arguments. JSON never has three quotes in a row, as it escapes quotes.
ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""
LISTS = ("folders", "files", "absent", "sysctls", "unnamed", "units", "notes")
OPTIONS = (*LISTS, "owner", "manifest")
MANIFEST = "/var/lib/mptcp-lab/manifest.json"
PROC_SYS = Path("/proc/sys")
#: A run that writes takes a lock on this folder, so that it waits for child processes of a killed run.
LOCK = "/etc/systemd/system"
LAST_WORDS = 15
OWNER = 0
#: The folder with one file per unit, which records the files that the unit has loaded.
LOADED = Path("/var/lib/mptcp-lab/loaded")
#: The record of the host's state before the lab (role record).
RECORD = Path("/var/lib/mptcp-lab/record.json")
#: RTPROT_RA of include/uapi/linux/rtnetlink.h, as a number or as a name.
ADVERTISED = ("9", "ra")
#: The RTN_* types of include/uapi/linux/rtnetlink.h that an administrator can configure.
ROUTE_TYPES = {"2": "local", "6": "blackhole", "7": "unreachable", "8": "prohibit", "9": "throw"}
#: The time that listeners and routes may take to appear after a reload or a restart.
RELOAD_TIMEOUT_S = 2.0
RESTART_TIMEOUT_S = 10.0


class Refused(Exception):
    """A change cannot be made; the message names it and the reason."""


class ChangeKeys(TypedDict):
    """The keys that every change has; Python 3.9 cannot mark single keys as optional."""

    kind: str
    name: str
    after: Any


class Change(ChangeKeys, total=False):
    """A change for the manifest. `before` defaults to the host's state, `owner` to the module's option."""

    before: Any
    owner: str


class Entry(TypedDict):
    """A change as the manifest stores it; the types of `before` and `after` depend on `kind`."""

    kind: str
    name: str
    owners: list[str]
    before: Any
    after: list[Any]


class Document(TypedDict):
    """The manifest as it is stored on the host."""

    format: int
    entries: list[Entry]


class FileState(TypedDict, total=False):
    """A file (`content` in base64, `mode`, `uid`, `gid`) or a symbolic link (`link`) in the manifest."""

    content: str
    mode: int
    uid: int
    gid: int
    link: str


@dataclass(frozen=True)
class File:
    """The wanted state of a file; `validate` may be empty."""

    path: Path
    content: bytes
    mode: int
    validate: str
    owner: str


@dataclass
class Outcome:
    """The result: differences as Ansible shows them, actions by unit, and paths whose content changes."""

    check: bool
    diff: list[dict[str, Any]] = field(default_factory=list)
    units: dict[str, str] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)

    def text(self, name: str, before: str, after: str) -> None:
        """Record that a text differs."""
        self.diff.append({"before_header": name, "after_header": name, "before": before, "after": after})

    def facts(self, path: Path, before: dict[str, str], after: dict[str, str]) -> None:
        """Record that a path differs in its attributes or its state."""
        self.diff.append({"before": {"path": str(path), **before}, "after": {"path": str(path), **after}})


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command, with standard output and errors in one text; raise `Refused` if it is not installed."""
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise Refused(f"{argv[0]} is not there") from None


# --- folders and files -------------------------------------------------------------------------------------


def attributes(path: Path) -> dict[str, str]:
    """Return mode and owner of a path; {"state": "absent"} if it does not exist."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return {"state": "absent"}
    return {"mode": f"{stat.S_IMODE(found.st_mode):04o}", "owner": f"{found.st_uid}:{found.st_gid}"}


def own(path: Path, mode: int) -> None:
    """Set a path's owner to root, and its mode."""
    os.chown(path, OWNER, OWNER)
    path.chmod(mode)


def wanted_attributes(mode: int) -> dict[str, str]:
    """Return the attributes that a path of root with this mode has."""
    return {"mode": f"{mode:04o}", "owner": f"{OWNER}:{OWNER}"}


def settle_folder(path: Path, outcome: Outcome) -> None:
    """Create a folder, or correct its mode and owner."""
    now, wanted = attributes(path), wanted_attributes(0o755)
    if path.is_dir() and now == wanted:
        return
    outcome.facts(path, now, wanted)
    if not outcome.check:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        own(path, 0o755)
        relabel(path)


def content_of(path: Path) -> bytes | None:
    """Return a file's content; None if there is no file, or a symbolic link that will be replaced.

    Raises `Refused` if something else is at the path.
    """
    if path.is_symlink() or not path.exists():
        return None
    if not path.is_file():
        raise Refused(f"{path} is in the way: it is no file; move it away, and repeat")
    return path.read_bytes()


def validate(files: Iterable[File]) -> None:
    """Run each file's validation command on its new content; raise `Refused` with its output if it fails."""
    with tempfile.TemporaryDirectory(prefix="mptcp-lab-") as folder:
        for number, file in enumerate(files):
            if not file.validate:
                continue
            draft = Path(folder, str(number), file.path.name)
            draft.parent.mkdir()
            draft.write_bytes(file.content)
            done = run(*(word.replace("%s", str(draft)) for word in shlex.split(file.validate)))
            if done.returncode:
                command = file.validate.replace("%s", file.path.name)
                said = done.stdout.replace(str(draft), str(file.path)).strip()
                raise Refused(f"{file.path}: nothing was changed, for `{command}` refuses it: {said}")


def settle_file(file: File, outcome: Outcome) -> None:
    """Replace a file whose content differs, or correct only its mode and owner."""
    before = content_of(file.path)
    if before != file.content:
        outcome.pending.add(str(file.path))
        outcome.text(
            str(file.path), (before or b"").decode(errors="replace"), file.content.decode(errors="replace")
        )
        if not outcome.check:
            replace(file)
        return
    now, wanted = attributes(file.path), wanted_attributes(file.mode)
    if now != wanted:
        outcome.facts(file.path, now, wanted)
        if not outcome.check:
            own(file.path, file.mode)


def replace(file: File) -> None:
    """Replace a file atomically: write a draft, sync it, and rename it."""
    # The draft's name is fixed, so that the next run replaces the draft of a killed run.
    draft = file.path.with_name(f".{file.path.name}.converge")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(file.content)
        stream.flush()
        os.fsync(stream.fileno())
    own(draft, file.mode)
    draft.replace(file.path)
    relabel(file.path)


def relabel(path: Path) -> None:
    """Set the SELinux label of a new path by the host's policy."""
    if Path("/sys/fs/selinux/enforce").exists() and shutil.which("restorecon"):
        run("restorecon", str(path))


def settle_absent(path: Path, outcome: Outcome) -> None:
    """Remove a file, or a folder with its content."""
    if path.is_symlink() or path.exists():
        outcome.pending.add(str(path))
        outcome.facts(path, attributes(path), {"state": "absent"})
        if not outcome.check:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


# --- the manifest: the lab's changes, written before they are made -----------------------------------------


class Manifest:
    """The host's list of the lab's changes; module `host_record` reads it.

    An entry has `kind` and `name`, the `owners` that changed it, `before` (the state before the first change,
    or null) and `after`, all values that the lab has set, the latest one last. An entry whose change never
    happened does no harm: restore finds that the state is still as `before`.
    """

    def __init__(self, path: Path, owner: str) -> None:
        self.path, self.owner = path, owner

    def note(self, changes: Iterable[Change]) -> None:
        """Write changes that are about to be made; without an owner, write nothing."""
        changes = list(changes) if self.owner else []
        if not changes:
            return
        document = self.read()
        before = json.dumps(document)
        known = {(entry["kind"], entry["name"]): entry for entry in document["entries"]}
        for change in changes:
            key = (change["kind"], change["name"])
            if key not in known:
                found = change["before"] if "before" in change else read_before(*key)
                known[key] = {"kind": key[0], "name": key[1], "owners": [], "before": found, "after": []}
                document["entries"].append(known[key])
            entry = known[key]
            earlier = [value for value in entry["after"] if value != change["after"]]
            entry["after"] = [*earlier, change["after"]]
            owner = change.get("owner") or self.owner
            entry["owners"] = sorted({*entry["owners"], owner})
        if json.dumps(document) != before:
            self.write(document)

    def read(self) -> Document:
        """Return the manifest, or an empty one if there is none; raise `Refused` if it cannot be read."""
        try:
            document: Document = json.loads(self.path.read_text())
            document["entries"] = [*document["entries"]]
        except FileNotFoundError:
            return {"format": 1, "entries": []}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise Refused(f"{self.path} cannot be read, so nothing was changed: {error}") from None
        return document

    def write(self, document: Document) -> None:
        """Replace the manifest atomically and sync it to disk."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.parent.chmod(0o700)
        draft = self.path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump(document, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def read_before(kind: str, name: str) -> Any:
    """Return the current state of an object in the manifest's form; None if it does not exist."""
    if kind == "file":
        return file_before(Path(name))
    if kind == "folder":
        found = attributes(Path(name))
        return None if "state" in found else found
    if kind == "sysctl":
        path = PROC_SYS / name
        return " ".join(path.read_text().split()) if path.exists() else None
    if kind == "unit":
        found = show(name)
        return {"enabled": found.get("UnitFileState", ""), "active": found.get("ActiveState", "")}
    if kind == "target":
        return run("systemctl", "is-active", name).stdout.strip()
    commands = {
        "device": ("ip", "-j", "address", "show", "dev", name),
        "endpoints": ("ip", "mptcp", "endpoint", "show"),
        "limits": ("ip", "mptcp", "limits", "show"),
        "nft": ("nft", "list", "table", *name.split()),
    }
    if kind == "routes":  # the lab's routes are marked, so the others need not be stored
        return None
    if kind not in commands:
        raise Refused(f"the manifest has no kind {kind}")
    done = run(*commands[kind])
    return (None if kind == "nft" else "") if done.returncode else done.stdout


def file_before(path: Path) -> FileState | None:
    """Return the state of a file or a symbolic link in the manifest's form; None if there is neither."""
    if path.is_symlink():
        return {"link": str(path.readlink())}
    if not path.is_file():
        return None
    found = path.stat()
    content = base64.b64encode(path.read_bytes()).decode()
    return {
        "content": content,
        "mode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
    }


def folder_changes(folders: Iterable[str]) -> Iterator[Change]:
    """Yield a change for each folder that will be created or gets other attributes, parents included."""
    for folder in map(Path, folders):
        if attributes(folder) != wanted_attributes(0o755):
            parents = [path for path in reversed(folder.parents) if not path.exists()]
            for path in (*parents, folder):
                yield {"kind": "folder", "name": str(path), "after": "present"}


def file_changes(files: Iterable[File]) -> Iterator[Change]:
    """Yield a change for each file that will be written or gets other attributes."""
    for file in files:
        if content_of(file.path) != file.content or attributes(file.path) != wanted_attributes(file.mode):
            digest = hashlib.sha256(file.content).hexdigest()
            yield {"kind": "file", "name": str(file.path), "after": digest, "owner": file.owner}


def absent_changes(paths: Iterable[str]) -> Iterator[Change]:
    """Yield a change for each file and folder that will be removed."""
    for path in map(Path, paths):
        for found in [path, *(sorted(path.rglob("*")) if path.is_dir() and not path.is_symlink() else [])]:
            if found.is_symlink() or found.exists():
                kind = "folder" if found.is_dir() and not found.is_symlink() else "file"
                yield {"kind": kind, "name": str(found), "after": "absent"}


#: By sysctl, the sysctls that the kernel changes together with it.
FOLLOWERS = {
    "net/ipv4/ip_forward": ("net/ipv4/conf/*/forwarding", "net/ipv4/conf/all/accept_redirects"),
    "net/ipv4/conf/all/forwarding": ("net/ipv4/conf/*/forwarding", "net/ipv4/conf/all/accept_redirects"),
    "net/ipv6/conf/all/forwarding": ("net/ipv6/conf/*/forwarding",),
}


def sysctl_changes(text: str, whole: bool = False) -> Iterator[Change]:
    """Yield a change for each setting of the text that differs, and for the settings that follow it.

    With `whole`, yield settings that do not differ too.
    """
    for _, live, wanted in settings(text):
        name = str(live.relative_to(PROC_SYS))
        if " ".join(live.read_text().split()) == wanted and not whole:
            continue
        yield {"kind": "sysctl", "name": name, "after": wanted}
        for path in (path for pattern in FOLLOWERS.get(name, ()) for path in sorted(PROC_SYS.glob(pattern))):
            follows = str(int(wanted == "0")) if path.name == "accept_redirects" else wanted
            follower = str(path.relative_to(PROC_SYS))
            if follower != name and " ".join(path.read_text().split()) != follows:
                yield {"kind": "sysctl", "name": follower, "after": follows}


def noted_changes(notes: Iterable[dict[str, Any]]) -> Iterator[Change]:
    """Yield the changes that the items of `notes` describe.

    Settings that a unit sets are included even if they do not differ now: the unit may reset them when it
    stops.
    """
    for note in notes:
        if note["kind"] == "sysctl":
            yield from sysctl_changes(f"-{note['name']} = {note['after']}", whole=True)
        elif note["kind"] == "sysctls":
            yield from sysctl_changes(Path(note["name"]).read_text(), whole=True)
        elif note["kind"] == "packages":
            changes = dnf_changes if note.get("manager") == "dnf" else apt_changes
            yield from changes(note["name"], note.get("suite", ""))
        else:
            yield cast("Change", note)


def apt_changes(names: list[str], suite: str) -> Iterator[Change]:
    """Yield a change for each package that apt would install, upgrade, downgrade or remove."""
    chosen = ["--target-release", suite] if suite else []
    apt = ("apt-get", "--simulate", "--quiet", "--yes", "--allow-downgrades", "--no-install-recommends")
    done = run(*apt, *chosen, "install", *names)
    if done.returncode:
        raise Refused(f"apt-get cannot install {', '.join(names)}: {done.stdout.strip()}")
    automatic = set(run("apt-mark", "showauto").stdout.split())
    for line in done.stdout.splitlines():
        # "Inst NAME [OLD] (NEW ...", "Inst NAME (NEW ...", "Remv NAME [OLD] ..."
        match = re.match(r"(Inst|Remv) (\S+)(?: \[(\S+)\])?(?: \((\S+))?", line)
        if match:
            verb, name, old, new = match.groups()
            status = run("dpkg-query", "--show", "--showformat=${db:Status-Status}", name).stdout
            before = {"version": old, "auto": name in automatic, "configured": status == "config-files"}
            yield {
                "kind": "package",
                "name": name,
                "before": before,
                "after": new if verb == "Inst" else "absent",
            }


def dnf_changes(names: list[str], suite: str) -> Iterator[Change]:
    """Yield a change for each package that dnf would install, upgrade, downgrade or remove."""
    try:
        import dnf  # only Python of the RHEL family has this module
    except ImportError:
        raise Refused("Python module dnf is not there; install python3-dnf, then repeat") from None
    with dnf.Base() as base:
        base.conf.install_weak_deps = False
        base.conf.substitutions.update_from_etc(base.conf.installroot)
        release = dnf.rpm.detect_releasever(base.conf.installroot)
        base.conf.substitutions["releasever"] = release or ""
        base.read_all_repos()
        if suite:
            base.repos.get_matching(suite).enable()
        base.fill_sack()
        installed = {f"{p.name}.{p.arch}": p.evr for p in base.sack.query().installed()}
        files = [name for name in names if name.startswith("/")]
        for package in base.add_remote_rpms(files) if files else []:
            base.package_install(package)
        for name in sorted(set(names) - set(files)):
            try:
                base.install(name)
            except dnf.exceptions.Error as error:
                raise Refused(f"dnf cannot install {name}: {error}") from None
        base.resolve()
        comes = [item.pkg for item in base.transaction if item.action in dnf.transaction.FORWARD_ACTIONS]
        beside = set(base.conf.installonlypkgs)
        for package in comes:
            name = f"{package.name}.{package.arch}"
            old = None if package.name in beside else installed.get(name)
            yield {"kind": "package", "name": name, "before": {"version": old}, "after": package.evr}
        goes = {f"{p.name}.{p.arch}": p.evr for p in base.transaction.remove_set}
        for name in sorted(goes.keys() - {f"{p.name}.{p.arch}" for p in comes}):
            yield {"kind": "package", "name": name, "before": {"version": goes[name]}, "after": "absent"}


# --- the kernel's settings ---------------------------------------------------------------------------------


def proc_path(key: str) -> str:
    """Return the path of a sysctl key below /proc/sys, by the rules of sysctl.d(5).

    The first separator decides: if it is a dot, dots separate and slashes stand for dots, as in the name of a
    VLAN device; if it is a slash, the key is a path already.
    """
    first = next((letter for letter in key if letter in "./"), "/")
    return key if first == "/" else key.translate(str.maketrans("./", "/."))


def settings(text: str) -> Iterator[tuple[str, Path, str]]:
    """Yield key, file below /proc/sys and wanted value of each setting that this kernel has.

    Raises `Refused` for a setting that the kernel does not have, unless its key begins with -.
    """
    for line in text.splitlines():
        key, equals, wanted = (part.strip() for part in line.partition("="))
        if not equals or key.startswith(("#", ";")):
            continue
        live = PROC_SYS / proc_path(key.lstrip("-"))
        if live.exists():
            yield key.lstrip("-"), live, wanted
        elif not key.startswith("-"):
            raise Refused(f"this kernel has no setting {key}; remove it, or boot a kernel that has it")


def settle_sysctls(text: str, outcome: Outcome) -> None:
    """Write the live settings that differ from the text of a sysctl.d file."""
    for key, live, wanted in settings(text):
        now = " ".join(live.read_text().split())
        if now != wanted:
            outcome.text(f"{key} (live)", f"{key} = {now}\n", f"{key} = {wanted}\n")
            if not outcome.check:
                live.write_text(wanted)


def unnamed_settings(folder: Path, named: set[Path]) -> str:
    """Return the settings in a folder that are not in `named`, in the form of sysctl.d(5).

    Each one has its value from before the lab, or the kernel's default.
    """
    try:
        before = dict(json.loads(RECORD.read_text())["was"]["sysctls"])
    except (OSError, ValueError, KeyError, TypeError):
        before = {}
    lines = []
    for live in sorted(folder.iterdir()) if folder.is_dir() else []:
        if live in named or not live.stat().st_mode & stat.S_IWUSR:
            continue
        key = str(live.relative_to(PROC_SYS))
        if key not in before:
            # The settings of a new network namespace are the kernel's defaults.
            default = run("unshare", "--net", "cat", str(live))
            if default.returncode:
                continue
            before[key] = " ".join(default.stdout.split())
        lines.append(f"{key.translate(str.maketrans('/.', './'))} = {before[key]}\n")
    return "".join(lines)


# --- the live state ----------------------------------------------------------------------------------------


def ip(*arguments: str) -> list[dict[str, Any]]:
    """Return what ip(8) prints as JSON, with numbers instead of names for tables and protocols."""
    done = run("ip", "-json", "-Numeric", *arguments)
    if done.returncode:
        raise Refused(f"`ip {' '.join(arguments)}` fails: {done.stdout.strip()}")
    # An entry can be empty, for example if a kind of device or table does not exist yet.
    return [entry for entry in json.loads(done.stdout or "[]") if entry]


def live_links(wanted: dict[str, Any]) -> list[str]:
    """Return "eth1 up" or "eth1 down" for each NIC in `wanted`."""
    devices = {line.split()[0] for line in wanted["links"]}
    return [
        f"{link['ifname']} {'up' if 'UP' in link['flags'] else 'down'}"
        for link in ip("link", "show")
        if link.get("ifname") in devices
    ]


def live_addresses(wanted: dict[str, Any]) -> list[str]:
    """Return "198.18.1.10/24 dev eth1" for each global address of the NICs, whoever added it."""
    devices = {line.split()[0] for line in wanted["links"]}
    return [
        f"{address['local']}/{address['prefixlen']} dev {link['ifname']}"
        for link in ip("address", "show")
        if link.get("ifname") in devices
        for address in link.get("addr_info", [])
        if address["scope"] in ("global", "0")
    ]


def live_rules(wanted: dict[str, Any]) -> list[str]:
    """Return "from 198.18.1.10 lookup 7101 priority 7101" for each rule with the lab's protocol number."""
    found = []
    for family in ("-4", "-6"):
        for rule in ip(family, "rule", "show"):
            if rule.get("protocol") == str(wanted["protocol"]):
                length = f"/{rule['srclen']}" if "srclen" in rule else ""
                table = rule.get("table", "nothing")
                found.append(f"from {rule['src']}{length} lookup {table} priority {rule['priority']}")
    return found


def live_routes(wanted: dict[str, Any]) -> list[str]:
    """Return "198.18.10.0/24 via 198.18.1.1 dev eth1 table 7101" for each route to compare.

    These are the routes with the lab's protocol number, all routes in the tables of the lab's rules, and
    those that router advertisements added to the lab's NICs, which the lab never wants. The route of an
    advertised prefix has protocol kernel; that it expires tells it from the route of a configured address.
    """
    devices = {line.split()[0] for line in wanted["links"]}
    tables = {line.split()[3] for line in wanted["rules"]}
    found = []
    for family, everywhere in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
        for route in ip(family, "route", "show", "table", "all"):
            table = str(route.get("table", "main")).replace("254", "main")
            protocol = route.get("protocol")
            advertised = (protocol in ADVERTISED or "expires" in route) and route.get("dev") in devices
            if protocol == str(wanted["protocol"]) or table in tables or advertised:
                to = ipaddress.ip_network(route["dst"].replace("default", everywhere))
                kind = str(route.get("type", "unicast"))
                words = [] if kind in ("unicast", "1") else [ROUTE_TYPES.get(kind, kind)]
                words += [str(to), *(("via", route["gateway"]) if "gateway" in route else ())]
                words += ["dev", route["dev"]] if "dev" in route else []
                found.append(" ".join([*words, "table", table]))
    return found


def live_settings(wanted: dict[str, Any]) -> list[str]:
    """Return "net/ipv4/conf/eth1/forwarding = 1" for each setting in `wanted` that this kernel has.

    A key that begins with - may be missing, as in sysctl.d(5); any other missing key is a difference.
    """
    found = []
    for line in wanted["settings"]:
        key = line.partition(" = ")[0]
        path = PROC_SYS / proc_path(key.lstrip("-"))
        if path.exists():
            found.append(f"{key} = {' '.join(path.read_text().split())}")
        elif key.startswith("-"):
            found.append(line)
    return found


def live_limits(_: dict[str, Any]) -> list[str]:
    """Return the MPTCP limits as one line, "add_addr_accepted 8 subflows 8"."""
    words = run("ip", "mptcp", "limits", "show").stdout.split()
    return [" ".join(f"{key} {words[words.index(key) + 1]}" for key in sorted(words[::2]))]


def live_endpoints(_: dict[str, Any]) -> list[str]:
    """Return "198.18.1.10 id 1 dev eth1 fullmesh subflow" for each endpoint that is not implicit."""
    found = []
    for line in run("ip", "mptcp", "endpoint", "show").stdout.splitlines():
        address, *words = line.split()
        values = {}
        for key in ("id", "dev", "port", "rawflags"):
            if key in words:
                position = words.index(key)
                values[key] = words[position + 1]
                del words[position : position + 2]
        values.pop("rawflags", None)  # the flags as a number, if iproute2 has no name for one (laminar)
        if "implicit" not in words:  # the kernel adds implicit endpoints for joins after an announcement
            places = [f"{key} {value}" for key, value in values.items()]
            found.append(" ".join([address, *places, *sorted(words)]))
    return found


def live_listeners(wanted: dict[str, Any]) -> list[str]:
    """Return "mptcp 198.18.1.21:7000", or "tcp ...", for each listener in `wanted` that exists."""
    mptcp, tcp = (
        {line.split()[3] for line in run("ss", "-Hln", kind).stdout.splitlines()} for kind in ("-M", "-t")
    )
    found = []
    for line in wanted["listeners"]:
        _, place = line.split()
        if place in mptcp:
            found.append(f"mptcp {place}")
        elif place in tcp:
            # A kernel of multipath-tcp.org has no separate MPTCP listeners: every TCP listener accepts MPTCP.
            legacy = PROC_SYS.joinpath("net/mptcp/mptcp_enabled").exists()
            found.append(line if legacy else f"tcp {place}")
    return found


def live_nft(wanted: dict[str, Any]) -> list[str]:
    """Return the lines of the nftables tables in `wanted`, as they are live."""
    return [line for table in wanted["nft"].values() for line in table_lines((), table)]


def wanted_nft(wanted: dict[str, Any]) -> list[str]:
    """Return the lines of the wanted tables as nft prints them, loaded in a new network namespace."""
    scratch = ("unshare", "--net", "sh", "-c", 'nft --file "$0" && exec "$@"')
    return [line for file, table in wanted["nft"].items() for line in table_lines((*scratch, file), table)]


def table_lines(prefix: tuple[str, ...], table: str) -> list[str]:
    """Return a table's lines, each with its chain in front; none if there is no such table.

    Raises `Refused` if a `prefix` command, which loads the table first, fails.
    """
    done = run(*prefix, "nft", "--stateless", "list", "table", *table.split())
    if prefix and done.returncode:
        raise Refused(f"table {table} cannot be loaded for comparison: {done.stdout.strip()}")
    lines, inside = [], ""
    for line in done.stdout.splitlines() if not done.returncode else []:
        words = line.strip()
        if words.endswith("{"):
            inside = words.rstrip("{ ")
        if words not in ("", "}"):
            lines.append(f"{table} {inside}: {words}" if inside != words.rstrip("{ ") else words)
    return lines


#: The function that reads each kind of live state. Each line is one fact, in the form that `live_KIND` shows.
LIVE = {
    "links": live_links,
    "addresses": live_addresses,
    "rules": live_rules,
    "routes": live_routes,
    "settings": live_settings,
    "limits": live_limits,
    "endpoints": live_endpoints,
    "nft": live_nft,
    "listeners": live_listeners,
}


def live_differences(wanted: dict[str, Any]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield (kind, unexpected lines, missing lines) for each kind of live state that differs."""
    for kind, read in LIVE.items():
        if kind in wanted:
            now = read(wanted)
            lines = wanted_nft(wanted) if kind == "nft" else wanted[kind]
            extra = [line for line in now if line not in lines]
            missing = [line for line in lines if line not in now]
            if extra or missing:
                yield kind, extra, missing


def await_live(wanted: dict[str, Any], timeout: float) -> list[str]:
    """Wait up to `timeout` seconds for a unit's live state; return the differences that remain, as lines."""
    deadline = time.monotonic() + timeout
    while left := list(live_differences(wanted)):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return [
        f"{word} {kind}: {line}"
        for kind, extra, missing in left
        for word, lines in (("unexpected", extra), ("missing", missing))
        for line in lines
    ]


# --- the files that a unit has loaded ----------------------------------------------------------------------


def identity(name: str) -> str:
    """Return a file's digest and the time of its last change (ctime), or "absent".

    The time detects a file that was changed and changed back while the unit was restarted in between. Times
    are only compared for equality, so that setting the clock does no harm.
    """
    path = Path(name)
    try:
        return f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_ctime_ns}"
    except OSError:
        return "absent"


def identities(files: Iterable[str]) -> dict[str, str]:
    """Return the identity of each file, without the names that begin with +, which are marker files."""
    return {name: identity(name) for name in files if not name.startswith("+")}


def loaded_files(unit: str, invocation: str) -> dict[str, str]:
    """Return the identities of the files that a running unit has loaded; empty if that is not known.

    The note is written before the unit is restarted. It is valid once the unit's invocation id differs from
    the one in the note, whoever restarted it.
    """
    try:
        note = json.loads(LOADED.joinpath(unit).read_text())
        return dict(note["files"]) if note["before"] != invocation else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def note_loaded(unit: str, before: str, files: dict[str, str]) -> None:
    """Write the note of the files that a unit has loaded; it is valid once the invocation is not `before`."""
    LOADED.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = LOADED / f".{unit}"
    with draft.open("w") as stream:
        stream.write(json.dumps({"before": before, "files": files}))
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(LOADED / unit)


# --- units -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """The wanted state of a unit: enabled, active, with these files loaded and this live state."""

    name: str
    restart: list[str]
    reload: list[str]
    live: dict[str, Any]
    report_only: bool
    owner: str

    @classmethod
    def from_option(cls, name: str, given: dict[str, Any]) -> Unit:
        """Return the unit of that name from an item of the option `units`.

        Raises `Refused` for an unknown kind of live state.
        """
        instance = name.partition("@")[2].rpartition(".")[0]
        restart, reload = (
            [f.replace("%i", instance) for f in given.get(key, [])] for key in ("restart", "reload")
        )
        live = given.get("live") or {}
        if unknown := set(live) - set(LIVE) - {"protocol"}:
            kinds = ", ".join(sorted(unknown))
            raise Refused(f"converge compares no live {kinds}; it compares {', '.join(LIVE)}")
        owner = given.get("owner", "").replace("%i", instance)
        return cls(name, restart, reload, live, bool(given.get("report_only")), owner)


def show(unit: str) -> dict[str, str]:
    """Return the properties that systemd reports for a unit."""
    names = "UnitFileState,ActiveState,NeedDaemonReload,InvocationID"
    printed = run("systemctl", "show", f"--property={names}", unit).stdout
    return dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)


def differs(files: list[str], known: dict[str, str], pending: set[str]) -> bool:
    """Return whether a file differs from the loaded one or is about to change, or a marker file exists."""
    if any(name.startswith("+") and Path(name[1:]).exists() for name in files):
        return True
    return bool(pending & set(files)) or any(
        known.get(name) != now for name, now in identities(files).items()
    )


def runs_from_others(unit: Unit, known: dict[str, str]) -> bool:
    """Return whether a unit has loaded a file that is no longer wanted and has changed since, or is gone."""
    wanted = {*unit.restart, *unit.reload}
    return any(name not in wanted and identity(name) != then for name, then in known.items())


def needs(unit: Unit, pending: set[str]) -> list[str]:
    """Return the actions that a unit needs: enable, start, restart, reload."""
    found = show(unit.name)
    known = loaded_files(unit.name, found.get("InvocationID", ""))
    todo = [] if found.get("UnitFileState") == "enabled" else ["enable"]
    if found.get("ActiveState") != "active":
        todo.append("start")
    elif (
        found.get("NeedDaemonReload") == "yes"
        or differs(unit.restart, known, pending)
        or runs_from_others(unit, known)
    ):
        todo.append("restart")
    elif differs(unit.reload, known, pending):
        todo.append("reload")
    return todo


def has_its_files(unit: Unit, todo: list[str], pending: set[str]) -> bool:
    """Return whether a unit is active and none of its files is about to change.

    Otherwise, that its live state differs is no news.
    """
    return "start" not in todo and not pending & {*unit.restart, *unit.reload}


def settle_units(
    given: list[dict[str, Any]], notes: list[dict[str, Any]], outcome: Outcome, manifest: Manifest
) -> None:
    """Find the actions that all units need, write them and `notes` to the manifest, then do them."""
    todo: list[tuple[Unit, list[str]]] = []
    for unit in [Unit.from_option(name, each) for each in given for name in each["names"]]:
        found = needs(unit, outcome.pending)
        if has_its_files(unit, found, outcome.pending):
            for kind, extra, missing in live_differences(unit.live):
                name = f"{unit.name}: {kind} (live)"
                outcome.text(name, *("".join(f"{line}\n" for line in lines) for lines in (extra, missing)))
                if not set(found) - {"enable"}:
                    found.append("restart")
        if found:
            outcome.units[unit.name] = ", ".join(found)
            outcome.diff.append({"prepared": f"{unit.name}: {', '.join(found)}\n"})
            if not unit.report_only:
                todo.append((unit, found))
    if not outcome.check and (todo or not given):
        changes: Iterator[Change] = (
            {"kind": "unit", "name": unit.name, "after": ", ".join(found), "owner": unit.owner}
            for unit, found in todo
        )
        manifest.note([*noted_changes(notes), *changes])
    if todo and not outcome.check:
        run("systemctl", "daemon-reload")
        for unit, found in todo:
            act(unit, found)


def act(unit: Unit, todo: list[str]) -> None:
    """Do the actions that a unit needs; raise `Refused`, with the unit's last log lines, if one fails.

    A reload that does not produce the live state is followed by a restart.
    """
    name = unit.name
    if "enable" in todo and run("systemctl", "--quiet", "enable", name).returncode:
        raise Refused(last_words(name, "let itself be enabled"))
    if todo == ["enable"]:
        return
    invocation = show(name).get("InvocationID", "")
    files = identities([*unit.restart, *unit.reload])  # read first: never newer than the files that it loads
    if "reload" in todo and not run("systemctl", "reload", name).returncode:
        # A reload keeps the invocation id, so the note must be valid at once.
        note_loaded(name, "", files)
        if not await_live(unit.live, RELOAD_TIMEOUT_S):
            return
        # A reload does not apply everything: nginx keeps the protocol of an existing listener.
    note_loaded(name, invocation, files)
    # systemd refuses to start a unit that failed too often, even if its configuration is correct now.
    run("systemctl", "reset-failed", name)
    if run("systemctl", "restart", name).returncode:
        raise Refused(last_words(name, "take its new configuration" if "reload" in todo else "start"))
    if left := await_live(unit.live, RESTART_TIMEOUT_S):
        raise Refused(f"{name} was restarted, and still: {'; '.join(left)}")


def last_words(unit: str, what: str) -> str:
    """Return the message that a unit does not do `what`, with the last lines of its journal."""
    lines = ("--no-pager", "--quiet", "--output=cat", f"--lines={LAST_WORDS}", f"--unit={unit}")
    return f"{unit} does not {what}. Its last words:\n{run('journalctl', *lines).stdout.strip()}"


# --- the module --------------------------------------------------------------------------------------------


def wanted_files(given: Iterable[dict[str, Any]]) -> list[File]:
    """Return the wanted files from the option `files`."""
    return [
        File(
            Path(file["path"]),
            file["content"].encode(errors="surrogateescape"),
            int(file.get("mode", "0644"), 8),
            file.get("validate", ""),
            file.get("owner", ""),
        )
        for file in given
    ]


def converge(given: dict[str, Any], outcome: Outcome) -> None:
    """Converge the host to the options; `outcome` has the changes so far, also if this raises `Refused`."""
    wanted: dict[str, list[Any]] = {name: given.get(name) or [] for name in LISTS}
    files = wanted_files(wanted["files"])
    manifest = Manifest(Path(given.get("manifest") or MANIFEST), given.get("owner") or "")
    if not outcome.check:
        validate(file for file in files if content_of(file.path) != file.content)
        changes = (folder_changes(wanted["folders"]), file_changes(files), absent_changes(wanted["absent"]))
        manifest.note(change for part in changes for change in part)
    for folder in wanted["folders"]:
        settle_folder(Path(folder), outcome)
    for file in files:
        settle_file(file, outcome)
    for path in wanted["absent"]:
        settle_absent(Path(path), outcome)
    texts = {str(file.path): file.content.decode() for file in files}
    named = set()
    for path in wanted["sysctls"]:
        text = texts[path] if path in texts else Path(path).read_text()
        if not outcome.check:
            manifest.note(sysctl_changes(text))
        settle_sysctls(text, outcome)
        named |= {live for _, live, _ in settings(text)}
    for folder in wanted["unnamed"]:
        text = unnamed_settings(Path(folder), named)
        if not outcome.check:
            manifest.note(sysctl_changes(text))
        settle_sysctls(text, outcome)
    settle_units(wanted["units"], wanted["notes"], outcome, manifest)


def main() -> None:
    """Converge the host, and print the result as Ansible reads it."""
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
    os.environ["LC_ALL"] = "C.UTF-8"
    given = json.loads(ARGUMENTS)
    outcome = Outcome(given["_ansible_check_mode"])
    failure = {}
    try:
        if unknown := [name for name in given if name not in OPTIONS and not name.startswith("_ansible_")]:
            raise Refused(f"converge has no option {', '.join(unknown)}; it has {', '.join(OPTIONS)}")
        lock = os.open(LOCK, os.O_RDONLY)
        if not outcome.check:
            fcntl.flock(lock, fcntl.LOCK_EX)
        converge(given, outcome)
    except (Refused, OSError) as error:
        failure = {"failed": True, "msg": str(error)}
    shown = {"diff": outcome.diff} if given["_ansible_diff"] else {}
    print(json.dumps({"changed": bool(outcome.diff), "units": outcome.units, **shown, **failure}))
    sys.exit(bool(failure))


if __name__ == "__main__":
    main()
