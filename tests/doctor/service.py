"""Listen on a port in a way that a rule of the doctor is about: `python3 service.py MODE PORT [ADDRESS]`.

mptcp: as it should be. tcp: with plain TCP. ipv4: on IPv4 only. single: on ADDRESS only. close: close the
listener after the first connection. stuck: accept nothing, with a full queue. Runs with Python 3.9 on a host.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading

IPPROTO_MPTCP = 262


def open_listener(mode: str, port: int, address: str) -> socket.socket:
    """Open the listening socket of a mode."""
    is_ipv4 = mode in ("ipv4", "single")
    family = socket.AF_INET if is_ipv4 else socket.AF_INET6
    listener = socket.socket(family, socket.SOCK_STREAM, 0 if mode == "tcp" else IPPROTO_MPTCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address if mode == "single" else "0.0.0.0" if is_ipv4 else "::", port))
    listener.listen(0 if mode == "stuck" else 128)
    return listener


def drain(connection: socket.socket) -> None:
    """Read a connection to its end."""
    try:
        while connection.recv(65536):
            pass
    except OSError:
        pass
    connection.close()


def main() -> None:
    """Serve until the process is killed."""
    mode, port = sys.argv[1], int(sys.argv[2])
    listener = open_listener(mode, port, sys.argv[3] if len(sys.argv) > 3 else "")
    if mode == "stuck":
        clients = []
        for _ in range(3):
            clients.append(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
            clients[-1].setblocking(False)
            clients[-1].connect_ex(("::1", port))
        signal.pause()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=drain, args=(connection,), daemon=True).start()
        if mode == "close":
            listener.close()
            signal.pause()


if __name__ == "__main__":
    main()
