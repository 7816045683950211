#!/usr/bin/python
"""Bring folders, files, kernel settings and units of a host to what they should be, in one round trip.

An Ansible module. What to do is read off the host, never remembered: a run that was killed at any moment is
made good by the next.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DOCUMENTATION = """
module: settled
short_description: Bring folders, files, kernel settings and units to what they should be
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
  units:
    description: >-
      Each has C(names) of units that are to be enabled and active, and may have C(restart) and C(reload):
      files that a running unit takes by a restart, or by a reload. C(%i) in them is the unit's instance;
      C(+FILE) asks for a restart by being there. With C(only_look) it is said what there is to do, and not
      done.
    type: list
    elements: dict
"""
RETURN = """
units:
  description: What was to be done, by unit; those with nothing to do are not named.
  returned: success
  type: dict
"""

#: Ansible puts the arguments here. JSON never has three quotes in a row: those in a text are escaped.
ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""
LISTS = ("folders", "files", "absent", "sysctls", "units")
PROC_SYS = Path("/proc/sys")
#: Who writes holds this, so that a run waits for what a killed one has left at work.
LOCK = "/etc/systemd/system"
LAST_WORDS = 15
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
OWNER = 0


class Refused(Exception):
    """Something cannot be done; the text says what, and why."""


@dataclass(frozen=True)
class File:
    """A file as it should be; `validate` may be empty."""

    path: Path
    content: bytes
    mode: int
    validate: str


@dataclass
class Outcome:
    """What differed: differences as Ansible shows them, what units need, and whose content changes."""

    check: bool
    diff: list[dict[str, Any]] = field(default_factory=list)
    units: dict[str, str] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)

    def text(self, name: str, before: str, after: str) -> None:
        """Note that a text differs."""
        self.diff.append({"before_header": name, "after_header": name, "before": before, "after": after})

    def facts(self, path: Path, before: dict[str, str], after: dict[str, str]) -> None:
        """Note that something else of a path differs."""
        self.diff.append({"before": {"path": str(path), **before}, "after": {"path": str(path), **after}})


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command; both of its outputs come together. Raises `Refused` where there is no such program."""
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
    """Return mode and owner; nothing where there is nothing."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return {"state": "absent"}
    return {"mode": f"{stat.S_IMODE(found.st_mode):04o}", "owner": f"{found.st_uid}:{found.st_gid}"}


def own(path: Path, mode: int) -> None:
    """Give a path to root, with this mode."""
    os.chown(path, OWNER, OWNER)
    path.chmod(mode)


def wanted_attributes(mode: int) -> dict[str, str]:
    """Return what `attributes` finds when all is well."""
    return {"mode": f"{mode:04o}", "owner": f"{OWNER}:{OWNER}"}


def settle_folder(path: Path, outcome: Outcome) -> None:
    """Make a folder, or what is wrong with it right."""
    now, wanted = attributes(path), wanted_attributes(0o755)
    if path.is_dir() and now == wanted:
        return
    outcome.facts(path, now, wanted)
    if not outcome.check:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        own(path, 0o755)
        relabel(path)


def content_of(path: Path) -> bytes | None:
    """Return a file's content; None where there is no file, or a link that is to be replaced."""
    if path.is_symlink() or not path.exists():
        return None
    if not path.is_file():
        raise Refused(f"{path} is in the way: it is no file; move it away, and repeat")
    return path.read_bytes()


def validate(files: Iterable[File]) -> None:
    """Have the real programs read the new contents; raises `Refused` with what one of them said."""
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
    """Write a file that differs, in one piece; or only set right whose it is."""
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
    """Write a file under another name, and give it the right one when it is complete."""
    # The same name each time: what a killed run has left is written over.
    draft = file.path.with_name(f".{file.path.name}.settled")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(file.content)
        stream.flush()
        os.fsync(stream.fileno())
    own(draft, file.mode)
    draft.replace(file.path)
    os.utime(file.path)  # newer than the start of a unit that came up meanwhile with the old content
    relabel(file.path)


def relabel(path: Path) -> None:
    """Give a new path the SELinux label that the host's policy has for it."""
    if Path("/sys/fs/selinux/enforce").exists() and shutil.which("restorecon"):
        run("restorecon", str(path))


def settle_absent(path: Path, outcome: Outcome) -> None:
    """Take a file away, or a folder with all that is in it."""
    if path.is_symlink() or path.exists():
        outcome.pending.add(str(path))
        outcome.facts(path, attributes(path), {"state": "absent"})
        if not outcome.check:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


# --- the kernel's settings ---------------------------------------------------------------------------------


def settings(text: str) -> Iterator[tuple[str, Path, str]]:
    """Yield key, file below /proc/sys and wanted value of each setting that this kernel has."""
    for line in text.splitlines():
        key, equals, wanted = (part.strip() for part in line.partition("="))
        if not equals or key.startswith(("#", ";")):
            continue
        # A slash in a key stands for a dot, as in the name of a VLAN device.
        live = PROC_SYS.joinpath(*(part.replace("/", ".") for part in key.lstrip("-").split(".")))
        if live.exists():
            yield key.lstrip("-"), live, wanted
        elif not key.startswith("-"):
            raise Refused(f"this kernel has no setting {key}; remove it, or boot a kernel that has it")


def settle_sysctls(text: str, outcome: Outcome) -> None:
    """Set what differs from the text of a sysctl.d file."""
    for key, live, wanted in settings(text):
        now = " ".join(live.read_text().split())
        if now != wanted:
            outcome.text(f"{key} (live)", f"{key} = {now}\n", f"{key} = {wanted}\n")
            if not outcome.check:
                live.write_text(wanted)


# --- units -------------------------------------------------------------------------------------------------


def show(unit: str) -> dict[str, str]:
    """Return what systemd says of a unit, times with microseconds and in UTC."""
    names = "UnitFileState,ActiveState,NeedDaemonReload,ActiveEnterTimestamp,StateChangeTimestamp"
    printed = run("systemctl", "show", "--timestamp=us+utc", f"--property={names}", unit).stdout
    return dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)


def microseconds(moment: str) -> int:
    """Return "Wed 2026-11-25 18:23:39.123456 UTC" in microseconds since 1970; 0 for no moment at all."""
    words = moment.split()
    if len(words) != 4:
        return 0
    known = datetime.datetime.fromisoformat(f"{words[1]}T{words[2]}+00:00")
    return (known - EPOCH) // datetime.timedelta(microseconds=1)


def newer(files: Iterable[str], moment: str, pending: set[str]) -> bool:
    """Tell whether a file is newer than a moment or about to be, or one written +FILE is there at all."""
    since = 1000 * microseconds(moment)
    for name in files:
        if name.startswith("+"):
            if Path(name[1:]).exists():
                return True
        elif name in pending:
            return True
        else:
            with contextlib.suppress(FileNotFoundError):
                if os.lstat(name).st_mtime_ns > since:
                    return True
    return False


def needs(unit: str, restart: list[str], reload: list[str], pending: set[str]) -> list[str]:
    """Return what a unit needs, of enable, start, restart and reload."""
    found = show(unit)
    todo = [] if found.get("UnitFileState") == "enabled" else ["enable"]
    if found.get("ActiveState") != "active":
        todo.append("start")
    elif found.get("NeedDaemonReload") == "yes" or newer(
        restart, found.get("ActiveEnterTimestamp", ""), pending
    ):
        todo.append("restart")
    elif newer(reload, found.get("StateChangeTimestamp", ""), pending):
        todo.append("reload")
    return todo


def settle_units(units: list[dict[str, Any]], outcome: Outcome) -> None:
    """See what all units need, then do it."""
    todo: dict[str, list[str]] = {}
    for unit in units:
        for name in unit["names"]:
            instance = name.partition("@")[2].rpartition(".")[0]
            restart, reload = (
                [f.replace("%i", instance) for f in unit.get(key, [])] for key in ("restart", "reload")
            )
            found = needs(name, restart, reload, outcome.pending)
            if found:
                outcome.units[name] = ", ".join(found)
                outcome.diff.append({"prepared": f"{name}: {', '.join(found)}\n"})
                if not unit.get("only_look"):
                    todo[name] = found
    if todo and not outcome.check:
        run("systemctl", "daemon-reload")
        for name, found in todo.items():
            act(name, found)


def act(unit: str, todo: list[str]) -> None:
    """Do what a unit needs. Raises `Refused`, with the unit's last words, where it does not come up."""
    if "enable" in todo and run("systemctl", "--quiet", "enable", unit).returncode:
        raise Refused(last_words(unit, "let itself be enabled"))
    if "reload" in todo:
        if run("systemctl", "reload", unit).returncode and run("systemctl", "restart", unit).returncode:
            raise Refused(last_words(unit, "take its new configuration"))
    elif todo != ["enable"] and run("systemctl", "restart", unit).returncode:
        raise Refused(last_words(unit, "start"))


def last_words(unit: str, what: str) -> str:
    """Return what a unit does not do, with the last lines of its journal."""
    lines = ("--no-pager", "--quiet", "--output=cat", f"--lines={LAST_WORDS}", f"--unit={unit}")
    return f"{unit} does not {what}. Its last words:\n{run('journalctl', *lines).stdout.strip()}"


# --- the module --------------------------------------------------------------------------------------------


def wanted_files(given: Iterable[dict[str, Any]]) -> list[File]:
    """Return the files that are asked for."""
    return [
        File(
            Path(file["path"]),
            file["content"].encode(errors="surrogateescape"),
            int(file.get("mode", "0644"), 8),
            file.get("validate", ""),
        )
        for file in given
    ]


def settle(given: dict[str, Any], outcome: Outcome) -> None:
    """Bring the host to what is asked for; `outcome` tells how far it came, also where this raises."""
    wanted: dict[str, list[Any]] = {name: given.get(name) or [] for name in LISTS}
    files = wanted_files(wanted["files"])
    if not outcome.check:
        validate(file for file in files if content_of(file.path) != file.content)
    for folder in wanted["folders"]:
        settle_folder(Path(folder), outcome)
    for file in files:
        settle_file(file, outcome)
    for path in wanted["absent"]:
        settle_absent(Path(path), outcome)
    texts = {str(file.path): file.content.decode() for file in files}
    for path in wanted["sysctls"]:
        settle_sysctls(texts[path] if path in texts else Path(path).read_text(), outcome)
    settle_units(wanted["units"], outcome)


def main() -> None:
    """Settle, and print the result as Ansible reads it."""
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
    os.environ["LC_ALL"] = "C.UTF-8"
    given = json.loads(ARGUMENTS)
    outcome = Outcome(given["_ansible_check_mode"])
    failure = {}
    try:
        if unknown := [name for name in given if name not in LISTS and not name.startswith("_ansible_")]:
            raise Refused(f"settled knows no {', '.join(unknown)}; it knows {', '.join(LISTS)}")
        lock = os.open(LOCK, os.O_RDONLY)
        if not outcome.check:
            fcntl.flock(lock, fcntl.LOCK_EX)
        settle(given, outcome)
    except (Refused, OSError) as error:
        failure = {"failed": True, "msg": str(error)}
    shown = {"diff": outcome.diff} if given["_ansible_diff"] else {}
    print(json.dumps({"changed": bool(outcome.diff), "units": outcome.units, **shown, **failure}))
    sys.exit(bool(failure))


if __name__ == "__main__":
    main()
