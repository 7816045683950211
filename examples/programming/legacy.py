#!/usr/bin/env python3
"""Per-socket options of the out-of-tree kernels (multipath-tcp.org, v0.9x): python3 legacy.py

There an ordinary TCP socket speaks MPTCP, and these options of level IPPROTO_TCP choose per socket. Upstream
kernels give 43 another meaning (TCP_IS_MPTCP), so look for the sysctl first and never go by the version.
"""

import socket
import sys
from pathlib import Path

MPTCP_ENABLED, MPTCP_SCHEDULER, MPTCP_PATH_MANAGER = 42, 43, 44  # MPTCP_ENABLED is 26 in v0.89 to v0.91

if not Path("/proc/sys/net/mptcp/mptcp_enabled").exists():
    sys.exit("this kernel is not one of multipath-tcp.org's: open a socket of protocol 262, see client.py")

with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
    sock.setsockopt(socket.IPPROTO_TCP, MPTCP_ENABLED, 1)
    sock.setsockopt(socket.IPPROTO_TCP, MPTCP_SCHEDULER, b"default")
    sock.setsockopt(socket.IPPROTO_TCP, MPTCP_PATH_MANAGER, b"fullmesh")
    print(sock.getsockopt(socket.IPPROTO_TCP, MPTCP_PATH_MANAGER, 16).rstrip(b"\0").decode())
