"""Check between which NICs a host forwards packets, and that its lab NICs ignore redirects and routers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mptcp_lab.inventory.model import Host
from mptcp_lab.machines.session import Machine

TABLE = "mptcp_lab_gateway"
#: Settings that have to be off on each lab NIC, where the kernel has them.
OFF = (
    "net.ipv4.conf.{}.accept_redirects",
    "net.ipv4.conf.{}.send_redirects",
    "net.ipv6.conf.{}.accept_redirects",
    "net.ipv6.conf.{}.accept_ra",
    "net.ipv6.conf.{}.autoconf",
)
#: Settings for all NICs: an IPv4 setting is on for a NIC if it is on here or at the NIC itself.
OFF_FOR_ALL = ("net.ipv4.conf.all.accept_redirects", "net.ipv4.conf.all.send_redirects")


def is_router(host: Host) -> bool:
    """Return whether the host has to forward packets: whether it is a gateway or runs a forwarder."""
    return "gateways" in host.functions or any(service.engine == "forwarder" for service in host.services)


def wrong_settings(machine: Machine) -> list[str]:
    """Return the settings of a machine's lab NICs that differ from what they have to be."""
    found = machine.probe.sysctls()
    names = [nic.device.replace(".", "/") for nic in machine.host.nics]
    wanted = dict.fromkeys([*OFF_FOR_ALL, *(key.format(name) for name in names for key in OFF)], "0")
    if is_router(machine.host):
        wanted |= {f"net.ipv4.conf.{name}.forwarding": "1" for name in names}
    return [
        f"{machine.name}: {key} is {found[key]}, not {value}"
        for key, value in wanted.items()
        if found.get(key, value) != value
    ]


def wrong_filter(machine: Machine) -> list[str]:
    """Return why a router's packet filter is wrong: it forwards for other NICs, or not for the lab's."""
    if not is_router(machine.host):
        return []
    rules = json.loads(machine.probe.run(["nft", "-j", "list", "ruleset"]).stdout)["nftables"]
    return list(filter_faults(machine.name, {nic.device for nic in machine.host.nics}, rules))


def filter_faults(name: str, lab: set[str], entries: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with the nftables chain for forwarded packets; `entries` are nft's JSON."""
    chains = [each["chain"] for each in entries if each.get("chain", {}).get("table") == TABLE]
    forward = [chain for chain in chains if chain.get("hook") == "forward"]
    if not forward:
        yield f"{name} forwards between all NICs: it has no chain in table inet {TABLE} for forwarded packets"
    for chain in forward:
        if chain.get("policy") != "drop":
            yield f"{name} forwards between all NICs: the policy of its chain is {chain.get('policy')}"
    for rule in (each["rule"] for each in entries if each.get("rule", {}).get("table") == TABLE):
        devices = _devices(rule["expr"])
        for key in ("iifname", "oifname"):
            if key not in devices:
                yield f"{name}: a rule for forwarded packets (handle {rule['handle']}) names no {key}"
            elif strangers := devices[key] - lab:
                yield f"{name} forwards packets of {', '.join(sorted(strangers))} ({key}), no NIC of the lab"
            elif missing := lab - devices[key]:
                yield f"{name} does not forward packets of {', '.join(sorted(missing))} ({key})"


def _devices(expressions: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Return the devices that a rule matches, by the key that it compares (iifname, oifname)."""
    found = {}
    for match in (each["match"] for each in expressions if "match" in each):
        key = match["left"].get("meta", {}).get("key") if isinstance(match["left"], dict) else None
        right = match["right"]
        if key and match["op"] in ("==", "in"):
            found[key] = set(right["set"]) if isinstance(right, dict) else {str(right)}
    return found
