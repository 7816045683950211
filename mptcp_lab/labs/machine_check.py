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

# include/uapi/linux: netlink.h, netfilter/nfnetlink.h, netfilter/nf_tables.h, sock_diag.h, inet_diag.h
NETLINK_NETFILTER = 12
NETLINK_SOCK_DIAG = 4
NLM_F_REQUEST, NLM_F_DUMP = 1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
SOCK_DIAG_BY_FAMILY, INET_DIAG_REQ_PROTOCOL, IPPROTO_RAW = 20, 3, 255
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

    ``command`` tries it, in a shell with separate network and mount namespaces. ``options`` are those of the
    kernel's configuration that bring it.
    """

    name: str
    purpose: str
    needed: bool
    tool: str
    command: str
    options: str


VETH = "ip link add name try0 type veth peer name try1"
NFT = "nft add table inet t && nft add chain inet t c"
BRIDGE = Module("bridge", "the lab's switch", True, "ip", "ip link add name br0 type bridge", "CONFIG_BRIDGE")
VETH_PAIR = Module("veth", "the hosts' NICs", True, "ip", VETH, "CONFIG_VETH")
OVERLAY = Module(
    "overlay",
    "the hosts' files",
    True,
    "mount",
    "mount -t tmpfs tmpfs /mnt && cd /mnt && mkdir l u w m && "
    "mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w m",
    "CONFIG_OVERLAY_FS",
)
TBF = Module(
    "sch_tbf",
    "rate limits",
    False,
    "tc",
    f"{VETH} && tc qdisc add dev try0 root tbf rate 1mbit burst 32k latency 50ms",
    "CONFIG_NET_SCH_TBF",
)
TUN = Module(
    "tun", "the virtual machines' NICs", False, "ip", "ip tuntap add dev try0 mode tap", "CONFIG_TUN"
)
NF_TABLES = Module(
    "nf_tables", "faults and forwarders", True, "", "", "CONFIG_NF_TABLES CONFIG_NF_TABLES_INET"
)
OTHERS = (
    Module(
        "nft tcp option mptcp",
        "option stripping",
        False,
        "nft",
        f"{NFT} && nft add rule inet t c reset tcp option mptcp",
        "CONFIG_NF_TABLES",
    ),
    Module(
        "sch_netem",
        "delay and loss",
        False,
        "tc",
        f"{VETH} && tc qdisc add dev try0 root netem delay 1ms",
        "CONFIG_NET_SCH_NETEM",
    ),
)
MPTCP_DIAG = Module(
    "mptcp_diag",
    "the subflows of other programs' connections",
    False,
    "",
    "",
    "CONFIG_INET_DIAG CONFIG_INET_MPTCP_DIAG",
)
#: Features that the hosts need besides, if all of them run on the kernel that is tried. The suite tries them
#: on each host too, and leaves checks without their feature as unsupported.
FOR_HOSTS = (
    Module(
        "IPv6",
        "the hosts' IPv6 addresses",
        True,
        "ip",
        f"{VETH} && ip address add 2001:db8::1/64 dev try0",
        "CONFIG_IPV6",
    ),
    Module(
        "routing tables",
        "a route per path",
        True,
        "ip",
        "ip rule add from 198.18.0.1 table 9 && ip -6 rule add from 2001:db8::1 table 9",
        "CONFIG_IP_MULTIPLE_TABLES CONFIG_IPV6_MULTIPLE_TABLES",
    ),
    Module("ip mptcp", "endpoints", False, "ip", "ip mptcp endpoint show", "CONFIG_MPTCP"),
    MPTCP_DIAG,
    Module(
        "nft nat",
        "forwarders",
        False,
        "nft",
        "nft 'add table inet t; add chain inet t c { type nat hook prerouting priority -110; }; "
        "add rule inet t c dnat ip to 192.0.2.1; "
        "add chain inet t p { type nat hook postrouting priority 110; }; add rule inet t p masquerade'",
        "CONFIG_NF_NAT CONFIG_NFT_NAT CONFIG_NFT_MASQ",
    ),
    Module(
        "nft ct",
        "trackers on gateways",
        False,
        "nft",
        f"{NFT} && nft add rule inet t c ct state invalid drop",
        "CONFIG_NF_CONNTRACK CONFIG_NFT_CT",
    ),
    Module(
        "nft reject",
        "faults that answer",
        False,
        "nft",
        f"{NFT} && nft add rule inet t c meta l4proto tcp reject with tcp reset",
        "CONFIG_NFT_REJECT",
    ),
    Module(
        "nft queue",
        "scripted middleboxes",
        False,
        "nft",
        f"{NFT} && nft add rule inet t c queue num 5",
        "CONFIG_NETFILTER_NETLINK_QUEUE CONFIG_NFT_QUEUE",
    ),
    Module(
        "nft jhash",
        "balancers",
        False,
        "nft",
        "nft 'add table inet t; add chain inet t c { type nat hook prerouting priority -110; }; "
        "add rule inet t c dnat ip to jhash ip saddr . tcp sport mod 2 map { 0 : 192.0.2.1, 1 : 192.0.2.2 }'",
        "CONFIG_NFT_HASH CONFIG_NFT_NAT",
    ),
    Module(
        "nft tproxy",
        "transparent proxies",
        False,
        "nft",
        "nft 'add table inet t; add chain inet t c { type filter hook prerouting priority -150; }; "
        "add rule inet t c tcp dport 80 tproxy ip to 192.0.2.1:80'",
        "CONFIG_NFT_TPROXY",
    ),
    Module(
        "packet sockets",
        "captures",
        False,
        "python3",
        "python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'",
        "CONFIG_PACKET",
    ),
)


def examine() -> list[Finding]:
    """Return the findings of all tests; kernel features are tried only as root."""
    findings = [try_mptcp(), _cgroup(), _root()]
    modules = (BRIDGE, VETH_PAIR, OVERLAY, NF_TABLES, TBF, TUN, *OTHERS, *FOR_HOSTS)
    return findings + [_try_module(module) for module in modules]


def refusal(module: Module) -> str:
    """Try a kernel feature; return the empty string if it works, else the reason why it does not."""
    if module is NF_TABLES:
        return _netlink_refusal(NETLINK_NETFILTER, NFT_MSG_GETGEN, b"\0" * 4)
    if module is MPTCP_DIAG:
        return _netlink_refusal(NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, _mptcp_sockets_request(), NLM_F_DUMP)
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


def _netlink_refusal(protocol: int, kind: int, body: bytes, flags: int = 0) -> str:
    """Send one netlink request; return "" if the kernel answers it, else the reason.

    It is not sent by a program, since only hosts have ``nft``, and ``ss`` hides that a module is missing.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as link:
            link.settimeout(TRIAL_TIMEOUT_S)
            header = struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | flags, 1, 0)
            link.sendto(header + body, (0, 0))
            answer = link.recv(1 << 16)
    except OSError as error:
        return error.strerror or str(error)
    found, code = struct.unpack_from("=H", answer, 4)[0], 0
    if found in (NLMSG_ERROR, NLMSG_DONE) and len(answer) >= 20:
        code = -struct.unpack_from("=i", answer, 16)[0]
    return os.strerror(code) if code else ""


def _mptcp_sockets_request() -> bytes:
    """Return a struct inet_diag_req_v2 for all MPTCP sockets; the protocol's number is in an attribute."""
    request = struct.pack("=BBBBI48x", socket.AF_INET, IPPROTO_RAW, 0, 0, 0xFFFFFFFF)
    return request + struct.pack("=HHI", 8, INET_DIAG_REQ_PROTOCOL, IPPROTO_MPTCP)


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
    detail = f"{module.purpose}: {why} ({module.options})" if why else module.purpose
    return Finding(module.name, not why, module.needed, detail)


def try_mptcp() -> Finding:
    """Open an MPTCP socket."""
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
