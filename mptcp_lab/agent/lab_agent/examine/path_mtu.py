"""Find paths that swallow large packets: send datagrams to a closed port, whose host answers by ICMP."""

from __future__ import annotations

import contextlib
import select
import socket
import time

from ..basics import patient

CLOSED_PORT = 9  # discard
WAIT_S, POLL_S = 0.6, 0.05
SMALL = 64
#: Linux answers one address six times in a row, and then once a second (net/ipv4/icmp.c, icmp_ratelimit). A
#: packet that is alone on its way for longer than this is answered unless it is lost.
RATE_LIMIT_S = 1.1
HEADERS = {socket.AF_INET: 28, socket.AF_INET6: 48}  # of IP and UDP
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3


class Path:
    """One pair of addresses and the size of a packet that fills the device's MTU."""

    def __init__(self, source: str, device: str, destination: str, size: int) -> None:
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        self.size = size
        self.headers = HEADERS[family]
        self.sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        level, option = (
            (socket.IPPROTO_IP, IP_MTU_DISCOVER)
            if family == socket.AF_INET
            else (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER)
        )
        try:
            self.sock.setsockopt(level, option, PMTUDISC_PROBE)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            self.sock.bind((source, 0))
            self.sock.connect((destination, CLOSED_PORT))
        except OSError:
            self.sock.close()
            raise

    def send(self, size: int) -> None:
        """Send a packet of this size, headers included."""
        with contextlib.suppress(OSError):
            self.sock.send(bytes(size - self.headers))

    def is_answered_within(self, seconds: float) -> bool:
        """Wait for an answer, at most so many seconds, and return whether one came."""
        return bool(select.select([self.sock], [], [], seconds)[0]) and self.is_answered()

    def is_answered(self) -> bool:
        """Return whether an ICMP error has come: the packet arrived, or a router refused it aloud."""
        try:
            self.sock.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True


def find_swallowed(paths: list[list[str]]) -> list[bool]:
    """Return, for each [source, device, destination, size], whether the path swallows packets of that size.

    A path that does not answer small packets either is not known to do so: its host may drop all datagrams.
    """
    found: list[Path | None] = []
    try:
        for source, device, destination, size in paths:
            try:
                found.append(Path(source, device, destination, int(size)))
            except OSError:
                found.append(None)
        asked = [each for each in found if each is not None]
        heard = await_answers(asked, [SMALL] * len(asked))
        good = [path for path, answered in zip(asked, heard) if answered]
        filled = zip(good, await_answers(good, [path.size for path in good]))
        suspects = [path for path, answered in filled if not answered]
        swallowing = [path for path in suspects if swallows(path)]
        return [each in swallowing for each in found]
    finally:
        for each in found:
            if each is not None:
                each.sock.close()


def swallows(path: Path) -> bool:
    """Return whether large packets get no answer where small ones do, each sent alone.

    Answers of many packets at once are limited by the host that sends them, and a busy host answers late.
    """
    for _ in range(2):
        if path.is_answered_within(RATE_LIMIT_S):
            return False
        path.send(path.size)
        if path.is_answered_within(patient(WAIT_S)):
            return False
    path.send(SMALL)
    return path.is_answered_within(patient(WAIT_S))


def await_answers(paths: list[Path], sizes: list[int]) -> list[bool]:
    """Send a packet on each path, again after half of the time, and return which were answered."""
    answered = [False] * len(paths)
    for _ in range(2):
        waiting = {path.sock: number for number, path in enumerate(paths) if not answered[number]}
        for number in waiting.values():
            paths[number].send(sizes[number])
        end = time.monotonic() + patient(WAIT_S) / 2
        while waiting and (left := end - time.monotonic()) > 0:
            for sock in select.select(list(waiting), [], [], min(left, POLL_S))[0]:
                number = waiting.pop(sock)
                answered[number] = paths[number].is_answered()
    return answered
