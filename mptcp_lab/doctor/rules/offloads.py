"""A path's device handles packets one by one, or loses them before the host takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.network_reading import Link
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._common import ends, keep_command, usable_addresses

#: A device that loses one packet in a thousand, and more than a few, cannot follow.
MISSED_MIN, MISSED_PER_PACKET = 100, 1000
RING_SLOTS = 4096


def _path_devices(reading: PairReading) -> Iterator[tuple[HostReading, Link]]:
    """Yield each host with each of its devices that can be the end of a path."""
    for _, host, _ in ends(reading):
        for name in dict.fromkeys(each.device for each in usable_addresses(host)):
            link = host.link(name)
            if link is not None:
                yield host, link


def _switched_off(link: Link) -> list[str]:
    """Return the offloads that are off and should be on: GRO is off by default on most virtual devices."""
    wanted = ["gso", *(["gro"] if link.kind == "ether" else [])]
    return [name for name in wanted if link.offloads.get(name) is False]


def find_offloads_off(reading: PairReading) -> Iterable[Finding]:
    """Find path devices on which the kernel may not send or receive several packets at once."""
    for host, link in _path_devices(reading):
        off = _switched_off(link)
        if not off:
            continue
        names = " and ".join(each.upper() for each in off)
        set_on = f"ethtool -K {link.name} " + " ".join(f"{name} on" for name in off)
        yield Finding(
            rule="offload-off",
            severity=Severity.NOTE,
            host=host.name,
            what=f"{link.name} of {host.name} has {names} switched off.",
            why="The kernel then handles each packet alone. No NIC merges packets with MPTCP options for it, "
            "so a fast path is limited by the processor.",
            fix=set_on,
            persistent=keep_command(f"mptcp-offloads-{link.name}", set_on),
            confidence=Confidence.POSSIBLE,
            evidence=(f"ethtool -k {link.name}: {', '.join(f'{name} off' for name in off)}",),
        )


def find_missed_packets(reading: PairReading) -> Iterable[Finding]:
    """Find path devices whose queue of received packets overflows."""
    for host, link in _path_devices(reading):
        if link.rx_missed < MISSED_MIN or link.rx_missed * MISSED_PER_PACKET < link.rx_packets:
            continue
        enlarge = f"ethtool -G {link.name} rx {RING_SLOTS}"
        yield Finding(
            rule="device-loses-packets",
            severity=Severity.NOTE,
            host=host.name,
            what=f"{link.name} of {host.name} has lost {link.rx_missed} of {link.rx_packets} packets.",
            why="Its queue was full before the kernel took them; each loss slows this path's subflows down.",
            fix=enlarge,
            persistent=keep_command(f"mptcp-ring-{link.name}", enlarge),
            confidence=Confidence.POSSIBLE,
            evidence=(
                f"rx_missed_errors, rx_fifo_errors and rx_over_errors of {link.name}: {link.rx_missed}",
            ),
            follows_from=("offload-off",),
        )


RULES = (
    Rule(
        "offload-off",
        "`ethtool -k` shows that GSO, or GRO of a NIC, is off on a path's device",
        find_offloads_off,
        "`ethtool -K DEVICE gso on gro on`",
    ),
    Rule(
        "device-loses-packets",
        "`rx_missed_errors`, `rx_fifo_errors` or `rx_over_errors` of a path's device: one in a thousand",
        find_missed_packets,
        f"`ethtool -G DEVICE rx {RING_SLOTS}`",
    ),
)
