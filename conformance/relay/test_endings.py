"""RELAY-7: connections that end, are refused, reset or idle across two proxies."""

from contextlib import AbstractContextManager

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.proxy.endings import (
    check_half_close_by_client,
    check_half_close_by_origin,
    check_reset_by_client,
    check_reset_by_origin,
)
from mptcp_lab.suite.relay.endings import check_gives_up, check_idle, documented_together
from mptcp_lab.suite.relay.relays import Relay


@claim("RELAY-7", case="half-close-by-A")
def test_half_close_by_client(client: Machine, impatient_relay: Relay) -> None:
    """A ends its direction: B gets all data, and A the answer if both proxies keep half-open streams."""
    keeps = documented_together(impatient_relay).keeps_half_open
    check_half_close_by_client(impatient_relay.flow(client), keeps)


@claim("RELAY-7", case="half-close-by-B")
def test_half_close_by_origin(client: Machine, impatient_relay: Relay) -> None:
    """B ends its direction: A gets all data, and may still send if both proxies keep half-open streams."""
    keeps = documented_together(impatient_relay).keeps_half_open
    check_half_close_by_origin(impatient_relay.flow(client), keeps)


@claim("RELAY-7", case="reset-by-A")
def test_reset_by_client(client: Machine, impatient_relay: Relay) -> None:
    """A resets: B has all data that was sent before, and its connection ends as the proxies document."""
    documented = documented_together(impatient_relay).end_after_reset
    check_reset_by_client(impatient_relay.flow(client), documented)


@claim("RELAY-7", case="reset-by-B", timing=True)
def test_reset_by_origin(client: Machine, impatient_relay: Relay) -> None:
    """B resets: A's connection ends at once, and not only after the idle timeout."""
    idle = documented_together(impatient_relay).idle
    check_reset_by_origin(impatient_relay.flow(client), client, idle)


@claim("RELAY-7", case="refused", timing=True)
def test_refused(client: Machine, impatient_relays: list[Relay], evidence: EvidenceBox) -> None:
    """B refuses: A's connection is opened, then ends without data after the proxies' attempts."""

    def refuse(relay: Relay) -> AbstractContextManager[object]:
        return relay.server.probe.fault("reject", dport=relay.origin.port)

    check_gives_up(client, impatient_relays, refuse, evidence, at_once=True)


@claim("RELAY-7", case="unreachable", timing=True)
def test_unreachable(client: Machine, impatient_relays: list[Relay], evidence: EvidenceBox) -> None:
    """B does not answer: A's connection ends after the second proxy's attempts or the first's timeout."""

    def silence(relay: Relay) -> AbstractContextManager[object]:
        return relay.server.probe.fault("drop", dport=relay.origin.port)

    check_gives_up(client, impatient_relays, silence, evidence, at_once=False)


@claim("RELAY-7", case="idle", timing=True)
def test_idle(client: Machine, impatient_relays: list[Relay], evidence: EvidenceBox) -> None:
    """Pauses below the idle timeout do no harm; after a longer one the proxies end both sides."""
    check_idle(client, impatient_relays, evidence)
