"""Find what is broken on a host, so that checks there would mean nothing; one round trip per host.

The STATE claims check the same things, and more. `find_broken` is pure: it works on the text that `read`
fetches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mptcp_lab.errors import Inconclusive
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import RunResult
from mptcp_lab.suite.state.units import NETWORK, engine_of, parse_listeners, services_without_listener, units

#: The line after each part of the answer; it has the exit status of the part's command.
MARK = re.compile(r"^=mptcp-lab (\d+)=\n", re.MULTILINE)
FOLDERS = "/run /var /var/log /tmp"
LEAST_KB = 64
READ_WITHIN_SECONDS = 20.0
RUNNING = ("active", "reloading")


@dataclass(frozen=True)
class Cause:
    """Why checks on a host are inconclusive: ``what`` is broken, and ``next_step`` repairs it.

    ``claim`` is the STATE claim that finds it too. If ``engine`` is set, only the services of this engine are
    affected.
    """

    host: str
    what: str
    next_step: str
    claim: str = ""
    engine: str = ""

    @property
    def is_about_host(self) -> bool:
        """Return whether the cause affects every check on the host."""
        return bool(self.claim) and not self.engine

    def error(self) -> Inconclusive:
        """Return the error with which a check on this host ends."""
        why = f"{self.what}, {self.claim}" if self.claim else self.what
        return Inconclusive(self.host, why, self.next_step)


def read(machines: Iterable[Machine]) -> dict[str, list[Cause]]:
    """Read hosts in parallel; return the causes found on each broken host."""
    pending = [
        (machine, machine.probe.start("run", argv=["sh", "-c", _script(machine)], timeout=15.0, stdin=""))
        for machine in machines
    ]
    found = {}
    for machine, call in pending:
        done = RunResult(**call.result(READ_WITHIN_SECONDS))
        if causes := list(find_broken(machine, done.stdout)):
            found[machine.name] = causes
    return found


def find_broken(machine: Machine, printed: str) -> Iterator[Cause]:
    """Yield the causes on a host, the worst first, from what the script printed there."""
    parts = MARK.split(printed)
    answers = [text if status == "0" else None for text, status in zip(parts[::2], parts[1::2], strict=False)]
    enabled, states, mptcp, tcp, space = [*answers, None, None, None, None, None][:5]
    yield from _mptcp(machine, enabled)
    yield from _units(machine, states)
    if mptcp is not None and tcp is not None:
        listening = parse_listeners(mptcp), parse_listeners(tcp)
        missing = services_without_listener(machine.lab, machine.host, *listening)
        for service, what in missing.items():
            yield Cause(machine.name, f"no such listener: {what}", CONVERGE, "STATE-3", service.engine)
    for folder in _full(space or ""):
        command = f"on {machine.name}: df -h {folder}, then make room"
        yield Cause(machine.name, f"no space is left on {folder}", command)


CONVERGE = "ansible-playbook lab.yml"


def _script(machine: Machine) -> str:
    commands = (
        "cat /proc/sys/net/mptcp/enabled 2>/dev/null || echo absent",
        f"systemctl show --property=Id,ActiveState -- {' '.join(units(machine.host))}",
        "ss -HlnM",
        "ss -Hlnt",
        f"df -Pk {FOLDERS} 2>/dev/null || true",
    )
    return "; ".join(f"{{ {command}; }}; echo =mptcp-lab $?=" for command in commands)


def _mptcp(machine: Machine, enabled: str | None) -> Iterator[Cause]:
    if enabled is None:
        return
    value, wanted = enabled.strip(), "1" if machine.host.mptcp else "0"
    if value == "absent" and machine.host.mptcp:
        yield Cause(machine.name, "its kernel has no MPTCP", "boot another (docs/kernel.md)", "STATE-1")
    elif value not in ("absent", wanted):
        command = f"on {machine.name}: sysctl -w net.mptcp.enabled={wanted}"
        yield Cause(machine.name, f"net.mptcp.enabled is {value}", command, "STATE-1")


def _units(machine: Machine, states: str | None) -> Iterator[Cause]:
    if states is None:
        return
    found = dict(re.findall(r"^Id=(.+)\.service\nActiveState=(.+)$", states, re.MULTILINE))
    for unit in units(machine.host):
        state = found.get(unit, "")
        if state not in RUNNING:
            command = f"on {machine.name}: systemctl restart {unit} (journalctl -u {unit} says why it ended)"
            engine = "" if unit in NETWORK else engine_of(unit)
            yield Cause(machine.name, f"{unit} is {state or 'unknown'}", command, "STATE-2", engine)


def _full(space: str) -> Iterator[str]:
    """Yield each mount point without free space that holds one of the folders."""
    lines = [line.split(None, 5) for line in space.splitlines()[1:]]
    for words in {words[-1]: words for words in lines if len(words) == 6}.values():
        sizes = [int(word) for word in words[1:4] if word.isdecimal()]
        if len(sizes) == 3 and sizes[0] > LEAST_KB > sizes[2]:
            yield words[5]
