"""Print, as one JSON line, what the role has to know of the host before it changes anything.

devices: network devices; management: those that carry this SSH connection or a default route, or None where
that cannot be told; network_manager: whether NetworkManager runs; mptcpd: whose mptcpd runs;
mptcp_socket: why the kernel refuses an MPTCP socket, if it does.
"""

from __future__ import annotations

import errno
import json
import os
import pathlib
import socket
import subprocess
from typing import Any


def ip(*arguments: str) -> list[dict[str, Any]]:
    """Run ip, and return its JSON."""
    shown = subprocess.run(["ip", "-j", *arguments], capture_output=True, check=True).stdout
    found: list[dict[str, Any]] = json.loads(shown or "[]")
    return found


def ssh_address() -> str | None:
    """Return the local address of this SSH connection; below sudo only the parents still know it."""
    pid = os.getpid()
    while pid > 1:
        environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        for entry in environment:
            if entry.startswith(b"SSH_CONNECTION="):
                return entry.decode().split("=", 1)[1].split()[2]
        pid = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def management() -> list[str]:
    """Return the devices whose loss would cut the host off."""
    local = ssh_address()
    carrying = {
        link["ifname"]
        for link in ip("address", "show")
        for address in link.get("addr_info", [])
        if address.get("local") == local and link["ifname"] != "lo"
    }
    defaults = ip("-4", "route", "show", "default") + ip("-6", "route", "show", "default")
    return sorted(carrying | {route["dev"] for route in defaults if "dev" in route})


def runs(unit: str) -> bool:
    """Tell whether a unit is active."""
    return subprocess.run(["systemctl", "--quiet", "is-active", unit], check=False).returncode == 0


def mptcp_socket() -> str:
    """Open an MPTCP socket; return the error's name; "" when it works or is only switched off."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close()
    except OSError as error:
        return "" if error.errno == errno.ENOPROTOOPT else errno.errorcode[error.errno or 0]
    return ""


def mptcpd() -> str:
    """Tell whose mptcpd runs here: "lab" (it has the lab's drop-in), "other", or "" for none."""
    ours = pathlib.Path("/etc/systemd/system/mptcp.service.d/mptcp-lab.conf").exists()
    return "lab" if ours else "other" if runs("mptcp.service") else ""


print(
    json.dumps(
        {
            "devices": sorted(path.name for path in pathlib.Path("/sys/class/net").iterdir()),
            "management": management(),
            "mptcp_socket": mptcp_socket(),
            "mptcpd": mptcpd(),
            "network_manager": runs("NetworkManager.service"),
        }
    )
)
