"""A program was meant to have MPTCP by a wrapper, a drop-in or its configuration, and does not have it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import Leg, PairReading
from mptcp_lab.doctor.rules._common import keep_command, keep_enabled, legs_with_server
from mptcp_lab.doctor.rules._wrapper import preload, write_drop_in
from mptcp_lab.doctor.rules.listeners import own_listeners, process_of
from mptcp_lab.doctor.service_reading import Process, Unit
from mptcp_lab.doctor.unreadable import read_or

#: What a unit's text has where the unit preloads a wrapper.
WRAPPER = re.compile(r"mptcpwrap|mptcpize|LD_PRELOAD=\S*mptcp", re.IGNORECASE)
VENDOR = ("/lib/", "/usr/lib/")
SOCKET_PROTOCOL_SINCE = 257
#: Options that programs in Go set, and that no Linux so far takes on an MPTCP socket.
OPTIONS_OF_GO = ("TCP_USER_TIMEOUT", "TCP_MD5SIG", "TCP_REPAIR", "TCP_ULP")


def _services(reading: PairReading) -> Iterator[tuple[Leg, HostReading, Process, Unit | None, bool]]:
    """Yield each server's service of the port, its unit, and whether it listens with MPTCP."""
    for leg, server in legs_with_server(reading):
        for pid, listeners in _by_process(server, leg.port).items():
            process = server.process(pid)
            if process is not None:
                unit = server.unit(process.unit) if process.unit else None
                yield leg, server, process, unit, "mptcp" in listeners


def _by_process(host: HostReading, port: int) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for each in own_listeners(host, port):
        found.setdefault(process_of(host, each).pid, set()).add(each.protocol)
    return found


def _texts(unit: Unit) -> str:
    return "\n".join((*unit.files.values(), unit.environment, unit.exec_start))


def find_unloaded_wrapper(reading: PairReading) -> Iterable[Finding]:
    """Find services whose unit preloads the wrapper, and whose process has not loaded it."""
    for _, server, process, unit, is_mptcp in _services(reading):
        if unit is None or is_mptcp or not WRAPPER.search(_texts(unit)) or read_or(process.wrappers, ("?",)):
            continue
        if process.is_static or process.go_version or unit.needs_reload:
            continue
        when = "before its unit changed" if unit.changed > process.started > 0 else "without the library"
        yield Finding(
            rule="wrapper-not-loaded",
            severity=Severity.ERROR,
            host=server.name,
            what=f"{process.name} on {server.name} runs without the MPTCP wrapper that its unit asks for.",
            why="It was started " + when + ", so it opens plain TCP sockets.",
            fix=f"systemctl daemon-reload && systemctl restart {unit.name}",
            persistent=keep_enabled(unit.name),
            evidence=(f"/proc/{process.pid}/maps has no libmptcpwrap", f"{unit.name} names the wrapper"),
        )


def find_wrapper_without_effect(reading: PairReading) -> Iterable[Finding]:
    """Find services that no preloaded library can change: static programs, and those written in Go."""
    for _, server, process, unit, is_mptcp in _services(reading):
        preloaded = "mptcp" in read_or(process.environment, {}).get("LD_PRELOAD", "")
        is_meant = preloaded or (unit is not None and WRAPPER.search(_texts(unit)) is not None)
        if is_mptcp or not is_meant or not (process.is_static or process.go_version):
            continue
        kind = f"a program in Go ({process.go_version})" if process.go_version else "a static program"
        drop_in = f"/etc/systemd/system/{process.unit or 'SERVICE'}.d"
        line = "[Service]\\nEnvironment=GODEBUG=multipathtcp=1\\n"
        go = f"mkdir -p {drop_in} && printf '{line}' > {drop_in}/mptcp.conf && systemctl daemon-reload"
        by_name = f"mptcpify -t {process.name or 'PROGRAM'}"
        yield Finding(
            rule="wrapper-without-effect",
            severity=Severity.ERROR,
            host=server.name,
            what=f"The MPTCP wrapper has no effect on {process.name} of {server.name}, which is {kind}.",
            why="The wrapper replaces a function of the C library, which such a program does not call.",
            fix=f"{go} && systemctl restart {process.unit}" if process.go_version else by_name,
            persistent=keep_enabled(process.unit or "SERVICE")
            if process.go_version
            else keep_command("mptcpify", by_name, kind="simple"),
            evidence=(f"{process.program or process.name} is {kind}",),
        )


def find_lost_wrapper(reading: PairReading) -> Iterable[Finding]:
    """Find wrapped services that lose the wrapper at a restart, and those that have lost it."""
    for _, server, process, unit, is_mptcp in _services(reading):
        if unit is None or WRAPPER.search(_texts(unit)):
            continue
        has_wrapper = any("mptcp" in each for each in read_or(process.wrappers, ()))
        was_upgraded = "mptcpize" in server.tools and not is_mptcp and unit.changed > 0
        was_upgraded &= unit.fragment.startswith(VENDOR) and not unit.drop_ins
        was_upgraded &= process.is_replaced or unit.changed > process.started > 0
        if not has_wrapper and not was_upgraded:
            continue
        state = (
            "runs with the MPTCP wrapper, and its unit no longer asks for it"
            if has_wrapper
            else ("has no MPTCP wrapper since its package was upgraded")
        )
        yield Finding(
            rule="wrapper-lost",
            severity=Severity.WARNING if has_wrapper else Severity.ERROR,
            host=server.name,
            what=f"{process.name} on {server.name} {state}.",
            why="`mptcpize enable` edits the package's unit, and an upgrade replaces that file.",
            fix=preload(server, unit.name) + ("" if has_wrapper else f" && systemctl restart {unit.name}"),
            persistent=keep_enabled(unit.name),
            confidence=Confidence.CERTAIN if has_wrapper else Confidence.POSSIBLE,
            evidence=(f"{unit.name}: {unit.fragment or 'no file'} does not name the wrapper",),
        )


def find_edited_unit(reading: PairReading) -> Iterable[Finding]:
    """Find wrappers that are set in a unit file of a package, which its next upgrade replaces."""
    for _, server, process, unit, is_mptcp in _services(reading):
        text = unit.files.get(unit.fragment, "") if unit is not None else ""
        if unit is None or not is_mptcp or not unit.fragment.startswith(VENDOR) or not WRAPPER.search(text):
            continue
        override = f"/etc/systemd/system/{unit.name}"
        yield Finding(
            rule="wrapper-in-vendor-unit",
            severity=Severity.NOTE,
            host=server.name,
            what=f"The wrapper of {process.name} is set in {unit.fragment}, a file of a package.",
            why="The next upgrade of the package replaces the file, and the service is plain TCP again.",
            fix=f"cp {unit.fragment} {override} && systemctl daemon-reload",
            persistent=keep_enabled(unit.name),
            evidence=(f"{unit.fragment} names the wrapper",),
        )


def find_not_reloaded(reading: PairReading) -> Iterable[Finding]:
    """Find units of plain TCP services with a change that systemd has not read, as one that sets MPTCP."""
    for _, server, process, unit, is_mptcp in _services(reading):
        if unit is None or is_mptcp or not unit.needs_reload:
            continue
        is_named = bool(WRAPPER.search(_texts(unit))) or "multipathtcp=1" in _texts(unit)
        yield Finding(
            rule="unit-not-reloaded",
            severity=Severity.ERROR,
            host=server.name,
            what=f"systemd on {server.name} has not read a change of {unit.name}.",
            why=f"{process.name} runs with the old settings, also after a restart, and listens with TCP.",
            fix=f"systemctl daemon-reload && systemctl restart {unit.name}",
            persistent=keep_enabled(unit.name),
            confidence=Confidence.CERTAIN if is_named else Confidence.POSSIBLE,
            evidence=("NeedDaemonReload=yes",),
        )


def find_socket_unit(reading: PairReading) -> Iterable[Finding]:
    """Find services that systemd opens the socket for, without MPTCP or by a systemd that cannot."""
    for _, server, _, unit, is_mptcp in _services(reading):
        if unit is None or is_mptcp or not unit.triggered_by.endswith(".socket"):
            continue
        found = re.search(r"\d+", server.tools.get("systemd", "") or server.tools.get("systemctl", ""))
        version = int(found[0]) if found else 0
        drop_in = f"/etc/systemd/system/{unit.triggered_by}.d"
        write = f"printf '[Socket]\\nSocketProtocol=mptcp\\n' > {drop_in}/mptcp.conf"
        is_old = 0 < version < SOCKET_PROTOCOL_SINCE
        yield Finding(
            rule="socket-unit-without-mptcp",
            severity=Severity.ERROR,
            host=server.name,
            what=f"systemd on {server.name} opens the socket of {unit.name} with plain TCP.",
            why=f"Its version {version} has no SocketProtocol=mptcp, which came with {SOCKET_PROTOCOL_SINCE}."
            if is_old
            else "A wrapper of the service has no effect on a socket that systemd opens.",
            fix=f"mkdir -p {drop_in} && {write} && systemctl daemon-reload && systemctl restart "
            f"{unit.triggered_by}",
            persistent=keep_enabled(unit.triggered_by),
            evidence=(f"{unit.triggered_by}: SocketProtocol={unit.socket_protocol or 'not set'}",),
        )


def find_go_options(reading: PairReading) -> Iterable[Finding]:
    """Find programs in Go that listen with MPTCP by default, on kernels that refuse their options."""
    for _, server, process, unit, is_mptcp in _services(reading):
        asked = read_or(process.environment, {}).get("GODEBUG", "") + (_texts(unit) if unit else "")
        refused = [name for name in OPTIONS_OF_GO if name in server.refused_options]
        if not is_mptcp or not process.go_version or "multipathtcp" in asked or not refused:
            continue
        yield Finding(
            rule="go-default-and-options",
            severity=Severity.NOTE,
            host=server.name,
            what=f"{process.name} on {server.name} has MPTCP because Go {process.go_version[2:]} "
            "listens with it.",
            why=f"A program that sets {', '.join(refused)} fails on such a socket. Set 0 only if it does.",
            fix=write_drop_in(process.unit or "SERVICE.service", "GODEBUG=multipathtcp=0")
            + f" && systemctl restart {process.unit or 'SERVICE'}",
            persistent=keep_enabled(process.unit or "SERVICE"),
            confidence=Confidence.POSSIBLE,
            evidence=tuple(f"setsockopt {name}: {server.refused_options[name]}" for name in refused),
        )


RULES = (
    Rule(
        "wrapper-not-loaded",
        "the unit names the wrapper, and `/proc/PID/maps` lacks `libmptcpwrap`",
        find_unloaded_wrapper,
        "`systemctl restart` the service",
    ),
    Rule(
        "wrapper-without-effect",
        "the wrapper is set for a static program or one in Go",
        find_wrapper_without_effect,
        "`GODEBUG=multipathtcp=1` for Go, the program's own option, or `mptcpify`",
    ),
    Rule(
        "wrapper-lost",
        "a wrapped service whose unit no longer names the wrapper: its package was upgraded",
        find_lost_wrapper,
        "a drop-in instead of `mptcpize enable`",
    ),
    Rule(
        "wrapper-in-vendor-unit",
        "the wrapper is named in a unit file below `/lib` or `/usr/lib`",
        find_edited_unit,
        "a drop-in instead of `mptcpize enable`",
    ),
    Rule(
        "unit-not-reloaded",
        "the unit of a service with plain TCP has `NeedDaemonReload=yes`",
        find_not_reloaded,
        "`systemctl daemon-reload`, and restart the service",
    ),
    Rule(
        "socket-unit-without-mptcp",
        "systemd opens the service's socket, without `SocketProtocol=mptcp` or older than 257",
        find_socket_unit,
        "`SocketProtocol=mptcp` in the socket unit",
    ),
    Rule(
        "go-default-and-options",
        "a program in Go (1.24 on) listens with MPTCP by default, and the kernel refuses options "
        "that it may set",
        find_go_options,
        "`GODEBUG=multipathtcp=0` if the program fails at that option",
    ),
)
