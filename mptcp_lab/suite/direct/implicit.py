"""Change an endpoint that the kernel made by itself (DIRECT-20)."""

from __future__ import annotations

from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import EndpointControl, NewEndpoint, ProbeError

#: How far the id that the kernel must refuse is from the endpoint's own.
OTHER_ID_BY = 32


def find_implicit(client: Machine) -> dict[str, int]:
    """Return the addresses of the endpoints that a host's kernel made by itself, with their ids."""
    return {each.address: each.id for each in client.probe.endpoints() if "implicit" in each.flags}


def check_may_be_replaced(client: Machine, control: EndpointControl) -> None:
    """Check that an implicit endpoint keeps its id: the kernel refuses another one, and takes other flags."""
    for address, identity in find_implicit(client).items():
        try:
            control.add(NewEndpoint(address, ("subflow",), identity + OTHER_ID_BY))
        except ProbeError:
            kept = find_implicit(client).get(address)
            assert kept == identity, f"a refused change of {address} left the id {kept}, not {identity}"
        else:
            raise AssertionError(
                f"the kernel of {client.name} gave {address} the id {identity + OTHER_ID_BY}"
            )
        control.add(NewEndpoint(address, ("signal",)))
        found = [each for each in client.probe.endpoints() if each.address == address]
        shown = [(each.id, set(each.flags)) for each in found]
        assert shown == [(identity, {"signal"})], f"{address} was to keep its id and be signal: {shown}"
