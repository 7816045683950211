"""Find out the host's capabilities by trying each one."""

from __future__ import annotations

import errno
import socket
import subprocess
from collections.abc import Callable

from ..basics import AgentError, Json, patient
from ..sockets import new_socket, open_listener
from .socket_facts import LEGACY, MPTCP_INFO, SOL_MPTCP, TCP_IS_MPTCP, read_full_info, read_subflow_addresses

# Each command runs in a new network namespace that ends with it, so that the host itself is not changed.
SCRATCH_TRIALS = {
    "nft": ["nft", "add table inet t"],
    "nft_tcp_option": [
        "nft",
        "add table inet t; add chain inet t c; add rule inet t c tcp option mptcp exists drop",
    ],
    "nft_tcp_option_reset": [
        "nft",
        "add table inet t; add chain inet t c; add rule inet t c reset tcp option mptcp",
    ],
    "nft_balance": [
        "nft",
        "add table inet t; add chain inet t c { type nat hook prerouting priority -110; };"
        " add rule inet t c dnat ip to jhash ip saddr . tcp sport mod 2 map { 0 : 192.0.2.1, 1 : 192.0.2.2 }",
    ],
    "nft_ct": ["nft", "add table inet t; add chain inet t c; add rule inet t c ct state invalid drop"],
    "nft_tproxy": [
        "nft",
        "add table inet t; add chain inet t c { type filter hook prerouting priority -150; };"
        " add rule inet t c tcp dport 80 tproxy ip to 192.0.2.1:80",
    ],
    "nft_queue": ["nft", "add table inet t; add chain inet t c; add rule inet t c queue num 5"],
    "tbf": [
        "tc",
        "qdisc",
        "add",
        "dev",
        "lo",
        "root",
        "tbf",
        "rate",
        "8mbit",
        "burst",
        "32k",
        "latency",
        "50ms",
    ],
    "netem": ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"],
}


def read_capabilities() -> Json:
    """Try every capability and return {name: {"ok": bool, "errno": int|None, "reason": str}}."""
    found: Json = {"legacy": {"ok": LEGACY.exists(), "errno": None, "reason": str(LEGACY)}}
    found.update(_socket_capabilities())
    trials = {}
    for name, argv in SCRATCH_TRIALS.items():
        trials[name] = subprocess.Popen(
            ["unshare", "--net", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    for name, process in trials.items():
        out = process.communicate(timeout=patient(20))[0].decode(errors="replace").strip()
        found[name] = {"ok": process.returncode == 0, "errno": None, "reason": out.partition("\n")[0]}
    return found


def _attempt(action: Callable[[], object]) -> Json:
    try:
        action()
    except OSError as error:
        return {
            "ok": False,
            "errno": error.errno,
            "reason": errno.errorcode.get(error.errno or 0, str(error)),
        }
    return {"ok": True, "errno": None, "reason": ""}


def _socket_capabilities() -> Json:
    """Try the socket options on a connection of the host to itself over the loopback device."""
    found = {"packet_socket": _attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close())}
    found["mptcp"] = _attempt(lambda: new_socket("127.0.0.1", "mptcp").close())
    protocol = "mptcp" if found["mptcp"]["ok"] else "tcp"
    with (
        open_listener("127.0.0.1", 0, protocol, None, 1) as listener,
        new_socket("127.0.0.1", protocol) as client,
    ):
        client.settimeout(patient(2))
        client.connect(listener.getsockname())
        found["tcp_is_mptcp"] = _attempt(lambda: client.getsockopt(socket.IPPROTO_TCP, TCP_IS_MPTCP))
        found["mptcp_info"] = _attempt(lambda: client.getsockopt(SOL_MPTCP, MPTCP_INFO, 256))
        found["mptcp_full_info"] = _attempt(lambda: read_full_info(client))
        found["mptcp_subflow_addrs"] = _attempt(lambda: read_subflow_addresses(client))
    if LEGACY.exists():
        found["tcp_is_mptcp"] = {
            "ok": False,
            "errno": None,
            "reason": "legacy kernel: option 43 means something else",
        }
    return found


def require(capability: str) -> None:
    """Raise AgentError "unsupported" with the capability's name if its trial fails."""
    done = subprocess.run(["unshare", "--net", *SCRATCH_TRIALS[capability]], capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise AgentError("unsupported", reason, capability=capability)
