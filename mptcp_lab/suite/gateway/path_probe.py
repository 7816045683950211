"""The way that packets take, hop by hop: what traceroute does. Runs on a host, with its Python alone.

``python3 path_probe.py SOURCE DESTINATION`` prints the IPv4 address that answers for each TTL, one a line,
until the destination itself does. Exits with 1 when a hop does not answer.
"""

import select
import socket
import struct
import sys

IP_RECVERR, MSG_ERRQUEUE = 11, 0x2000  # include/uapi/linux/in.h, socket.h
PORT = 33434  # where nobody listens: the destination answers "port unreachable"
EXTENDED_ERROR = 16  # sizeof(struct sock_extended_err); the sockaddr of who complained follows
TRIES, PATIENCE_MS, MOST_HOPS = 3, 1000, 16


def hop(source: str, destination: str, ttl: int) -> str:
    """Return who answers a packet that may pass `ttl` - 1 routers; empty when nobody does."""
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
    """Print the hops."""
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
