"""An endpoint and its host's devices do not fit: no such address, another device, or one that is down."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.finding import Finding, Rule
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._common import (
    describe_flags,
    endpoints,
    ends,
    has_address,
    set_endpoint,
    warn_of_endpoint,
)
from mptcp_lab.probe.facts import Endpoint


def find_address_missing(reading: PairReading) -> Iterable[Finding]:
    """Find endpoints from whose address a host cannot join, because no device of it has the address.

    An address that is only announced may be another host's: a translator in front of the server.
    """
    for _, host, _ in ends(reading):
        for each in endpoints(host):
            is_foreign = "signal" in each.flags and not _names_device(host, each)
            if has_address(host, each.address) or each.port or (is_foreign and "subflow" not in each.flags):
                continue
            yield warn_of_endpoint(
                "endpoint-address-missing",
                host,
                f"No device of {host.name} has {each.address}, for which it has an endpoint.",
                "The kernel cannot bind a socket to the address, so the path is not used.",
                f"ip address add {each.address}/{64 if ':' in each.address else 24} dev "
                f"{each.device or 'DEVICE'}",
                describe_flags(each),
                follows=("ipv6-disabled", "endpoint-device-down"),
            )


def find_port_not_local(reading: PairReading) -> Iterable[Finding]:
    """Find endpoints with a port whose address is not the host's own."""
    for _, host, _ in ends(reading):
        for each in endpoints(host):
            if each.port and not has_address(host, each.address):
                yield warn_of_endpoint(
                    "port-endpoint-not-local",
                    host,
                    f"The endpoint {each.address} port {each.port} of {host.name} is not an address of it.",
                    "The kernel opens a listener for a port, and cannot where no device has the address.",
                    set_endpoint(each, each.flags),
                    describe_flags(each),
                )


def _names_device(host: HostReading, endpoint: Endpoint) -> bool:
    """Return whether an endpoint names a device of the host: its address is meant to be local."""
    return bool(endpoint.device) and host.link(endpoint.device) is not None


def find_wrong_device(reading: PairReading) -> Iterable[Finding]:
    """Find endpoints that name another device than the one that has their address."""
    for _, host, _ in ends(reading):
        for each in endpoints(host):
            device = host.device_of(each.address)
            if each.device and device and device != each.device:
                yield warn_of_endpoint(
                    "endpoint-on-wrong-device",
                    host,
                    f"The endpoint {each.address} of {host.name} names {each.device}, the address "
                    f"is on {device}.",
                    "Packets of its subflows leave by the wrong device, and most networks drop them.",
                    set_endpoint(each, each.flags, device),
                    describe_flags(each),
                )


def find_device_down(reading: PairReading) -> Iterable[Finding]:
    """Find endpoints whose device is down or has no carrier."""
    for _, host, _ in ends(reading):
        for each in endpoints(host):
            device = host.device_of(each.address) or each.device
            link = host.link(device)
            if link is None or (link.is_up and link.has_carrier):
                continue
            state = "down" if not link.is_up else "without carrier"
            yield warn_of_endpoint(
                "endpoint-device-down",
                host,
                f"{device} of {host.name}, which has the endpoint {each.address}, is {state}.",
                "No packet leaves by it, so its path is not used.",
                f"ip link set {device} up",
                f"{device}: {' '.join(sorted(link.flags)) or state}",
            )


RULES = (
    Rule(
        "endpoint-address-missing",
        "no device has the address of an endpoint",
        find_address_missing,
        "add the address to its device, or delete the endpoint",
    ),
    Rule(
        "port-endpoint-not-local",
        "an endpoint with a port has an address of another host: the kernel cannot open its listener",
        find_port_not_local,
        "announce it without a port",
    ),
    Rule(
        "endpoint-on-wrong-device",
        "an endpoint's `dev` is not the device that has its address",
        find_wrong_device,
        "delete it, and add it with the right `dev`",
    ),
    Rule(
        "endpoint-device-down",
        "the device of an endpoint is down or has no carrier",
        find_device_down,
        "`ip link set DEVICE up`; look at the cable",
    ),
)
