"""Make the captures of tests/wire/captures with the running kernel (root, namespaces `wire-c` and `wire-s`).

    python -m tests.wire.make_captures [NAME ...]

Each function below is one capture: it sets up the two hosts, runs a short exchange and waits for its subject.
Files hold headers only (128 octets of each packet), except `checksum`, whose payload the DSS checksum covers.
The kernel's own tokens go to `kernel_tokens.json`: vectors that the kernel computed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shlex
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

from mptcp_lab.wire import MpJoinSyn, Segment, build_packet
from mptcp_lab.wire.packet import SYN

HERE = Path(__file__).parent / "captures"
SOL_MPTCP, MPTCP_INFO = 284, 1
MSG_FASTOPEN = 0x20000000
PORT = 7000
LIBC = ctypes.CDLL(None, use_errno=True)
TOKENS: dict[str, list[int]] = {}


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def on(host: str, command: str) -> str:
    return run("ip", "netns", "exec", f"wire-{host}", *shlex.split(command))


@contextlib.contextmanager
def inside(host: str) -> Iterator[None]:
    """This thread's new sockets belong to that host."""
    with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/wire-{host}").open() as there:
        if LIBC.setns(there.fileno(), 0):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            LIBC.setns(home.fileno(), 0)


def eventually(true: Callable[[], object], what: str, within: float = 15.0) -> None:
    deadline = time.monotonic() + within
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within} s")
        time.sleep(0.01)


def counter(host: str, name: str) -> int:
    with inside(host):
        lines = [line.split() for line in Path("/proc/thread-self/net/netstat").read_text().splitlines()]
    table = {
        head[0] + k: int(v)
        for head, row in zip(lines[::2], lines[1::2], strict=True)
        for k, v in zip(head, row, strict=True)
        if v[-1] != ":"
    }
    return table[f"MPTcpExt:{name}"]


def set_up() -> None:
    for host in "cs":
        run("ip", "netns", "add", f"wire-{host}")
        on(host, "ip link set lo up")
    for path in (1, 2):
        run(*f"ip -n wire-c link add c{path} type veth peer name s{path} netns wire-s".split())
        for host, last in (("c", 1), ("s", 2)):
            on(host, f"ip addr add 198.18.{path}.{last}/24 dev {host}{path}")
            on(host, f"ip addr add 2001:db8:{path}::{last}/64 dev {host}{path} nodad")
            on(host, f"ip link set {host}{path} up")
    for host in "cs":
        on(host, "ip mptcp limits set subflows 4 add_addr_accepted 4")


def tear_down() -> None:
    for host in "cs":
        subprocess.run(["ip", "netns", "del", f"wire-{host}"], check=False, capture_output=True)


@contextlib.contextmanager
def capturing(name: str, host: str = "c", form: str = "any", snap: int = 128) -> Iterator[None]:
    """`form`: any (pcap, SLL2), sll (pcap, SLL), eth (pcapng, Ethernet, one interface per NIC)."""
    path = HERE / f"{name}.{'pcapng' if form == 'eth' else 'pcap'}"
    if form == "eth":
        command = [
            "dumpcap",
            "-q",
            "-s",
            str(snap),
            "-f",
            "tcp",
            "-w",
            str(path),
            "-i",
            f"{host}1",
            "-i",
            f"{host}2",
        ]
    else:
        command = ["tcpdump", "--immediate-mode", "-U", "-s", str(snap), "-i", "any", "-w", str(path)]
        command += (["-y", "LINUX_SLL"] if form == "sll" else []) + ["tcp"]
    tool = subprocess.Popen(
        ["ip", "netns", "exec", f"wire-{host}", *command], stderr=subprocess.PIPE, text=True
    )
    assert tool.stderr
    while not (
        (line := tool.stderr.readline()).startswith(("listening on", "tcpdump: listening on", "File:"))
    ):
        if not line:
            raise RuntimeError(f"{command[0]} did not start")
    drain = threading.Thread(target=tool.stderr.read)
    drain.start()
    try:
        yield
        eventually(closed, "all sockets closed", 70)
    finally:
        eventually(
            lambda size=[-1]: size[0] == path.stat().st_size or size.__setitem__(0, path.stat().st_size),
            "written",
        )
        time.sleep(0.3)  # a maker of fixtures may: dumpcap hands its last block over late
        tool.send_signal(signal.SIGINT)
        tool.wait()
        drain.join()
        if form == "eth":  # dumpcap writes its interfaces in turn, not in order of time
            run("reordercap", str(path), f"{path}.sorted")
            Path(f"{path}.sorted").rename(path)


def closed() -> bool:
    return all(
        not on(
            host,
            "ss -tanH state established state fin-wait-1 state fin-wait-2 "
            "state close-wait state last-ack state syn-sent state closing",
        )
        for host in "cs"
    )


class Pair:
    """A listener on the server, a connected client, the accepted end."""

    def __init__(self, address: str = "198.18.1.2", mptcp: str = "cs") -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listener = self._socket("s", family, "s" in mptcp)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", PORT))
        self.listener.listen()
        self.client = self._socket("c", family, "c" in mptcp)
        self.client.settimeout(20)
        self.client.connect((address, PORT))
        self.server, _ = self.listener.accept()
        self.server.settimeout(20)

    @staticmethod
    def _socket(host: str, family: int, mptcp: bool) -> socket.socket:
        with inside(host):
            return socket.socket(family, socket.SOCK_STREAM, 262 if mptcp else 0)

    def note_token(self, name: str) -> None:
        """Octets 12..15 of struct mptcp_info: the token this end chose for the connection."""
        info = [end.getsockopt(SOL_MPTCP, MPTCP_INFO, 128) for end in (self.client, self.server)]
        TOKENS[name] = [struct.unpack_from("=I", data, 12)[0] for data in info]

    def talk(self, size: int = 100, rounds: int = 3) -> None:
        for number in range(rounds):
            for here, there in ((self.client, self.server), (self.server, self.client)):
                self.move(here, there, bytes([65 + number]) * size)

    @staticmethod
    def move(here: socket.socket, there: socket.socket, data: bytes) -> None:
        sender = threading.Thread(target=here.sendall, args=(data,))
        sender.start()
        left = len(data)
        while left:
            left -= len(there.recv(min(left, 65536)))
        sender.join()

    def close(self) -> None:
        self.client.close()
        assert self.server.recv(1) == b""
        self.server.close()
        self.listener.close()


def joined(count: int = 1) -> None:
    eventually(lambda: counter("s", "MPJoinAckRx") + counter("c", "MPJoinAckRx") >= count, f"{count} joins")


def endpoint(host: str, text: str) -> None:
    on(host, f"ip mptcp endpoint add {text}")


def handshake() -> None:
    """One subflow, a few messages, DATA_FIN from both ends."""
    with capturing("handshake", form="eth"):
        pair = Pair()
        pair.note_token("handshake")
        pair.talk()
        pair.close()


def half_close() -> None:
    """shutdown(SHUT_WR) on the client, then data from the server."""
    with capturing("half_close", host="s"):
        pair = Pair()
        pair.talk(rounds=1)
        pair.client.shutdown(socket.SHUT_WR)
        assert pair.server.recv(1) == b""
        pair.move(pair.server, pair.client, b"still here" * 50)
        pair.server.close()
        assert pair.client.recv(1) == b""
        pair.client.close()
        pair.listener.close()


def join() -> None:
    """Fullmesh: the client's second address joins."""
    endpoint("c", "198.18.2.1 dev c2 subflow fullmesh")
    endpoint("s", "198.18.2.2 dev s2 signal")
    with capturing("join"):
        pair = Pair()
        pair.note_token("join")
        pair.talk()
        joined(2)
        pair.talk(2000)
        pair.close()


def join_server_side() -> None:
    """The same kind of session, seen by the server, link type SLL."""
    endpoint("c", "198.18.2.1 dev c2 subflow")
    with capturing("join_server_side", host="s", form="sll"):
        pair = Pair()
        pair.talk()
        joined()
        pair.talk()
        pair.close()


def backup() -> None:
    endpoint("c", "198.18.2.1 dev c2 subflow backup")
    with capturing("backup", form="eth"):
        pair = Pair()
        pair.talk()
        joined()
        pair.talk(1000)
        pair.close()


def add_addr() -> None:
    endpoint("s", "198.18.2.2 dev s2 signal")
    with capturing("add_addr", form="eth"):
        pair = Pair()
        pair.talk()
        joined()
        pair.talk()
        pair.close()


def add_addr_port() -> None:
    endpoint("s", "198.18.2.2 dev s2 signal port 7777")
    with capturing("add_addr_port"):
        pair = Pair()
        pair.talk()
        joined()
        pair.talk()
        pair.close()


def add_addr_v6() -> None:
    endpoint("s", "2001:db8:2::2 dev s2 signal")
    with capturing("add_addr_v6"):
        pair = Pair("2001:db8:1::2")
        pair.note_token("add_addr_v6")
        pair.talk()
        joined()
        pair.talk()
        pair.close()


def add_addr_v6_port() -> None:
    """Without timestamps: 30 octets for the option and 12 for those do not fit together."""
    endpoint("s", "2001:db8:2::2 dev s2 signal port 7777")
    for host in "cs":
        on(host, "sysctl -qw net.ipv4.tcp_timestamps=0")
    with capturing("add_addr_v6_port"):
        pair = Pair("2001:db8:1::2")
        pair.talk()
        joined()
        pair.talk()
        pair.close()


def add_addr_again() -> None:
    """The echo is lost: the announcement comes again."""
    endpoint("s", "198.18.2.2 dev s2 signal")
    on("s", "sysctl -qw net.mptcp.add_addr_timeout=1")
    drop("c", "output", "tcp option mptcp subtype 3")
    with capturing("add_addr_again"):
        pair = Pair()
        pair.talk(rounds=1)
        eventually(lambda: counter("s", "AddAddrTx") >= 3, "ADD_ADDR sent again")
        on("c", "nft delete table ip wire")
        pair.talk()
        eventually(lambda: counter("s", "EchoAdd"), "an echo at the server")
        pair.close()


def join_reset() -> None:
    """The announced address answers a join with RST, as a closed port does."""
    endpoint("s", "198.18.2.2 dev s2 signal")
    drop("s", "input", "iifname s2 tcp dport 7000", "reject with tcp reset")
    with capturing("join_reset"):
        pair = Pair()
        pair.talk()
        eventually(lambda: counter("c", "MPJoinSynTx"), "a join")
        pair.talk()
        pair.close()


def join_unknown_token() -> None:
    """A join to a connection the server does not have, in a hand-made packet."""
    join = MpJoinSyn(address_id=3, token=0x12345678, nonce=0x9ABCDEF0)
    addresses = [ip_address(each) for each in ("198.18.1.1", "198.18.1.2")]
    syn = Segment(addresses[0], 40000, addresses[1], PORT, 1000, 0, SYN, 64240, (join,))
    with capturing("join_unknown_token"):
        listener = Pair._socket("s", socket.AF_INET, mptcp=True)
        listener.bind(("0.0.0.0", PORT))
        listener.listen()
        with inside("c"):
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        raw.sendto(build_packet(syn), ("198.18.1.2", 0))
        eventually(lambda: counter("s", "MPJoinNoTokenFound"), "the join at the server")
        listener.close()


def remove_addr() -> None:
    endpoint("c", "198.18.2.1 id 4 dev c2 subflow")
    endpoint("s", "198.18.2.2 id 5 dev s2 signal")
    with capturing("remove_addr"):
        pair = Pair()
        pair.talk()
        joined(2)
        pair.talk()
        on("s", "ip mptcp endpoint del id 5")
        eventually(lambda: counter("c", "RmAddr"), "REMOVE_ADDR at the client")
        pair.talk()
        on("c", "ip mptcp endpoint del id 4")
        eventually(lambda: counter("s", "RmAddr"), "REMOVE_ADDR at the server")
        pair.talk()
        pair.close()


def mp_prio() -> None:
    endpoint("c", "198.18.2.1 id 4 dev c2 subflow")
    with capturing("mp_prio"):
        pair = Pair()
        pair.talk()
        joined()
        on("c", "ip mptcp endpoint change id 4 backup")
        eventually(lambda: counter("s", "MPPrioRx"), "MP_PRIO at the server")
        pair.talk()
        on("c", "ip mptcp endpoint change id 4 nobackup")
        eventually(lambda: counter("s", "MPPrioRx") == 2, "second MP_PRIO at the server")
        pair.talk()
        pair.close()


def checksum() -> None:
    on("s", "sysctl -qw net.mptcp.checksum_enabled=1")
    endpoint("c", "198.18.2.1 dev c2 subflow")
    with capturing("checksum", snap=2000):
        pair = Pair()
        pair.talk(51)
        joined()
        pair.talk(90)
        pair.close()


def fastclose() -> None:
    endpoint("c", "198.18.2.1 dev c2 subflow")
    with capturing("fastclose"):
        pair = Pair()
        pair.talk()
        joined()
        pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pair.client.close()
        with contextlib.suppress(ConnectionResetError):
            pair.server.recv(1)
        pair.server.close()
        pair.listener.close()


def fallback_synack() -> None:
    with capturing("fallback_synack"):
        pair = Pair(mptcp="c")
        pair.talk()
        pair.close()


def plain_client() -> None:
    """Plain TCP to an MPTCP listener."""
    with capturing("plain_client"):
        pair = Pair(mptcp="s")
        pair.talk()
        pair.close()


def drop(host: str, hook: str, match: str, action: str = "drop") -> None:
    on(host, "nft add table ip wire")
    on(host, f"nft add chain ip wire {hook} {{ type filter hook {hook} priority 0; }}")
    on(host, f"nft add rule ip wire {hook} {match} {action}")


def strip(host: str, hook: str) -> None:
    drop(host, hook, "tcp flags & syn == 0", "reset tcp option mptcp")


def fallback_ack() -> None:
    """A middlebox strips MPTCP from all but the SYNs; seen by the client."""
    strip("s", "prerouting")
    strip("c", "prerouting")
    with capturing("fallback_ack"):
        pair = Pair()
        pair.talk()
        pair.close()


def fallback_third_ack() -> None:
    """The same from the client on its way out: seen on the wire and by the server."""
    strip("c", "output")
    with capturing("fallback_third_ack", host="s"):
        pair = Pair()
        pair.talk()
        pair.close()


def corrupt(device: str) -> None:
    """Change an octet of larger packets; on a veth nobody computes the TCP checksum, so it holds."""
    drop("c", "postrouting", f"oifname {device} meta length > 400", "@th,1600,8 set 0xff")


def checksum_failure() -> None:
    """One subflow, a payload that is not what the DSS checksum says: MP_FAIL and an infinite mapping."""
    on("s", "sysctl -qw net.mptcp.checksum_enabled=1")
    with capturing("checksum_failure"):
        pair = Pair()
        pair.talk()
        corrupt("c1")
        pair.move(pair.client, pair.server, b"x" * 1000)
        eventually(lambda: counter("s", "MPFailTx"), "MP_FAIL")
        on("c", "nft delete table ip wire")
        pair.talk()
        pair.close()


def checksum_failure_two() -> None:
    """The same on one of two subflows: it is reset, the data comes again on the other."""
    on("s", "sysctl -qw net.mptcp.checksum_enabled=1")
    endpoint("c", "198.18.2.1 dev c2 subflow")
    with capturing("checksum_failure_two"):
        pair = Pair()
        pair.talk()
        joined()
        corrupt("c1")
        pair.move(pair.client, pair.server, b"x" * 1000)
        eventually(lambda: counter("s", "MPFailTx"), "MP_FAIL")
        on("c", "nft delete table ip wire")
        pair.talk()
        pair.close()


def join_refused() -> None:
    endpoint("c", "198.18.2.1 dev c2 subflow")
    on("s", "ip mptcp limits set subflows 0")
    with capturing("join_refused"):
        pair = Pair()
        pair.talk()
        eventually(lambda: counter("s", "MPJoinSynRx"), "a join at the server")
        pair.talk()
        pair.close()


def no_join_initial() -> None:
    """The server's C flag, and one more address of it to join."""
    on("s", "sysctl -qw net.mptcp.allow_join_initial_addr_port=0")
    endpoint("c", "198.18.2.1 dev c2 subflow fullmesh")
    endpoint("s", "198.18.2.2 dev s2 signal")
    with capturing("no_join_initial"):
        pair = Pair()
        pair.talk()
        joined()
        pair.talk()
        pair.close()


def limited() -> None:
    for host in "cs":
        for path in (1, 2):
            on(host, f"tc qdisc add dev {host}{path} root tbf rate 40mbit burst 16k latency 50ms")


def bulk() -> None:
    """Both paths in use, offload super-packets."""
    limited()
    endpoint("c", "198.18.2.1 dev c2 subflow")
    with capturing("bulk"):
        pair = Pair()
        pair.talk()
        joined()
        pair.move(pair.client, pair.server, bytes(1_500_000))
        pair.close()


def failover() -> None:
    """The first path goes silent in the middle of a transfer: what was lost is sent again on the second."""
    limited()
    endpoint("c", "198.18.2.1 dev c2 subflow")
    with capturing("failover"):
        pair = Pair()
        pair.talk()
        joined()
        pair.move(pair.client, pair.server, bytes(100_000))
        drop("s", "input", "iifname s1")
        pair.move(pair.client, pair.server, bytes(400_000))
        on("s", "nft delete table ip wire")
        pair.talk()
        pair.close()


def fast_open(taken: bool) -> None:
    """TCP Fast Open without a cookie: data in the SYN, then more."""
    on("c", "sysctl -qw net.ipv4.tcp_fastopen=5")
    on("s", f"sysctl -qw net.ipv4.tcp_fastopen={0x602 if taken else 0}")
    with capturing("fast_open" if taken else "fast_open_refused"):
        listener = Pair._socket("s", socket.AF_INET, mptcp=True)
        listener.bind(("0.0.0.0", PORT))
        listener.listen()
        client = Pair._socket("c", socket.AF_INET, mptcp=True)
        client.sendto(b"x" * 20, MSG_FASTOPEN, ("198.18.1.2", PORT))
        server, _ = listener.accept()
        for data in (b"x" * 20, b"y" * 30, b"z" * 40):
            if data[0] != 120:
                client.sendall(data)
            assert server.recv(100) == data
            server.sendall(data)
            assert client.recv(100) == data
        client.close()
        assert server.recv(1) == b""
        server.close()
        listener.close()


def fast_open_taken() -> None:
    fast_open(taken=True)


def fast_open_refused() -> None:
    fast_open(taken=False)


MAKERS: list[Callable[[], None]] = [
    handshake,
    half_close,
    join,
    join_server_side,
    backup,
    add_addr,
    add_addr_port,
    add_addr_v6,
    add_addr_v6_port,
    add_addr_again,
    join_reset,
    join_unknown_token,
    fallback_third_ack,
    checksum_failure,
    checksum_failure_two,
    remove_addr,
    mp_prio,
    checksum,
    fastclose,
    fallback_synack,
    plain_client,
    fallback_ack,
    join_refused,
    no_join_initial,
    bulk,
    failover,
    fast_open_taken,
    fast_open_refused,
]


def main(names: list[str]) -> None:
    HERE.mkdir(exist_ok=True)
    tokens = HERE / "kernel_tokens.json"
    if tokens.exists():
        TOKENS.update(json.loads(tokens.read_text()))
    for maker in MAKERS:
        if not names or maker.__name__ in names:
            tear_down()
            set_up()
            try:
                maker()
                print(maker.__name__, "made", flush=True)
            finally:
                tear_down()
    tokens.write_text(json.dumps(TOKENS, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if os.geteuid():
        sys.exit("make_captures.py makes network namespaces: run it as root.")
    main(sys.argv[1:])
