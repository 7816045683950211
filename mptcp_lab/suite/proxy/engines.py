"""Read a proxy engine's own figures (version, connections, CPU time), and reload or restart it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping

from mptcp_lab.errors import Breach, Inconclusive
from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.traffic import Target

#: Writes "show stat" to the statistics socket and prints the answer: a CSV table.
SHOW_STAT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as stats:
    stats.connect("/run/haproxy/admin.sock")
    stats.sendall(b"show stat\\n")
    sys.stdout.write(stats.makefile().read())
"""
NGINX_LOG = "/var/log/nginx/stream.log"
#: MainPID of a unit that has no main process, as while it is started again.
NO_PROCESS = ("", "0")


def versions(machine: Machine) -> dict[str, str]:
    """Return the version of each proxy engine of a machine, from the running program, not from a package."""
    found = {}
    for engine in sorted({service.engine for service in machine.host.services} & set(PROXIES)):
        unit = PROXIES[engine].unit
        main = machine.probe.run(["systemctl", "show", "--property=MainPID", "--value", unit]).stdout.strip()
        # The shell runs it, since it reports a missing program where the engine is down; then there is no
        # version.
        options = " ".join(PROXIES[engine].program.version_command[1:])
        said = machine.probe.run(["sh", "-c", f"exec /proc/{main}/exe {options}"])
        if version := PROXIES[engine].program.version(said.stdout + said.stderr):
            found[engine] = version
    return found


def sessions(target: Target) -> int:
    """Return how many connections a listener has had, as its engine counts them (`SESSIONS`)."""
    return SESSIONS[target.service.engine](target)


def _haproxy_sessions(target: Target) -> int:
    table = _output(target.machine, ["python3", "-c", SHOW_STAT]).removeprefix("# ")
    found = [
        int(row["stot"])
        for row in csv.DictReader(io.StringIO(table))
        if (row["pxname"], row["svname"]) == (target.service.name, "FRONTEND")
    ]
    if not found:
        raise Inconclusive(
            target.machine.name, f"haproxy's statistics have no listener {target.service.name}"
        )
    return found[0]


def _nginx_sessions(target: Target) -> int:
    pattern = f"^[^ ]* [^ ]* [^ ]*:{target.port} "
    counted = target.machine.probe.run(["grep", "-c", pattern, NGINX_LOG])  # exit status 1: no line matches
    return int(counted.stdout or 0)


#: By engine, how many connections a listener has had. haproxy's statistics show this; nginx's log has only
#: connections that have ended.
SESSIONS: Mapping[str, Callable[[Target], int]] = {"haproxy": _haproxy_sessions, "nginx": _nginx_sessions}


def reload(target: Target) -> None:
    """Reload the engine's configuration, as an administrator would; raise `Breach` if that fails."""
    _order(target, "reload")


def restart(target: Target) -> None:
    """Restart the engine; return when it is running again. Raise `Breach` if that fails."""
    _order(target, "restart")


def _order(target: Target, verb: str) -> None:
    """Let systemd reload or restart the engine's unit: a unit that cannot is what the check is about."""
    machine, unit = target.machine, _unit(target)
    machine.handled.add(target.service.engine)
    done = machine.probe.run(["systemctl", verb, unit], timeout=20.0)
    if done.returncode != 0:
        what = f"systemctl {verb} {unit} failed: {done.stderr.strip()}"
        raise Breach(what, machine.name, f"journalctl -u {unit} on {machine.name}")


def cpu_seconds(target: Target) -> float:
    """Return the CPU time in seconds that the engine's unit has used since it started."""
    shown = ["systemctl", "show", "--property=CPUUsageNSec", "--value", _unit(target)]
    used = _output(target.machine, shown)
    if not used.isdecimal():
        raise Inconclusive(target.machine.name, f"{' '.join(shown)} printed {used!r}, not a time")
    return int(used) / 1e9


def _unit(target: Target) -> str:
    return PROXIES[target.service.engine].unit


def _output(machine: Machine, command: list[str]) -> str:
    done = machine.probe.run(command, timeout=20.0)
    if done.returncode != 0:
        raise Inconclusive(machine.name, f"{' '.join(command[:3])}: {done.stderr.strip()}", "see its journal")
    return done.stdout.strip()


def workers(target: Target) -> set[int]:
    """Return the process ids of the engine's workers: the children of its main process, if it has one now."""
    main = _output(target.machine, ["systemctl", "show", "--property=MainPID", "--value", _unit(target)])
    if main in NO_PROCESS:
        return set()
    return {int(pid) for pid in target.machine.probe.run(["pgrep", "-P", main]).stdout.split()}
