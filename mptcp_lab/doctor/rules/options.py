"""A service's configuration sets a socket option that an MPTCP socket of this kernel refuses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mptcp_lab.doctor.finding import Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._common import keep_enabled, legs_with_server
from mptcp_lab.doctor.rules.listeners import own_listeners, process_of


class Word(NamedTuple):
    """A word of a configuration, as an extended regular expression with its value, and the option it sets."""

    pattern: str
    option: str


#: Words of lines that open a listener.
WORDS = (
    Word(r"tcp-ut +[^ ;]+", "TCP_USER_TIMEOUT"),
    Word(r"mss +[^ ;]+", "TCP_MAXSEG"),
    Word(r"tfo", "TCP_FASTOPEN"),
    Word(r"fastopen=[^ ;]+", "TCP_FASTOPEN"),
    Word(r"defer-accept", "TCP_DEFER_ACCEPT"),
    Word(r"deferred", "TCP_DEFER_ACCEPT"),
    Word(r"so_keepalive=[^ ;]+", "TCP_KEEPIDLE"),
    Word(r"tcp-md5sig +[^ ;]+", "TCP_MD5SIG"),
)
OPENS = re.compile(r"(?:bind|listen)\b")


def _find_refused(host: HostReading, port: int) -> Iterator[tuple[str, str, Word]]:
    """Yield file, line and word of each option that a listener of the port sets and the kernel refuses."""
    for each in host.configurations:
        for line in each.lines:
            if not OPENS.match(line) or not re.search(rf"(?<!\d){port}(?!\d)", line):
                continue
            for word in WORDS:
                if word.option in host.refused_options and re.search(rf" {word.pattern}(?=[ ;]|$)", line):
                    yield each.path, line, word


def find_refused_options(reading: PairReading) -> Iterable[Finding]:
    """Find MPTCP listeners whose configuration sets an option that only TCP sockets take."""
    for leg, server in legs_with_server(reading):
        found = [each for each in own_listeners(server, leg.port) if each.protocol == "mptcp"]
        for path, line, word in _find_refused(server, leg.port) if found else ():
            process = process_of(server, found[0])
            unit = process.unit or f"{process.name}.service"
            yield Finding(
                rule="option-refused",
                severity=Severity.WARNING,
                host=server.name,
                what=f"{process.name} on {server.name} sets {word.option} on port {leg.port}, which no MPTCP "
                "socket takes there.",
                why="The program goes on without the option, or does not start. A newer kernel may take it.",
                fix=f"sed -Ei '/\\b{leg.port}\\b/s/ +{word.pattern}//' {path} && systemctl restart {unit}",
                persistent=keep_enabled(unit),
                evidence=(
                    f"{path}: {line}",
                    f"setsockopt {word.option}: {server.refused_options[word.option]}",
                ),
            )


RULES = (
    Rule(
        "option-refused",
        "the listener's line sets an option (`tcp-ut`, `mss`, `tfo`, `fastopen`, `deferred`, ...) that the "
        "kernel refuses on MPTCP sockets",
        find_refused_options,
        "remove it, or run a kernel that takes it ([which](programming.md#which-kernel-has-what))",
    ),
)
