"""Accept what older kernels are known to do differently, where a correction names them.

On any other kernel the same behaviour is a failure. The corrections are in
mptcp_lab/catalogue/corrections.toml.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from mptcp_lab.catalogue import Correction, corrections
from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.inventory.model import Host
from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.sockets import AddressPair

#: The names of the corrections that checks use.
SELF_JOINS, NO_ROOM, ONE_FAMILY = "self-joins", "no room for a new NIC", "one family"
BLACKHOLE_GROWTH, DEFAULT_LIMITS = "blackhole growth", "C flag at default limits"
PORT_ENDPOINT = "port endpoint accepts"
FIRST_PAIR, NO_LAMINAR = "first pair of a full mesh", "laminar endpoints"
OVERCOUNT, ONE_DEVICE = "announcements counted too many", "device of the first subflow"
PORT_0, NO_LISTENER_EVENTS = "joins to port 0", "no events of listeners"
FIRST_UNBOUND, IPV6_ON_IPV4 = "NIC of the first address", "IPv6 on an IPv4 socket"
NO_ID_0, ONE_FLAG = "no further subflow with id 0", "endpoint with both flags"


def find_correction(name: str, kernel: str) -> Correction | None:
    """Return the correction with this name if it applies to a kernel release; else None."""
    return next((each for each in corrections() if each.name == name and each.is_about(kernel)), None)


def check_not_lacking(name: str, kernel: str, host: str, what: str) -> None:
    """Raise `Unsupported` if a correction of this name says that a host's kernel lacks something."""
    if correction := find_correction(name, kernel):
        raise Unsupported(what, f"Linux {kernel}: {correction.sentence}", host)


def own_addresses(host: Host) -> set[str]:
    """Return every address that the inventory gives a host."""
    return {str(found) for nic in host.nics for family in (4, 6) if (found := nic.address(family))}


def is_self_join(pair: AddressPair, own: Collection[str]) -> bool:
    """Return whether a subflow leads from one of a host's own addresses to one of its own addresses."""
    return pair[0] in own and pair[1] in own


def known_self_joins(pairs: Iterable[AddressPair], own: Collection[str], kernel: str) -> set[AddressPair]:
    """Return the self-joins among a client's pairs if its kernel is known to make them; else an empty set."""
    if find_correction(SELF_JOINS, kernel) is None:
        return set()
    return {pair for pair in pairs if is_self_join(pair, own)}


def keep_self_joins(client: Machine, pairs: Iterable[AddressPair], evidence: EvidenceBox) -> set[AddressPair]:
    """Return the known self-joins of the client's kernel, and keep each pair as evidence of a deviation."""
    found = known_self_joins(pairs, own_addresses(client.host), client.probe.kernel)
    correction = find_correction(SELF_JOINS, client.probe.kernel)
    if found and correction is not None:
        keep(correction, evidence)
        evidence.figure("joins to own addresses, a known deviation", len(found))
        evidence.subflows(
            [{"local": local, "remote": remote} for local, remote in sorted(found)],
            name="joins to own addresses",
        )
    return found


def keep(correction: Correction, evidence: EvidenceBox) -> None:
    """Keep as evidence the text of a correction that a check has used."""
    until = f"until {correction.first_without}" if correction.first_without else "and later"
    evidence.text(
        f"known deviation: {correction.name}",
        f"{correction.claim}, Linux {correction.kernel}, {until}: {correction.sentence}\n",
    )
