"""Read kernel, distribution, versions, sysctls, packet filters, connection tracker and kernel log."""

from __future__ import annotations

import contextlib
import errno
import gzip
import itertools
import json
import os
import platform
import re
import socket
from pathlib import Path
from typing import Any

from ..basics import AgentError, Json
from ..kernel.host import PROC_SYS, definition, sysctl_name
from ..kernel.path_manager import PathManager
from ..kernel.socket_facts import IPPROTO_MPTCP
from .basics import Tool, attempt, find_tool, read_line

VERSIONS = {
    "iproute2": ("ip", "-V"),
    "nft": ("nft", "--version"),
    "iptables": ("iptables", "--version"),
    "haproxy": ("haproxy", "-v"),
    "nginx": ("nginx", "-v"),
    "mptcpd": ("mptcpd", "--version"),
    "NetworkManager": ("NetworkManager", "--version"),
    "systemd": ("systemctl", "--version"),
}
#: Programs that are noted without a version.
NOTED = ("mptcpize", "conntrack", "bpftool", "ufw", "firewall-cmd", "tcpdump")
NUMBER = re.compile(r"\d+(?:\.\d+)+\S*|\b\d{3}\b")
SYSCTLS = (
    "net/core/[rw]mem_max",
    "net/core/somaxconn",
    "net/core/default_qdisc",
    "net/ipv4/tcp_[rw]mem",
    "net/ipv4/tcp_syncookies",
    "net/ipv4/tcp_fastopen",
    "net/ipv4/tcp_timestamps",
    "net/ipv4/tcp_keepalive_*",
    "net/ipv4/tcp_available_congestion_control",
    "net/ipv4/ip_nonlocal_bind",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/conf/*/accept_local",
    "net/ipv4/conf/*/src_valid_mark",
    "net/ipv4/conf/*/log_martians",
    "net/ipv6/conf/*/accept_dad",
    "net/ipv6/conf/*/use_tempaddr",
    "net/ipv6/bindv6only",
    "net/netfilter/nf_conntrack_tcp_*",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_count",
)
CONFIG_KEPT = re.compile(
    r"CONFIG_(MPTCP\w*|INET_MPTCP_DIAG|IPV6|SYN_COOKIES|INET_DIAG\w*|NF_TABLES\w*|NF_CONNTRACK|BPF_SYSCALL|"
    r"IP_MULTIPLE_TABLES|IPV6_MULTIPLE_TABLES|IPV6_SUBTREES)=(\w+)"
)
LOG_KEPT = re.compile(r"mptcp|MPTCP|TCP: |SYN flooding|nf_conntrack|martian", re.IGNORECASE)
LOG_LINES_MAX = 50


def start_versions() -> dict[str, Tool]:
    """Start the programs that print versions."""
    return {name: Tool(argv) for name, argv in VERSIONS.items() if find_tool(argv[0])}


def read_versions(tools: dict[str, Tool]) -> Json:
    """Return the versions of the programs that are installed, "" where one does not print it."""
    found = {"python": platform.python_version(), **{name: "" for name in NOTED if find_tool(name)}}
    for name, tool in tools.items():
        with contextlib.suppress(AgentError):
            _, out, err = tool.result()
            number = NUMBER.search(out or err)
            found[name] = number.group(0).rstrip(",") if number else ""
    return found


def read_system() -> Json:
    """Return what the host is: names, kernel and distribution."""
    release = dict(
        line.split("=", 1) for line in read_line("/etc/os-release").splitlines() if line.count("=") == 1
    )
    described = {key: value.strip('"') for key, value in release.items()}
    return {
        "hostname": platform.node(),
        "kernel": platform.release(),
        "kernel_version": platform.version(),
        "machine": platform.machine(),
        "os": described.get("PRETTY_NAME", ""),
        "os_id": described.get("ID", ""),
        "os_version": described.get("VERSION_ID", ""),
        "uid": os.getuid(),
        "uptime": float(read_line("/proc/uptime").split()[0]),
        "mptcp_socket": try_socket(),
        "config": attempt(read_config),
        "sysctls": read_sysctls(),
        "selinux": {"1": "enforcing", "0": "permissive"}.get(read_line("/sys/fs/selinux/enforce"), ""),
        "log": attempt(read_log),
    }


def try_socket() -> str:
    """Open an MPTCP socket, and return "" or the name of the error."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP).close()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return ""


def read_config() -> Json:
    """Return the kernel's build options that matter; raise AgentError "tool" if there is no list of them."""
    for path in ("/proc/config.gz", f"/boot/config-{platform.release()}"):
        with contextlib.suppress(FileNotFoundError):
            data = Path(path).read_bytes()
            text = (gzip.decompress(data) if path.endswith(".gz") else data).decode(errors="replace")
            return {f"CONFIG_{match.group(1)}": match.group(2) for match in CONFIG_KEPT.finditer(text)}
    raise AgentError("tool", f"neither /proc/config.gz nor /boot/config-{platform.release()} is there")


def read_sysctls() -> Json:
    """Return the sysctls that decide about multipath, by dotted name."""
    values = {}
    patterns = itertools.chain(SYSCTLS, itertools.chain.from_iterable(definition()["sysctls"].values()))
    for path in sorted({path for pattern in patterns for path in PROC_SYS.glob(pattern)}):
        with contextlib.suppress(OSError):
            values[sysctl_name(path)] = path.read_text().strip()
    return values


def read_path_manager() -> Json:
    """Return endpoints and limits, each unreadable where the kernel refuses or lacks it."""
    found = {}
    for name, read in (("endpoints", PathManager.endpoints), ("limits", PathManager.limits)):

        def ask(read: Any = read) -> Any:
            with PathManager() as manager:
                return read(manager)

        found[name] = attempt(ask)
    return found


def start_filters() -> dict[str, Tool]:
    """Start the programs that print packet filters and sockets; iptables only where old tables are in use."""
    tools = {"nft": Tool(["nft", "list", "ruleset"]), "sockets": Tool(["ss", "-M", "-a", "-n", "-i"])}
    for version, name in (("ip", "iptables"), ("ip6", "ip6tables")):
        if read_line(f"/proc/net/{version}_tables_names"):
            legacy = f"{name}-legacy-save"
            tools[name] = Tool([legacy if find_tool(legacy) else f"{name}-save"])
    return tools


def read_filters(tools: dict[str, Tool]) -> Json:
    """Return the texts of packet filters and sockets; one whose program is not installed has no rules."""
    found = {name: attempt(tool.output) for name, tool in tools.items()}
    texts = [found[name] for name in ("iptables", "ip6tables") if name in found]
    bad = next((each for each in texts if isinstance(each, dict)), None)
    return {"nft": found["nft"], "sockets": found["sockets"], "iptables": bad or "".join(texts)}


def read_installed_kernels(root: Path = Path("/")) -> list[str]:
    """Return the releases of the kernels that are installed with their modules."""
    folders = (root / "usr/lib/modules", root / "lib/modules")
    names = {each.name for folder in folders if folder.is_dir() for each in folder.iterdir()}
    images = ("boot/vmlinuz-{}", "usr/lib/modules/{}/vmlinuz", "lib/modules/{}/vmlinuz")
    return sorted(name for name in names if any((root / each.format(name)).exists() for each in images))


def read_conntrack(ports: list[int]) -> Json | None:
    """Return the connection tracker, with the ports' entries; None where the kernel has none."""
    count, maximum = (read_line(PROC_SYS / f"net/netfilter/nf_conntrack_{n}") for n in ("count", "max"))
    if not count.isdecimal():
        return None
    return {
        "count": int(count),
        "maximum": int(maximum or 0),
        "entries": attempt(lambda: read_tracked(ports)),
    }


def read_tracked(ports: list[int]) -> list[str]:
    """Return the tracked TCP connections of these ports, at most 200."""
    try:
        lines = Path("/proc/net/nf_conntrack").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        lines = Tool(["conntrack", "-L", "-p", "tcp"]).output().splitlines()
    wanted = [f"port={port} " for port in ports]
    return [line for line in lines if any(each in f"{line} " for each in wanted)][:200]


def read_log() -> list[str]:
    """Return the last lines of the kernel's log that are about TCP or connection tracking."""
    handle = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    kept: list[str] = []
    try:
        while True:
            try:
                line = os.read(handle, 8192).decode(errors="replace")
            except BrokenPipeError:  # overwritten meanwhile
                continue
            except BlockingIOError:
                return kept[-LOG_LINES_MAX:]
            text = line.partition(";")[2].splitlines()
            if text and LOG_KEPT.search(text[0]):
                kept.append(text[0])
    finally:
        os.close(handle)


def read_bpf() -> list[str]:
    """Return the names of loaded BPF programs that are about MPTCP, where bpftool is installed."""
    if not find_tool("bpftool"):
        return []
    programs = json.loads(Tool(["bpftool", "-j", "prog", "show"]).output() or "[]")
    return sorted({str(each.get("name")) for each in programs if "mptcp" in str(each.get("name"))})
