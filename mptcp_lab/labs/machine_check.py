"""Report which features a lab can use on this machine: each is tried, never derived from a version number.

`./lab doctor` runs this file directly, with any Python from 3.7 on and before there is a .venv, so that it
imports only the standard library. The script `lab` checks the packages.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

IPPROTO_MPTCP = 262
TRIAL_TIMEOUT_S = 20
#: Possible roots of the cgroup v2 tree: on unified and on hybrid set-ups.
CGROUP_ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
CGROUP_ADVICE = "mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"

# include/uapi/linux: netlink.h, netfilter/nfnetlink.h, netfilter/nf_tables.h
NETLINK_NETFILTER = 12
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
NFT_MSG_GETGEN = 10 << 8 | 16


@dataclass(frozen=True)
class Finding:
    """The result of one test: whether it works (None: not tried), and whether a lab needs it to come up."""

    what: str
    there: bool | None
    needed: bool
    detail: str


@dataclass(frozen=True)
class Module:
    """A kernel feature, often a module that its first use loads, and the purpose for which a lab needs it.

    ``command`` tries it, in a shell with separate network and mount namespaces.
    """

    name: str
    purpose: str
    needed: bool
    tool: str
    command: str


VETH = "ip link add name try0 type veth peer name try1"
BRIDGE = Module("bridge", "the lab's switch", True, "ip", "ip link add name br0 type bridge")
VETH_PAIR = Module("veth", "the hosts' NICs", True, "ip", VETH)
OVERLAY = Module(
    "overlay",
    "the hosts' files",
    True,
    "mount",
    "mount -t tmpfs tmpfs /mnt && cd /mnt && mkdir l u w m && "
    "mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w m",
)
TBF = Module(
    "sch_tbf",
    "rate limits",
    False,
    "tc",
    f"{VETH} && tc qdisc add dev try0 root tbf rate 1mbit burst 32k latency 50ms",
)
TUN = Module("tun", "the virtual machines' NICs", False, "ip", "ip tuntap add dev try0 mode tap")
NF_TABLES = Module("nf_tables", "faults and forwarders", True, "", "")
OTHERS = (
    Module(
        "nft tcp option mptcp",
        "option stripping",
        False,
        "nft",
        "nft add table inet t && nft add chain inet t c && nft add rule inet t c reset tcp option mptcp",
    ),
    Module(
        "sch_netem", "delay and loss", False, "tc", f"{VETH} && tc qdisc add dev try0 root netem delay 1ms"
    ),
)


def examine() -> list[Finding]:
    """Return the findings of all tests; kernel features are tried only as root."""
    findings = [_mptcp(), _cgroup(), _root()]
    modules = (BRIDGE, VETH_PAIR, OVERLAY, NF_TABLES, TBF, TUN, *OTHERS)
    return findings + [_try_module(module) for module in modules]


def refusal(module: Module) -> str:
    """Try a kernel feature; return the empty string if it works, else the reason why it does not."""
    if module is NF_TABLES:
        return _nf_tables_refusal()
    argv = ["unshare", "--net", "--mount", "sh", "-c", module.command]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=TRIAL_TIMEOUT_S, check=False)
    except FileNotFoundError:
        return "unshare is not installed"
    except subprocess.TimeoutExpired:
        return f"no answer within {TRIAL_TIMEOUT_S} s"
    if done.returncode == 0:
        return ""
    complaint = done.stderr.decode(errors="replace").strip().splitlines()
    return complaint[0] if complaint else f"exit status {done.returncode}"


def _nf_tables_refusal() -> str:
    """Query nf_tables' generation over netlink: only hosts have the program nft, so it is not used here."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as link:
            link.settimeout(TRIAL_TIMEOUT_S)
            link.sendto(struct.pack("=IHHII4x", 20, NFT_MSG_GETGEN, NLM_F_REQUEST, 1, 0), (0, 0))
            answer = link.recv(4096)
    except OSError as error:
        return error.strerror or str(error)
    kind, code = struct.unpack_from("=H", answer, 4)[0], 0
    if kind == NLMSG_ERROR and len(answer) >= 20:
        code = -struct.unpack_from("=i", answer, 16)[0]
    return os.strerror(code) if code else ""


def _try_module(module: Module) -> Finding:
    """Try one kernel feature, if this process is root and the tool is installed."""
    if os.geteuid() != 0:
        return Finding(module.name, None, module.needed, f"{module.purpose}: only root can test it")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if module.tool and shutil.which(module.tool, path=path) is None:
        return Finding(
            module.name,
            None,
            module.needed,
            f"{module.purpose}: not tested, because {module.tool} is not installed",
        )
    why = refusal(module)
    return Finding(module.name, not why, module.needed, f"{module.purpose}: {why}" if why else module.purpose)


def _mptcp() -> Finding:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP).close()
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "?")
        reasons = {
            "ENOPROTOOPT": "MPTCP is disabled; run sysctl net.mptcp.enabled=1",
            "EPROTONOSUPPORT": "the kernel was built without MPTCP",
            "EINVAL": "the kernel is older than 5.6",
        }
        return Finding("MPTCP sockets", False, True, f"{name}: {reasons.get(name, error.strerror)}")
    return Finding("MPTCP sockets", True, True, "the kernel opens MPTCP sockets")


def _cgroup() -> Finding:
    for path in CGROUP_ROOTS:
        if (path / "cgroup.controllers").exists():
            return Finding("cgroup v2", True, True, str(path))
    return Finding("cgroup v2", False, True, CGROUP_ADVICE)


def _root() -> Finding:
    if os.geteuid() == 0:
        return Finding("root", True, True, "now")
    able = shutil.which("sudo") is not None
    return Finding(
        "root", able, True, "through sudo" if able else "this user is not root, and sudo is not installed"
    )


def report(findings: list[Finding], say: Callable[[str], None] = print) -> bool:
    """Print the findings; return whether no needed feature is missing."""
    for found in findings:
        mark = "ok" if found.there else "untried" if found.there is None else "absent"
        say(
            f"{'MISSING' if found.there is False and found.needed else mark:<8}{found.what:<28}{found.detail}"
        )
    return not [found for found in findings if found.needed and found.there is False]


if __name__ == "__main__":
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        sys.exit(0 if report(examine(), lambda line: print(line, flush=True)) else 1)
    except BrokenPipeError:  # the reader closed the pipe, as `head` does
        sys.stderr.close()
        os._exit(1)
