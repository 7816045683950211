"""Find the way that packets take, hop by hop, as traceroute does. It runs on a host and needs only Python.

``python3 path_probe.py SOURCE DESTINATION`` prints the IPv4 address that answers for each TTL, one per line,
until the destination itself answers. It exits with 1 if a hop does not answer.
"""

import select
import socket
import struct
import sys

IP_RECVERR, MSG_ERRQUEUE = 11, 0x2000  # include/uapi/linux/in.h, socket.h
PORT = 33434  # no program listens there: the destination answers "port unreachable"
EXTENDED_ERROR = 16  # sizeof(struct sock_extended_err); the sockaddr of the answering host follows
TRIES, PATIENCE_MS, MOST_HOPS = 3, 1000, 16


def hop(source: str, destination: str, ttl: int) -> str:
    """Return the address that answers a packet which may pass `ttl` - 1 routers; empty if nobody answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        poll = select.poll()
        poll.register(sock, 0)  # POLLERR is always reported
        for _ in range(TRIES):
            sock.sendto(b"", (destination, PORT))
            if poll.poll(PATIENCE_MS):
                _, ancillary, _, _ = sock.recvmsg(1, 512, MSG_ERRQUEUE)
                return socket.inet_ntoa(struct.unpack_from("4s", ancillary[0][2], EXTENDED_ERROR + 4)[0])
    return ""


def main(source: str, destination: str) -> int:
    """Print the address of each hop; return the exit status."""
    for ttl in range(1, MOST_HOPS):
        answered = hop(source, destination, ttl)
        if not answered:
            print(f"nobody answers at hop {ttl} from {source} to {destination}", file=sys.stderr)
            return 1
        print(answered)
        if answered == destination:
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
