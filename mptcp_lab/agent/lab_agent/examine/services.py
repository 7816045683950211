"""Read systemd units, daemons that manage MPTCP or the network, and the configuration of services."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..basics import Json
from .basics import Tool, attempt, boot_time

#: The units of the daemons, by the daemons' names.
DAEMONS = {
    "mptcpd": "mptcp.service",
    "NetworkManager": "NetworkManager.service",
    "systemd-networkd": "systemd-networkd.service",
    "firewalld": "firewalld.service",
    "ufw": "ufw.service",
    "nftables": "nftables.service",
}
DAEMON_FILES = {"mptcpd": "/etc/mptcpd/mptcpd.conf"}
PROPERTIES = (
    "Id LoadState ActiveState UnitFileState FragmentPath DropInPaths Environment ExecStart NeedDaemonReload "
    "ActiveEnterTimestampMonotonic TriggeredBy"
).split()
#: Lines of unit files that are kept: others may hold secrets.
UNIT_LINES = re.compile(
    r"\[|(ExecStart\w*|Type|User|Restart|SocketProtocol|Listen\w+|BindToDevice|FreeBind)\s*="
)
KEPT_VARIABLES = re.compile(r"\b(?:LD_PRELOAD|GODEBUG)=[^\s\"']+")
PROGRAM = re.compile(r"(?:path=|ExecStart\w*\s*=\s*[-@:+!|]*)(\S+)")
CONFIGURATIONS = {"haproxy": "/etc/haproxy/haproxy.cfg", "nginx": "/etc/nginx/nginx.conf"}
SERVICE_LINES = re.compile(r"\s*(bind|server|listen|proxy_pass|frontend|backend|upstream|stream|http|mode)\b")
INCLUDE = re.compile(r"\s*include\s+([^;\s]+)\s*;")
INCLUDES_MAX = 100


def start_show(units: Iterable[str]) -> Tool:
    """Start systemctl, which prints the properties of these units and of the daemons'."""
    names = dict.fromkeys([*units, *DAEMONS.values()])
    return Tool(["systemctl", "show", "--property", ",".join(PROPERTIES), *names])


def parse_show(text: str) -> dict[str, Json]:
    """Return the properties of each unit by its name."""
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")
    ]
    return {block["Id"]: block for block in blocks if "Id" in block}


def read_units(show: Tool, names: Iterable[str]) -> Json:
    """Return units and daemons; both unreadable, or without a state, where systemd does not run."""
    shown = attempt(lambda: parse_show(show.output()))
    if "unreadable" in shown:
        return {"units": shown, "daemons": [{"name": name} for name in DAEMONS]}
    started = boot_time()
    units = [unit_of(shown[name], started) for name in dict.fromkeys(names) if name in shown]
    return {
        "units": units,
        "daemons": [daemon_of(name, shown.get(unit, {})) for name, unit in DAEMONS.items()],
    }


def unit_of(properties: Json, boot: float) -> Json:
    """Return one unit, with the kept lines of its files."""
    fragment, drop_ins = properties.get("FragmentPath", ""), properties.get("DropInPaths", "").split()
    paths = [path for path in (fragment, *drop_ins) if path]
    files = {path: keep_lines(path) for path in paths}
    triggered_by = properties.get("TriggeredBy", "")
    program = PROGRAM.search(properties.get("ExecStart", ""))
    return {
        "name": properties["Id"],
        "state": properties.get("ActiveState", ""),
        "fragment": fragment,
        "drop_ins": drop_ins,
        "files": files,
        "environment": " ".join(KEPT_VARIABLES.findall(properties.get("Environment", ""))),
        "exec_start": program.group(1) if program else "",
        "needs_reload": properties.get("NeedDaemonReload") == "yes",
        "started": int(properties.get("ActiveEnterTimestampMonotonic") or 0) / 1e6,
        "changed": max((changed_at(path, boot) for path in paths), default=0.0),
        "triggered_by": triggered_by,
        "socket_protocol": socket_protocol(triggered_by),
    }


def keep_lines(path: str) -> str:
    """Return the lines of a unit file that matter; programs without their arguments."""
    kept = []
    with contextlib.suppress(OSError):
        for line in Path(path).read_text(errors="replace").splitlines():
            if UNIT_LINES.match(line):
                program = PROGRAM.match(line)
                kept.append(program.group(0) if program else line.rstrip())
            elif line.startswith("Environment"):
                kept += [f"Environment={each}" for each in KEPT_VARIABLES.findall(line)]
    return "\n".join(kept)


def changed_at(path: str, boot: float) -> float:
    """Return when a file was changed, in seconds since the boot; 0 if it cannot be read."""
    try:
        return Path(path).stat().st_mtime - boot
    except OSError:
        return 0.0


def socket_protocol(units: str) -> str:
    """Return SocketProtocol= of the socket units in a list of units; "" if none has it."""
    for name in units.split():
        text = attempt(Tool(["systemctl", "cat", name]).output)
        match = (
            re.search(r"^SocketProtocol\s*=\s*(\S+)", text, re.MULTILINE) if isinstance(text, str) else None
        )
        if match:
            return match.group(1)
    return ""


def daemon_of(name: str, properties: Json) -> Json:
    """Return one daemon; one that is not installed has no state."""
    is_there = properties.get("LoadState") not in (None, "", "not-found")
    config = ""
    with contextlib.suppress(OSError, KeyError):
        lines = Path(DAEMON_FILES[name]).read_text(errors="replace").splitlines()
        config = "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))
    return {
        "name": name,
        "state": properties.get("ActiveState", "") if is_there else "",
        "enabled": properties.get("UnitFileState", "") if is_there else "",
        "config": config,
    }


def read_configurations(processes: list[Json]) -> list[Json]:
    """Return the lines that open sockets, of the configurations of the proxies that run."""
    boot, found = boot_time(), []
    for process in processes:
        if process["name"] in CONFIGURATIONS:
            words = process["arguments"]
            named = [value for option, value in zip(words, words[1:]) if option in ("-f", "-c")]
            for path in named or [CONFIGURATIONS[process["name"]]]:
                found += read_configuration(process["name"], path, boot)
    unique = {(each["program"], each["path"]): each for each in found}
    return list(unique.values())


def read_configuration(program: str, path: str, boot: float) -> list[Json]:
    """Return one configuration file, and those that it includes."""
    folder, waiting = Path(path).parent, [path]
    found: list[Json] = []
    while waiting and len(found) < INCLUDES_MAX:
        name = waiting.pop(0)
        try:
            lines = Path(name).read_text(errors="replace").splitlines()
        except OSError:
            continue
        kept = [line.strip() for line in lines if SERVICE_LINES.match(line)]
        found.append({"program": program, "path": name, "lines": kept, "changed": changed_at(name, boot)})
        if program == "nginx":
            included = [match.group(1) for match in map(INCLUDE.match, lines) if match]
            waiting += [file for each in included for file in find_included(folder, each)]
    return found


def find_included(folder: Path, pattern: str) -> list[str]:
    """Return the files that an include names, relative to the folder of the first file."""
    whole = folder / pattern  # an absolute pattern replaces the folder
    return sorted(str(path) for path in Path("/").glob(str(whole).lstrip("/")))


def read_nm_connections(is_active: bool) -> Any:
    """Return NetworkManager's active connections with their MPTCP flags."""
    if not is_active:
        return []
    listed = Tool(["nmcli", "-t", "-e", "no", "-f", "UUID,DEVICE,NAME", "connection", "show", "--active"])
    lines = (line.split(":", 2) for line in listed.output().splitlines())
    rows = [words for words in lines if len(words) == 3]
    asked = [Tool(["nmcli", "-g", "connection.mptcp-flags", "connection", "show", row[0]]) for row in rows]
    flags = [attempt(tool.output) for tool in asked]
    return [
        {"name": row[2], "device": row[1], "mptcp_flags": each.strip() if isinstance(each, str) else ""}
        for row, each in zip(rows, flags)
    ]
