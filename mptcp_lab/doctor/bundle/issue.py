"""Write the text to paste into an issue: the findings, the kernels, and the readings that matter. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mptcp_lab.doctor.bundle.texts import counters_text, endpoints_text, limits_text
from mptcp_lab.doctor.connection_reading import ConnectionReading
from mptcp_lab.doctor.finding import Finding
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.unreadable import Unreadable

#: Sysctls whose names begin so are in the text; all others are in the bundle's files.
SHOWN_SYSCTLS = ("net.mptcp.",)


def issue_text(reading: PairReading, findings: Sequence[Finding], version: str) -> str:
    """Return the text in Markdown."""
    roles = {id(reading.client): "client", id(reading.proxy): "proxy", id(reading.server): "server"}
    lines = ["## What happens", "", "(Please say in your words what you did and what you expected.)", ""]
    lines += ["## What the doctor found", "", *_findings(findings), ""]
    for leg in reading.legs:
        if leg.connection is not None:
            other = leg.server.name if leg.server else leg.connection.server_address
            lines += [f"## A connection from {leg.client.name} to {other}, port {leg.port}", ""]
            lines += [*_connection(leg.connection), ""]
    for host in reading.hosts:
        lines += [f"## {host.name} ({roles[id(host)]})", "", *_host(host), ""]
    lines.append(f"Read by mptcp-lab {version}. The bundle is attached.")
    return "\n".join(lines) + "\n"


def _findings(findings: Iterable[Finding]) -> Iterator[str]:
    shown = False
    for finding in findings:
        shown = True
        yield f"- {finding.severity.value} on {finding.host}: {finding.what} {finding.why}"
        yield from (f"  - {evidence}" for evidence in finding.evidence)
        yield from (f"  - follows from it: {each.what}" for each in finding.folded)
    if not shown:
        yield "Nothing."


def _connection(connection: ConnectionReading) -> Iterator[str]:
    for attempt in connection.attempts:
        source = attempt.source or "any address"
        ended = attempt.error or {True: "MPTCP", False: "plain TCP", None: "connected"}[attempt.is_mptcp]
        yield f"- {attempt.protocol} from {source} to {attempt.destination}: {ended}"
    yield f"- subflows: {connection.subflows} of {connection.expected}"
    for pair in connection.pairs:
        yield f"  - {pair.client} > {pair.server}: {pair.state}" + (f" ({pair.why})" if pair.why else "")
    for side, moved in (("client", connection.client_counters), ("server", connection.server_counters)):
        mptcp = {group: values for group, values in moved.items() if group == "MPTcpExt"}
        yield from _block(f"counters that moved at the {side}", counters_text(mptcp))


def _host(host: HostReading) -> Iterator[str]:
    yield f"- kernel {host.kernel} {host.machine}, {host.os}"
    config = {} if isinstance(host.config, Unreadable) else host.config
    options = [f"{name}={value}" for name, value in sorted(config.items()) if name.startswith("CONFIG_MPTCP")]
    yield f"- {', '.join(options) or 'build options not read'}"
    sysctls = [name for name in sorted(host.sysctls) if name.startswith(SHOWN_SYSCTLS)]
    yield from _block("sysctls", "".join(f"{name} = {host.sysctls[name]}\n" for name in sysctls))
    yield from _block("endpoints and limits", f"{limits_text(host)}\n{endpoints_text(host)}")


def _block(title: str, text: str) -> Iterator[str]:
    if text:
        yield from (f"- {title}:", "", "```", text.rstrip("\n"), "```")
