"""What this machine can do for an embedded lab, found by use and never by a version number."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from mptcp_lab.embedded.errors import EmbeddedError
from mptcp_lab.embedded.hosts import cgroup_root

IPPROTO_MPTCP = 262


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ``needed`` for the lab to come up, or only for what ``detail`` names."""

    what: str
    there: bool
    needed: bool
    detail: str


def examine() -> list[Finding]:
    """Look at everything; root is needed to try namespaces."""
    findings = [_mptcp(), _cgroup(), _root()]
    if os.geteuid() == 0:
        findings += [_in_netns(*trial) for trial in TRIALS]
    return findings


def _mptcp() -> Finding:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP).close()
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "?")
        reasons = {
            "ENOPROTOOPT": "switched off: sysctl net.mptcp.enabled=1",
            "EPROTONOSUPPORT": "the kernel was built without it",
            "EINVAL": "the kernel is older than 5.6",
        }
        return Finding("MPTCP sockets", False, True, f"{name}: {reasons.get(name, error.strerror)}")
    return Finding("MPTCP sockets", True, True, "the kernel opens them")


def _cgroup() -> Finding:
    try:
        return Finding("cgroup v2", True, True, str(cgroup_root()))
    except EmbeddedError as error:
        return Finding("cgroup v2", False, True, error.next_step)


def _root() -> Finding:
    if os.geteuid() == 0:
        return Finding("root", True, True, "now")
    able = shutil.which("sudo") is not None
    return Finding("root", able, True, "through sudo" if able else "neither root nor sudo")


VETH = "ip link add name try0 type veth peer name try1"
OVERLAY = (
    "d=$(mktemp -d) && cd $d && mkdir l u w m && "
    "unshare -m mount -t overlay o -olowerdir=l,upperdir=u,workdir=w m"
)
NFT = "nft add table inet t && nft add chain inet t c"
Trial = tuple[str, bool, str, str]
#: What, whether it is needed, for what, and a shell command that uses it in a network namespace of its own.
TRIALS: tuple[Trial, ...] = (
    (
        "veth and bridge",
        True,
        "the fabric",
        f"ip link add name br0 type bridge && {VETH} && ip link set try1 master br0",
    ),
    ("overlay mounts", True, "the hosts' files", f"{OVERLAY}; r=$?; rm -rf $d; exit $r"),
    ("nftables", True, "faults", NFT),
    (
        "nftables tcp option mptcp",
        False,
        "option stripping",
        f"{NFT} && nft add rule inet t c reset tcp option mptcp",
    ),
    (
        "tbf",
        False,
        "rate limits",
        f"{VETH} && tc qdisc add dev try0 root tbf rate 1mbit burst 32k latency 50ms",
    ),
    ("netem", False, "delay and loss", f"{VETH} && tc qdisc add dev try0 root netem delay 1ms"),
)


def _in_netns(what: str, needed: bool, purpose: str, command: str) -> Finding:
    name = f"mlab-try-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True)
    try:
        argv = ["ip", "netns", "exec", name, "sh", "-c", command]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    complaint = done.stderr.strip().splitlines()
    detail = purpose if done.returncode == 0 else f"{purpose}: {complaint[0] if complaint else 'refused'}"
    return Finding(what, done.returncode == 0, needed, detail)


def report(findings: list[Finding], say: Callable[[str], None] = print) -> bool:
    """Print the findings; return whether everything needed is there."""
    for found in findings:
        mark = "ok     " if found.there else "MISSING" if found.needed else "absent "
        say(f"{mark} {found.what:<27} {found.detail}")
    return all(found.there for found in findings if found.needed)
