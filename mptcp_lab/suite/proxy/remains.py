"""Compare what a host's kernel holds before and after a load (PROXY-14)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import eventually

#: A connection that both ends have closed is gone after this time, with its subflows.
GONE_WITHIN_SECONDS = 10.0
#: The counter of a proxy whose back leg asks for MPTCP, as the wrapper makes it do: B answers without.
OF_BACK_LEG = "MPCapableFallbackSYNACK"
#: The protocols of /proc/net/protocols whose sockets are counted, with those that no program holds any more.
PROTOCOLS = {
    "TCP": "TCP sockets",
    "TCPv6": "TCP sockets",
    "MPTCP": "MPTCP sockets",
    "MPTCPv6": "MPTCP sockets",
}
#: A kernel's own gauges of established connections: (group, counter), and what it is called in evidence.
GAUGES = {("Tcp", "CurrEstab"): "TCP established", ("MPTcpExt", "MPCurrEstab"): "MPTCP established"}


def gauges(machine: Machine) -> dict[str, int]:
    """Return how many sockets a machine's kernel has in use; a gauge that the kernel lacks is left out."""
    counters = machine.probe.counters()
    found = {name: counters[key] for key, name in GAUGES.items() if counters.has(key[1], key[0])}
    for line in machine.probe.run(["cat", "/proc/net/protocols"]).stdout.splitlines():
        words = line.split()
        if name := PROTOCOLS.get(words[0] if words else ""):
            found[name] = found.get(name, 0) + int(words[2])
    return found


@contextmanager
def nothing_remains(machines: Iterable[Machine], evidence: EvidenceBox) -> Iterator[None]:
    """Check after the block that none of these machines has more sockets in use than before it.

    Raises:
        NeverHappened: some are still there after `GONE_WITHIN_SECONDS`.
    """
    before = [(machine, gauges(machine)) for machine in machines]
    yield
    for machine, then in before:
        now = _wait_until_gone(machine, then)
        evidence.document(f"sockets in use at {machine.name}", {"before": then, "after": now})


def _wait_until_gone(machine: Machine, before: Mapping[str, int]) -> dict[str, int]:
    return eventually(
        lambda: gauges(machine),
        until=lambda now: all(now[name] <= count for name, count in before.items()),
        within=GONE_WITHIN_SECONDS,
        what=f"no more sockets at {machine.name} than before, {before}",
    )


@contextmanager
def no_fallback(client: Machine, proxy: Machine) -> Iterator[None]:
    """Check after the block that neither a client nor a proxy's front leg has counted a fallback to TCP."""
    before = [(machine, machine.probe.counters()) for machine in (client, proxy)]
    yield
    for machine, then in before:
        grown = machine.probe.counters().delta(then).groups.get("MPTcpExt", {})
        own = OF_BACK_LEG if machine is proxy else ""
        found = {name: n for name, n in grown.items() if "Fallback" in name and n and name != own}
        assert not found, f"{machine.name} counted fallbacks to TCP: {found}"
