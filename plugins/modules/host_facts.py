#!/usr/bin/python
"""Read the facts of a host that roles need before they change anything: an Ansible module.

It returns them as `found`:

- system: the distribution and its release, such as "debian-13"; name: the name that it gives itself.
- architecture: the architecture in Debian's terms; lacking: programs that roles need and that are missing.
- kernel: the release of the running kernel; container: whether the host shares another machine's kernel.
- profile: "upstream", "legacy" (multipath-tcp.org's v0.9x), or "" for a kernel without MPTCP.
- settings: the kernel's sysctls below net.mptcp; socket_error: the error of opening an MPTCP socket, or "".
- devices: all network devices; management: those that carry this SSH connection or a default route.
- network_manager: whether NetworkManager runs; mptcpd: "lab" or "other" for the mptcpd that runs, or "".
- packages: the names of the installed packages; recorded: whether the host has a record.
- owners: the roles that have changed something, by the host's manifest.
- lease: who holds the lab for a suite that runs, and for how many more seconds, or "".
"""

from __future__ import annotations

import errno
import json
import os
import pathlib
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from typing import Any

DOCUMENTATION = """
module: host_facts
short_description: Look at a host
author: mptcp-lab maintainers
description: Returns what it is as C(found), and changes nothing.
options: {}
"""
#: Ansible replaces this text with the arguments; its presence makes Ansible run the module in one round trip.
ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""
STATE = pathlib.Path("/var/lib/mptcp-lab")
#: A suite's lease on the host (mptcp_lab/agent/lab_agent/lease.py).
LEASE = "run/mptcp-lab/lease"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def ip(*arguments: str) -> list[dict[str, Any]]:
    """Return the objects that ip prints as JSON; none if the host has no ip yet."""
    if "ip" in missing_programs():
        return []
    shown = subprocess.run(["ip", "-j", *arguments], capture_output=True, check=True).stdout
    try:
        found = json.loads(shown or "[]")
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise SystemExit(f"`ip -j {' '.join(arguments)}` printed no list: {shown[:80]!r}")
    return [entry for entry in found if entry]  # ip prints {} for an entry that a filter left out


def missing_programs() -> list[str]:
    """Return the programs that roles need and that the host does not have."""
    return [tool for tool in ("ip", "nft", "sysctl") if shutil.which(tool) is None]


def ssh_address() -> str | None:
    """Return the local address of this SSH connection, or None.

    sudo removes SSH_CONNECTION, so it is read from the environments of the parent processes too.
    """
    pid = os.getpid()
    while pid > 1:
        environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        for entry in environment:
            if entry.startswith(b"SSH_CONNECTION="):
                return entry.decode().split("=", 1)[1].split()[2]
        pid = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def configured_devices() -> list[str]:
    """Return the network devices that the lab has configured already."""
    settings = pathlib.Path("/etc/sysctl.d/90-mptcp-lab-network.conf")
    return re.findall(r"(?m)^net/ipv4/conf/(.+)/rp_filter", settings.read_text()) if settings.exists() else []


def management() -> list[str]:
    """Return the devices whose loss would disconnect the host: with the SSH address or a default route.

    A default route from a router advertisement on a NIC of the lab does not count.
    """
    local = ssh_address()
    carrying = {
        link["ifname"]
        for link in ip("address", "show")
        for address in link.get("addr_info", [])
        if address.get("local") == local and link.get("ifname", "lo") != "lo"
    }
    defaults = ip("-4", "route", "show", "default") + ip("-6", "route", "show", "default")
    lab = configured_devices()
    leading = {
        route["dev"]
        for route in defaults
        if "dev" in route and not (route.get("protocol") == "ra" and route["dev"] in lab)
    }
    return sorted(carrying | leading)


def runs(unit: str) -> bool:
    """Return whether a unit is active."""
    return subprocess.run(["systemctl", "--quiet", "is-active", unit], check=False).returncode == 0


def release() -> tuple[str, str]:
    """Return the system as "ID-RELEASE" and its pretty name (os-release(5)); RHEL's rebuilds are "rhel"."""
    lines = pathlib.Path("/etc/os-release").read_text().splitlines()
    entries = {
        key: value.strip("\"'") for key, equals, value in (line.partition("=") for line in lines) if equals
    }
    family, number = entries.get("ID", "unknown"), entries.get("VERSION_ID", "unreleased")
    if "rhel" in (family, *entries.get("ID_LIKE", "").split()) and family != "fedora":
        family, number = "rhel", number.partition(".")[0]
    return f"{family}-{number}", entries.get("PRETTY_NAME", family)


def profile() -> str:
    """Return which MPTCP the kernel has, by its sysctls: the kernel's version does not show it."""
    settings = pathlib.Path("/proc/sys/net/mptcp")
    if (settings / "mptcp_enabled").exists():
        return "legacy"
    return "upstream" if (settings / "enabled").exists() else ""


def settings() -> list[str]:
    """Return the names of the kernel's sysctls below net.mptcp."""
    return sorted(path.name for path in pathlib.Path("/proc/sys/net/mptcp").glob("*"))


def socket_error() -> str:
    """Open an MPTCP socket and return the error's name, or "" if it works or is only switched off."""
    try:
        if profile() == "legacy":  # MPTCP_ENABLED (42) switches MPTCP on for a TCP socket
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as plain:
                plain.setsockopt(socket.IPPROTO_TCP, 42, 1)
        else:
            socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close()
    except OSError as error:
        return "" if error.errno == errno.ENOPROTOOPT else errno.errorcode[error.errno or 0]
    return ""


def in_container() -> bool:
    """Return whether the host is a container, which shares the kernel of another machine."""
    return subprocess.run(["systemd-detect-virt", "--quiet", "--container"], check=False).returncode == 0


def mptcpd() -> str:
    """Return "lab" if the lab's drop-in for mptcpd exists, "other" if another mptcpd runs, else ""."""
    ours = pathlib.Path("/etc/systemd/system/mptcp.service.d/mptcp-lab.conf").exists()
    return "lab" if ours else "other" if runs("mptcp.service") else ""


def packages() -> list[str]:
    """Return the names of the installed packages; none on a host without dpkg and rpm."""
    if shutil.which("dpkg-query"):
        argv = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\\n"]
    elif shutil.which("rpm"):
        argv = ["rpm", "--query", "--all", "--queryformat", "installed %{NAME}\\n"]
    else:
        return []
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return sorted({line.split()[1] for line in shown.splitlines() if line.startswith("installed ")})


def owners() -> list[str]:
    """Return the roles that have changed something on this host; none if the manifest cannot be read."""
    try:
        entries = json.loads((STATE / "manifest.json").read_text())["entries"]
        return sorted({owner for entry in entries for owner in entry["owners"]})
    except (OSError, ValueError, KeyError, TypeError):
        return []


def lease() -> str:
    """Return who holds the lab for a suite, and for how many more seconds; "" if nobody does."""
    try:
        held = json.loads(pathlib.Path("/", LEASE).read_text())
        left = float(held["expires"]) - time.monotonic()
        return f"{held['owner']} holds the lab for {left:.0f} s more" if left > 0 else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def main() -> None:
    """Read all facts, and print them as Ansible reads them."""
    if unknown := sorted(name for name in json.loads(ARGUMENTS) if not name.startswith("_ansible_")):
        message = f"host_facts has no option {', '.join(unknown)}; it has none"
        print(json.dumps({"changed": False, "failed": True, "msg": message}))
        sys.exit(1)
    system, name = release()
    found = {
        "system": system,
        "name": name,
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "kernel": platform.release(),
        "lacking": missing_programs(),
        "container": in_container(),
        "profile": profile(),
        "settings": settings(),
        "socket_error": socket_error(),
        "devices": sorted(path.name for path in pathlib.Path("/sys/class/net").iterdir()),
        "management": management(),
        "network_manager": runs("NetworkManager.service"),
        "mptcpd": mptcpd(),
        "packages": packages(),
        "lease": lease(),
        "recorded": (STATE / "record.json").exists(),
        "owners": owners(),
    }
    print(json.dumps({"changed": False, "found": found}))


if __name__ == "__main__":
    main()
