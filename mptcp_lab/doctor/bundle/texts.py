"""Write the readings of one host as the texts that kernel developers ask for in a report. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from mptcp_lab.doctor.connection_reading import ConnectionReading
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.unreadable import Unreadable
from mptcp_lab.probe.facts import Endpoint

CONFIG = re.compile(r"CONFIG_(?:MPTCP|TCP_|INET_|IPV6|NF_CONNTRACK|NETFILTER|SYN_COOKIES|NET_SCH).*")
Counters = Mapping[str, Mapping[str, int]]


def host_texts(host: HostReading) -> dict[str, str]:
    """Return the files about a host: file name to text."""
    return {
        "kernel.txt": kernel_text(host),
        "config.txt": _mapping_text(host.config, lambda name: CONFIG.fullmatch(name) is not None, "{}={}"),
        "sysctls.txt": _mapping_text(host.sysctls),
        "endpoints.txt": f"{limits_text(host)}\n{endpoints_text(host)}",
        "network.txt": _network_text(host),
        "ss.txt": _part(host.sockets),
        "listeners.txt": _part(host.listeners),
        "firewall.txt": f"# nft list ruleset\n{_part(host.nft)}\n# iptables-save\n{_part(host.iptables)}",
        "log.txt": _part(host.log),
        "counters-before.txt": counters_text(host.counters),
    }


def connection_texts(host: HostReading, connection: ConnectionReading, is_client: bool) -> dict[str, str]:
    """Return the files about a host's end of the doctor's connection: file name to text."""
    moved = connection.client_counters if is_client else connection.server_counters
    events = connection.client_events if is_client else connection.server_events
    return {
        "counters-after.txt": counters_text(add_counters(host.counters, moved)),
        "counters-moved.txt": counters_text(moved),
        "events.jsonl": _part(events),
    }


def kernel_text(host: HostReading) -> str:
    """Return what runs on a host: kernel, system, tools."""
    lines = [
        f"kernel: {host.kernel} {host.kernel_version} {host.machine}",
        f"system: {host.os}",
        f"up for: {host.uptime:.0f} s",
        f"MPTCP sockets: {host.mptcp_socket or 'the kernel opens them'}",
        f"read as: {'root' if host.uid == 0 else f'user {host.uid}'}",
        *(f"{name}: {version}" for name, version in sorted(host.tools.items())),
        *(f"not read: {name} ({why})" for name, why in host.unreadable().items()),
    ]
    return "\n".join(lines) + "\n"


def limits_text(host: HostReading) -> str:
    """Return a host's limits as ``ip mptcp limits`` prints them."""
    if isinstance(host.limits, Unreadable):
        return f"limits not read: {host.limits.why}"
    return f"add_addr_accepted {host.limits.add_addr_accepted} subflows {host.limits.subflows}"


def endpoints_text(host: HostReading) -> str:
    """Return a host's endpoints as ``ip mptcp endpoint`` prints them."""
    if isinstance(host.endpoints, Unreadable):
        return f"endpoints not read: {host.endpoints.why}\n"
    return "".join(f"{_endpoint_text(each)}\n" for each in host.endpoints) or "no endpoints\n"


def _endpoint_text(endpoint: Endpoint) -> str:
    port = f" port {endpoint.port}" if endpoint.port else ""
    device = f" dev {endpoint.device}" if endpoint.device else ""
    return f"{endpoint.address}{port} id {endpoint.id} {' '.join(sorted(endpoint.flags))}{device}"


def counters_text(counters: Counters) -> str:
    """Return counters other than zero, one in a line."""
    lines = [
        f"{group}.{name} {value}\n"
        for group, values in sorted(counters.items())
        for name, value in sorted(values.items())
        if value
    ]
    return "".join(lines)


def add_counters(before: Counters, moved: Counters) -> dict[str, dict[str, int]]:
    """Return the counters after a connection from those before it and how much each moved."""
    after = {group: dict(values) for group, values in before.items()}
    for group, values in moved.items():
        for name, value in values.items():
            after.setdefault(group, {})[name] = after.get(group, {}).get(name, 0) + value
    return after


def _network_text(host: HostReading) -> str:
    parts = ("addresses", "links", "routes", "rules", "neighbours", "qdiscs")
    return "\n".join(f"# {name}\n{_part(getattr(host, name))}" for name in parts)


def _mapping_text(value: object, wanted: object = None, form: str = "{} = {}") -> str:
    if isinstance(value, Unreadable) or not isinstance(value, Mapping):
        return _part(value)
    names = sorted(name for name in value if not callable(wanted) or wanted(name))
    return "".join(form.format(name, value[name]) + "\n" for name in names)


def _part(value: object) -> str:
    """Return a reading as text: one line for each entry, or the reason why it was not read."""
    if isinstance(value, Unreadable):
        return f"not read: {value.why}\n"
    if isinstance(value, str):
        return value if value.endswith("\n") or not value else f"{value}\n"
    if isinstance(value, Iterable):
        return "".join(f"{_line(each)}\n" for each in value)
    return f"{value}\n"


def _line(entry: object) -> str:
    if isinstance(entry, str):
        return entry
    fields = entry if isinstance(entry, Mapping) else vars(entry)
    plain = {key: sorted(each) if isinstance(each, frozenset) else each for key, each in fields.items()}
    shown = {key: each for key, each in plain.items() if each not in ("", [], 0, None)}
    return json.dumps(shown, default=str, ensure_ascii=False)
