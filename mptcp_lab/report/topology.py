"""Draw the lab as SVG: segments are horizontal bars, and each host is connected to them by its NICs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from mptcp_lab.report import svg

LEFT = 84
#: Width of a host's column in pixels: seven hosts fit on the page.
COLUMN = 142
#: Characters of a line in a host's box.
LINE_CHARACTERS = 17
HOST_TOP = 8
LINE = 15
ROW = 64
GAP = 40
SINGULAR = {
    "clients": "client",
    "proxies": "proxy",
    "forwarders": "forwarder",
    "gateways": "gateway",
    "origins": "origin",
    "attackers": "attacker",
}


def topology(lab: Mapping[str, Any]) -> str:
    """Return the lab document of ``result.json`` as SVG."""
    hosts = lab["hosts"]
    segments = sorted(lab["segments"], key=lambda segment: segment["kind"] != "path")
    host_height = 44 + LINE * max((len(service_lines(host["services"])) for host in hosts), default=0)
    first_bar = HOST_TOP + host_height + GAP
    bars = {name: first_bar + ROW * number for number, name in enumerate(s["name"] for s in segments)}
    width = LEFT + COLUMN * len(hosts) + 8
    height = first_bar + ROW * len(segments) - 6
    paths = [segment["name"] for segment in segments if segment["kind"] == "path"]
    parts = [_segment(segment, bars[segment["name"]], width, paths) for segment in segments]
    for column, host in enumerate(hosts):
        parts.append(_host(host, LEFT + COLUMN * column, host_height, bars, paths))
    title = svg.tag("title", "Topology of the lab: segments, hosts, NICs and addresses")
    return svg.tag(
        "svg",
        title + "".join(parts),
        class_="topology",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
    )


def _segment(segment: Mapping[str, Any], y: float, width: float, paths: Sequence[str]) -> str:
    kind = svg.colour(segment["name"], list(paths))
    bar = svg.tag("rect", x=LEFT - 6, y=y - 4, width=width - LEFT, height=8, rx=4, class_=f"bar {kind}")
    return bar + svg.text(LEFT - 14, y + 4, segment["name"], f"segment {kind}", "end")


def _host(
    host: Mapping[str, Any], x: float, height: float, bars: Mapping[str, float], paths: Sequence[str]
) -> str:
    stem = x + 14
    bottom = HOST_TOP + height
    plugged = [nic for nic in host["nics"] if nic["segment"] in bars]
    parts = []
    if plugged:
        lowest = max(bars[nic["segment"]] for nic in plugged)
        parts.append(svg.tag("line", x1=stem, y1=bottom, x2=stem, y2=lowest, class_="stem"))
    parts += [_nic(nic, stem, bars[nic["segment"]], paths) for nic in plugged]
    box = "host" if host["mptcp"] else "host plain"
    box += " attacker" if "attackers" in host["functions"] else ""
    parts.append(svg.tag("rect", x=x, y=HOST_TOP, width=COLUMN - 12, height=height, rx=7, class_=box))
    parts.append(svg.text(x + 10, HOST_TOP + 19, host["name"], "name"))
    functions = ", ".join(SINGULAR.get(name, name) for name in host["functions"])
    speaks = "" if host["mptcp"] else " · TCP only"
    parts.append(svg.text(x + 10, HOST_TOP + 35, functions + speaks, "small"))
    for number, line in enumerate(service_lines(host["services"])):
        left = x + (18 if line.startswith(" ") else 10)
        parts.append(svg.text(left, HOST_TOP + 35 + LINE * (number + 1), line.strip(), "small mono"))
    return svg.tag("g", "".join(parts))


def service_lines(services: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines that list services: engine and method, such as "haproxy preload", then the ports."""
    ports: dict[str, list[int]] = {}
    for service in services:
        method = "TCP" if service["mptcp"] == "off" else service["mptcp"]
        ports.setdefault(f"{service['engine']} {method}", []).append(service["port"])
    lines = []
    for kind, numbers in ports.items():
        text = " ".join(_ranges(numbers))
        lines += [
            kind,
            *(f" {line}" for line in textwrap.wrap(text, LINE_CHARACTERS - 1, break_on_hyphens=False)),
        ]
    return lines


def _ranges(ports: Sequence[int]) -> list[str]:
    """Return ports in order, with three or more consecutive ones as "FIRST-LAST"."""
    runs: list[list[int]] = []
    for port in sorted(ports):
        if runs and port == runs[-1][-1] + 1:
            runs[-1].append(port)
        else:
            runs.append([port])
    return [text for run in runs for text in ([f"{run[0]}-{run[-1]}"] if len(run) > 2 else map(str, run))]


def _nic(nic: Mapping[str, Any], x: float, y: float, paths: Sequence[str]) -> str:
    kind = svg.colour(nic["segment"], list(paths))
    state = "" if nic["up"] else " down"
    label = nic["device"] + ("" if nic["up"] else " (down)") + (f" {nic['rate']}" if nic["rate"] else "")
    return (
        svg.tag("circle", cx=x, cy=y, r=6, class_=f"nic {kind}{state}")
        + svg.text(x + 11, y - 9, label, "small device")
        + svg.text(x + 11, y + 19, _bare(nic["ipv4"]), "small mono")
        + svg.text(x + 11, y + 33, _bare(nic["ipv6"]), "small mono")
    )


def _bare(interface: str | None) -> str:
    return (interface or "").partition("/")[0]
