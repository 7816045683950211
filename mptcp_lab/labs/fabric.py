"""The lab's switch: one network namespace with a bridge per segment and a port per NIC.

A container's NIC is a veth whose peer is a port of the fabric: setting the port down pulls the cable, and the
host loses its carrier as on hardware. A virtual machine's NIC is a tap device, which is itself the port. The
machine's initial network namespace is not changed. The containers' namespaces are created before the
containers start, so that NICs survive a reboot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mptcp_lab.inventory.model import Lab
from mptcp_lab.labs.executor import LOCAL, Executor, executor_of
from mptcp_lab.labs.lab_paths import NETNS, LabPaths

#: Limits of a token bucket filter: a burst of a full GSO super-packet, and the latency of its queue.
TBF_BURST_BYTES = 65536
TBF_LATENCY = "50ms"


@dataclass(frozen=True)
class Cable:
    """One NIC's connection: host and device at one end, the fabric's port on a bridge at the other."""

    host: str
    device: str
    segment: str
    rate: str | None

    @property
    def port(self) -> str:
        """Return the name of the port in the fabric, readable if it fits the kernel's 15 characters."""
        name = f"{self.host}.{self.device}"
        return name if len(name) <= 15 else "p" + hashlib.sha256(name.encode()).hexdigest()[:12]

    @property
    def mac(self) -> str:
        """Return the NIC's MAC address: locally administered, and the same in every lab."""
        digest = hashlib.sha256(f"{self.host}.{self.device}".encode()).hexdigest()
        return "02:" + ":".join(digest[i : i + 2] for i in range(0, 10, 2))


def cables(lab: Lab) -> list[Cable]:
    """Return every cable of the lab."""
    return [
        Cable(host.name, nic.device, nic.segment, nic.rate)
        for host in lab.hosts.values()
        for nic in host.nics
    ]


#: Switch duplicate address detection (RFC 4862) off in a host's namespace, before its NICs come. Each time a
#: link comes up, it holds IPv6 addresses back for one to two seconds, and the lab's addresses are unique.
WITHOUT_DAD = """for name in all default; do
    file=/proc/sys/net/ipv6/conf/$name/accept_dad
    [ ! -e $file ] || echo 0 >$file
done"""


def has_taps(lab: Lab) -> bool:
    """Return whether the lab's hosts are virtual machines, whose NICs are tap devices of the fabric."""
    return lab.flavour == "vm"


def list_namespaces(paths: LabPaths) -> list[str]:
    """Return the names of this lab's network namespaces that exist."""
    return sorted(p.name for p in NETNS.glob(f"{paths.prefix}*")) if NETNS.is_dir() else []


def converge(paths: LabPaths, lab: Lab) -> bool:
    """Converge the lab's networks to the inventory, and return whether anything changed."""
    wanted = {paths.fabric, *(() if has_taps(lab) else map(paths.netns, lab.hosts))}
    missing = sorted(wanted - set(list_namespaces(paths)))
    LOCAL.ip_batch(None, [f"netns add {name}" for name in missing])
    for name in missing:
        LOCAL.ip_batch(name, ["link set lo up"])
        if name != paths.fabric:
            LOCAL.run("ip", "netns", "exec", name, "sh", "-c", WITHOUT_DAD)
    changed = _converge_bridges(paths, lab)
    return _converge_cables(paths, lab) or changed or bool(missing)


def _converge_bridges(paths: LabPaths, lab: Lab) -> bool:
    have = {link["ifname"] for link in LOCAL.ip_json(paths.fabric, "link", "show", "type", "bridge")}
    extra, missing = sorted(have - set(lab.segments)), sorted(set(lab.segments) - have)
    lines = [f"link del {name}" for name in extra]
    for name in missing:
        lines.append(f"link add {name} type bridge stp_state 0 mcast_snooping 0")
        lines.append(f"link set {name} addrgenmode none up")
    LOCAL.ip_batch(paths.fabric, lines)
    return bool(extra or missing)


def _converge_cables(paths: LabPaths, lab: Lab) -> bool:
    ports = {link["ifname"]: link for link in _ports(paths)}
    wanted = {cable.port: cable for cable in cables(lab)}
    lines = [f"link del {port}" for port in sorted(ports.keys() - wanted.keys())]
    fresh = [cable for port, cable in wanted.items() if port not in ports]
    for cable in fresh:
        if has_taps(lab):
            lines.append(f"tuntap add dev {cable.port} mode tap")
        else:
            peer = f"peer name {cable.device} address {cable.mac} netns {paths.netns(cable.host)}"
            lines.append(f"link add {cable.port} type veth {peer}")
        lines.append(f"link set {cable.port} addrgenmode none master {cable.segment} up")
    for port, cable in wanted.items():
        link = ports.get(port)
        if link and (link.get("master") != cable.segment or "UP" not in link.get("flags", ())):
            lines.append(f"link set {port} master {cable.segment} up")
    LOCAL.ip_batch(paths.fabric, lines)
    limited = [cable for cable in wanted.values() if cable.rate]
    for cable in limited:
        set_rate(paths, cable, cable.rate, both_ends=not has_taps(lab))
    return bool(lines)


def _ports(paths: LabPaths, executor: Executor = LOCAL) -> list[dict[str, Any]]:
    """Return the links of the switch's ports, veth and tap devices alike."""
    links = executor.ip_json(paths.fabric, "link", "show")
    return [link for link in links if link.get("linkinfo", {}).get("info_kind") in ("veth", "tun")]


def find(lab: Lab, host: str, device: str) -> Cable:
    """Return the cable of one NIC; raise `KeyError` if the lab has no such NIC."""
    for cable in cables(lab):
        if (cable.host, cable.device) == (host, device):
            return cable
    raise KeyError(f"the lab has no NIC {device} on {host}")


def port_states(paths: LabPaths) -> dict[str, str]:
    """Return each port's state on its bridge, such as ``forwarding``, wherever the fabric is.

    A port starts to forward up to two seconds after its cable is plugged in: the kernel reports a carrier
    change to the bridge with a delay (net/core/link_watch.c).
    """
    return {
        link["ifname"]: link.get("linkinfo", {}).get("info_slave_data", {}).get("state", "")
        for link in _ports(paths, executor_of(paths))
    }


def set_rate(paths: LabPaths, cable: Cable, rate: str | None, *, both_ends: bool = True) -> None:
    """Limit a NIC's rate with a token bucket at both ends of its cable; None removes the limit.

    The end inside a virtual machine cannot be set from here, so that only the traffic it receives is limited.
    """
    ends = [(paths.fabric, cable.port)]
    if both_ends:
        ends.append((paths.netns(cable.host), cable.device))
    for netns, device in ends:
        if rate:
            bucket = ("rate", rate, "burst", str(TBF_BURST_BYTES), "latency", TBF_LATENCY)
            LOCAL.run("tc", "-n", netns, "qdisc", "replace", "dev", device, "root", "tbf", *bucket)
        elif "tbf" in LOCAL.run("tc", "-n", netns, "qdisc", "show", "dev", device, "root"):
            LOCAL.run("tc", "-n", netns, "qdisc", "del", "dev", device, "root")


def unplug(paths: LabPaths, hosts: Iterable[str]) -> None:
    """Remove the cables of hosts; their ports no longer exist on the switch when this returns.

    Removing only the namespace would not do: the kernel removes its links asynchronously
    (net/core/net_namespace.c, cleanup_net).
    """
    there = list_namespaces(paths)
    for netns in (name for name in map(paths.netns, hosts) if name in there):
        links = LOCAL.ip_json(netns, "link", "show", "type", "veth")
        LOCAL.ip_batch(netns, [f"link del {link['ifname']}" for link in links if "link_netnsid" in link])


def remove(names: Iterable[str]) -> None:
    """Remove network namespaces together with their links."""
    LOCAL.ip_batch(None, [f"netns del {name}" for name in names])
