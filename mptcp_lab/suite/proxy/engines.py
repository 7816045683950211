"""What a proxy engine says of itself: how many connections it had, what CPU time it took; and its reload."""

from __future__ import annotations

import csv
import io
import re

from mptcp_lab.errors import Inconclusive
from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.traffic import Front

#: Writes "show stat" to the statistics socket and prints the answer: a CSV table.
SHOW_STAT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as stats:
    stats.connect("/run/haproxy/admin.sock")
    stats.sendall(b"show stat\\n")
    sys.stdout.write(stats.makefile().read())
"""
#: The version in what `haproxy -v` and `nginx -v` print.
VERSION = re.compile(r"(?:version |nginx/)(\d[^\s-]*)")
PROXIES = ("haproxy", "nginx")
NGINX_LOG = "/var/log/nginx/stream.log"


def versions(machine: Machine) -> dict[str, str]:
    """Return the version of each proxy engine of a machine: of the program that runs, not of a package."""
    found = {}
    for engine in sorted({service.engine for service in machine.host.services} & set(PROXIES)):
        main = machine.probe.run(
            ["systemctl", "show", "--property=MainPID", "--value", engine]
        ).stdout.strip()
        # By the shell, which says that there is no such program where the engine is down: no version then.
        said = machine.probe.run(["sh", "-c", f"exec /proc/{main}/exe -v"])
        if version := VERSION.search(said.stdout + said.stderr):
            found[engine] = version[1]
    return found


def sessions(front: Front) -> int:
    """Return how many connections a listener has had: haproxy's statistics, nginx's log of the ended ones."""
    return _haproxy_sessions(front) if front.service.engine == "haproxy" else _nginx_sessions(front)


def _haproxy_sessions(front: Front) -> int:
    table = _output(front.machine, ["python3", "-c", SHOW_STAT]).removeprefix("# ")
    found = [
        int(row["stot"])
        for row in csv.DictReader(io.StringIO(table))
        if (row["pxname"], row["svname"]) == (front.service.name, "FRONTEND")
    ]
    if not found:
        raise Inconclusive(front.machine.name, f"haproxy's statistics have no listener {front.service.name}")
    return found[0]


def _nginx_sessions(front: Front) -> int:
    pattern = f"^[^ ]* [^ ]* [^ ]*:{front.port} "
    counted = front.machine.probe.run(["grep", "-c", pattern, NGINX_LOG])  # 1: not one line
    return int(counted.stdout or 0)


def reload(front: Front) -> None:
    """Have the engine read its configuration again, as an administrator would."""
    front.machine.handled.add(front.service.engine)
    _output(front.machine, ["systemctl", "reload", front.service.engine])


def restart(front: Front) -> None:
    """Have the engine end and start again; returns when it is up."""
    front.machine.handled.add(front.service.engine)
    _output(front.machine, ["systemctl", "restart", front.service.engine])


def cpu_seconds(front: Front) -> float:
    """Return the CPU time that the engine's unit has used since it started."""
    shown = ["systemctl", "show", "--property=CPUUsageNSec", "--value", front.service.engine]
    used = _output(front.machine, shown)
    if not used.isdecimal():
        raise Inconclusive(front.machine.name, f"{' '.join(shown)} printed {used!r}, not a time")
    return int(used) / 1e9


def _output(machine: Machine, command: list[str]) -> str:
    done = machine.probe.run(command, timeout=20.0)
    if done.returncode != 0:
        raise Inconclusive(machine.name, f"{' '.join(command[:3])}: {done.stderr.strip()}", "see its journal")
    return done.stdout.strip()


def workers(front: Front) -> set[int]:
    """Return the process ids of the engine's workers: its main process' children."""
    main = _output(
        front.machine, ["systemctl", "show", "--property=MainPID", "--value", front.service.engine]
    )
    return {int(pid) for pid in _output(front.machine, ["pgrep", "-P", main]).split()}
