"""Record a host's state once, before the lab changes anything.

    record.py show               print the host's state as JSON, with kernel, system and versions of tools
    record.py take check|apply   write the record, unless there is one

restore.py undoes the changes in the manifest, and compares the host with its record. The record also holds
the backup copies of the account files (/etc/passwd- and others), which change when packages are installed
or removed.

`take` prints a line that begins with "changed" or "unchanged".
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

RECORD = Path("/var/lib/mptcp-lab/record.json")
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
SYSCTLS = (
    "net/mptcp/*",
    "net/ipv4/ip_forward",
    "net/ipv4/tcp_congestion_control",
    "net/ipv4/conf/*/rp_filter",
    "net/ipv4/conf/*/forwarding",
    "net/ipv4/conf/*/accept_redirects",
    "net/ipv4/conf/*/send_redirects",
    "net/ipv6/conf/*/forwarding",
    "net/ipv6/conf/*/accept_ra",
    "net/ipv6/conf/*/accept_redirects",
    "net/ipv6/conf/*/autoconf",
    "net/ipv6/conf/*/keep_addr_on_down",
)
#: Programs whose version matters, with the command that prints it. They need not come from a package.
TOOLS = {
    "haproxy": ("haproxy", "-v"),
    "ip": ("ip", "-V"),
    "nft": ("nft", "--version"),
    "nginx": ("nginx", "-v"),
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


def run(*argv: str, text: str | None = None, check: bool = True) -> str:
    """Run a command and return its standard output; with `check`, exit with its message if it fails."""
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if check and done.returncode:
        sys.exit(f"`{' '.join(argv)}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def lines(*argv: str) -> list[str]:
    """Return the non-empty lines that a command prints, with single spaces, whatever its exit status."""
    return [" ".join(line.split()) for line in run(*argv, check=False).splitlines() if line.strip()]


# --- the host's state: one function per kind of fact, each returns key -> value -----------------------------


def files() -> Facts:
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


def packages() -> Facts:
    """Return the versions of the installed packages by name."""
    if not shutil.which("dpkg-query"):
        return rpms()
    shown = lines(
        "dpkg-query", "--show", "--showformat", "${binary:Package} ${Version} ${db:Status-Abbrev}\n"
    )
    return {name: version for name, version, *status in map(str.split, shown) if status and status[0] != "un"}


def rpms() -> Facts:
    """Return the versions of the installed packages of the RHEL family, by NAME.ARCH.

    If several versions are installed, as of kernels, the one installed last counts.
    """
    pattern = "%{INSTALLTIME} %{NAME}.%{ARCH} %|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\\n"
    shown = map(str.split, lines("rpm", "--query", "--all", "--queryformat", pattern))
    by_time = sorted(shown, key=lambda words: int(words[0]))
    return {name: version for _, name, version in by_time if not name.endswith(".(none)")}  # not signing keys


def sysctls() -> Facts:
    """Return the values of the sysctls that the lab may change (`SYSCTLS`), by path below /proc/sys."""
    root = Path("/proc/sys")
    found = {}
    for path in sorted(p for pattern in SYSCTLS for p in root.glob(pattern)):
        try:
            found[str(path.relative_to(root))] = " ".join(path.read_text().split())
        except OSError:  # some settings can only be written
            continue
    return found


def ip_records(*arguments: str) -> list[dict[str, Any]]:
    """Return the devices that ip prints as JSON, without the empty objects of those that a filter left out.

    Exits with a message if the output is not a JSON list.
    """
    printed = run("ip", "-j", *arguments)
    try:
        found = json.loads(printed or "[]")
    except ValueError:
        found = None
    if not isinstance(found, list):
        sys.exit(f"`ip -j {' '.join(arguments)}` printed no list: {printed[:80]!r}")
    return [entry for entry in found if "ifname" in entry]


def links() -> Facts:
    """Return "up" or "down" for each network device, as it is set administratively."""
    shown = ip_records("link", "show")
    return {link["ifname"]: "up" if "UP" in link.get("flags", ()) else "down" for link in shown}


def addresses() -> Facts:
    """Return the configured addresses: of global scope, and neither leased nor autoconfigured."""
    return {
        f"{a['local']}/{a['prefixlen']} dev {link['ifname']}": "present"
        for link in ip_records("address", "show")
        for a in link.get("addr_info", [])
        if a.get("scope") == "global" and not a.get("dynamic") and {"local", "prefixlen"} <= a.keys()
    }


def routes() -> Facts:
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


def rules() -> Facts:
    """Return the routing rules as `ip rule` prints them, with the family first."""
    return {
        f"-{family} {line.replace(':', '', 1)}": "present"
        for family in (4, 6)
        for line in lines("ip", f"-{family}", "rule", "show")
    }


def endpoints() -> Facts:
    """Return the MPTCP endpoints as `ip mptcp endpoint` prints them."""
    return dict.fromkeys(lines("ip", "mptcp", "endpoint", "show"), "present")


def limits() -> Facts:
    """Return the MPTCP limits as `ip mptcp limits` prints them."""
    shown = lines("ip", "mptcp", "limits", "show")
    return {"limits": shown[0]} if shown else {}


def nft_tables() -> Facts:
    """Return the nftables rule set by table."""
    return {line: run("nft", "list", *line.split(), check=False) for line in lines("nft", "list", "tables")}


def units() -> Facts:
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


def targets() -> Facts:
    """Return the states of the systemd targets in TARGETS."""
    return {name: run("systemctl", "is-active", name, check=False).strip() for name in TARGETS}


KINDS: dict[str, Callable[[], Facts]] = {
    kind.__name__: kind
    for kind in (
        files, packages, sysctls, links, addresses, routes, rules, endpoints, limits, nft_tables, units,
        targets,
    )
}  # fmt: skip


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


# --- commands ----------------------------------------------------------------------------------------------


def read_all() -> dict[str, Facts]:
    """Return the facts of all kinds, as a record holds them."""
    return {name: read() for name, read in KINDS.items()}


def differences(was: dict[str, Facts], now: dict[str, Facts]) -> Iterator[str]:
    """Yield one line per fact that differs."""
    for kind, before in was.items():
        after = now[kind]
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                yield f"{kind}: {key}: was {before.get(key, 'absent')}, is {after.get(key, 'absent')}"


def take(apply: bool) -> None:
    """Write the record, unless there is one."""
    if RECORD.exists():
        print("unchanged")
        return
    if apply:
        kept = {name: keep(Path(name)) for name in ACCOUNTS_BEFORE}
        document: Record = {"format": 2, "was": read_all(), "kept": kept}
        RECORD.parent.mkdir(mode=0o700, exist_ok=True)
        draft = RECORD.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump(document, stream, indent=1, sort_keys=True)
            stream.flush()
            os.fsync(stream.fileno())
        draft.rename(RECORD)
    print("changed: the host is on record")


def show() -> None:
    """Print the host's state as JSON."""
    entries = (line.partition("=") for line in Path("/etc/os-release").read_text().splitlines())
    release = {key: value.strip("\"'") for key, _, value in entries}
    told = {
        "kernel": platform.release(),
        "system": f"{release['ID']}-{release.get('VERSION_ID', 'unreleased')}",
        "tools": {name: tool_version(*argv) for name, argv in TOOLS.items() if shutil.which(argv[0])},
    }
    if not shutil.which("dpkg-query"):
        print(json.dumps({**read_all(), **told}))
        return
    left_behind = ("rc", "un")  # dpkg's states: removed with configuration kept; known by name only
    shown = lines(
        "dpkg-query", "--show", "--showformat", "${db:Status-Abbrev} ${binary:Package} ${Version}\n"
    )
    installed = dict(line.split()[1:3] for line in shown if line.split()[0] not in left_behind)
    print(json.dumps({**read_all(), **told, "packages": installed}))


def tool_version(*argv: str) -> str:
    """Return the first line that a tool prints about its version; nginx prints it to standard error."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.splitlines()[0].strip()


def main() -> None:
    """Run the command that the arguments name."""
    if sys.argv[1:] == ["show"]:
        show()
        return
    take(sys.argv[2] == "apply")


if __name__ == "__main__":
    main()
