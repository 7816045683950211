"""Read the host's addresses, routes, rules, qdiscs and processes, for faults and their undo steps."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from ..basics import Json
from ..tools import read_records, run_tool


def device_addresses(device: str) -> list[list[str]]:
    """Return a device's addresses as arguments of `ip address add`.

    IPv6 link-local addresses are left out: the kernel adds them again by itself.
    """
    found = []
    links = read_records(["ip", "-j", "address", "show", "dev", device], "addr_info")
    for entry in (entry for link in links for entry in link["addr_info"] if entry):
        if entry["family"] == "inet6" and entry["scope"] == "link":
            continue
        argv = [f"{entry['local']}/{entry['prefixlen']}"]
        for option in ("broadcast", "label"):
            if option in entry:
                argv += [option, entry[option]]
        found.append(argv + (["nodad"] if entry["family"] == "inet6" else ["scope", entry["scope"]]))
    return found


def route_lines(family: str) -> list[str]:
    """Return the routes of all tables as arguments of `ip route`, without those of protocol kernel."""
    lines = run_tool(["ip", "-o", family, "route", "show", "table", "all"]).replace("\\", " ").splitlines()
    volatile = {"linkdown", "dead", "offload", "trap", "rt_offload", "rt_trap"}
    words = [[word for word in line.split() if word not in volatile] for line in lines]
    return [" ".join(line) for line in words if "proto kernel" not in " ".join(line)]


def route_key(line: str) -> tuple[str, str]:
    """Return (destination, table) of a route line as `ip route` prints or accepts it."""
    words = line.split()
    kinds = (
        "unicast",
        "local",
        "broadcast",
        "multicast",
        "anycast",
        "blackhole",
        "unreachable",
        "prohibit",
        "throw",
    )
    destination = words[1] if words[0] in kinds else words[0]
    table = words[words.index("table") + 1] if "table" in words else "main"
    if destination != "default":
        network = ipaddress.ip_network(destination, strict=False)
        destination = "default" if network.prefixlen == 0 else str(network)
    return destination, {"254": "main", "255": "local", "253": "default"}.get(table, table)


def rule_lines(family: str) -> list[str]:
    """Return all policy rules as arguments of `ip rule`."""
    lines = run_tool(["ip", family, "rule", "show"]).splitlines()
    return ["priority " + line.replace(":\t", " ", 1).replace("[detached]", "").strip() for line in lines]


def root_qdisc(device: str) -> Json:
    """Return the root qdisc of a device; {"kind": "noqueue", "handle": "0:"} if it has none."""
    qdiscs = read_records(["tc", "-j", "qdisc", "show", "dev", device], "kind", "handle")
    return next((qdisc for qdisc in qdiscs if qdisc.get("root")), {"kind": "noqueue", "handle": "0:"})


def process_started(pid: int) -> str:
    """Return the start time of a process (field 22 of /proc/PID/stat), or "" if it does not run.

    A different start time shows that the process id has been reused.
    """
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
