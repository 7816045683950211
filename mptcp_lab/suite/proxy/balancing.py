"""Count how many connections each backend of a proxy gets."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from mptcp_lab.inventory.model import Service
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.probe import RunningBatch
from mptcp_lab.suite.find.proxies import find_balancing
from mptcp_lab.suite.traffic import greeting

ANSWER_BYTES = 1000


def begin(
    client: Machine,
    address: str,
    port: int,
    tag: str,
    count: int,
    *,
    concurrent: int = 1,
    protocol: str = "mptcp",
    source: str | None = None,
    within: float = 60.0,
) -> RunningBatch:
    """Start many connections to an origin, directly or through a proxy; it ends each after a short answer.

    `concurrent` is how many are open at a time, and `within` is in seconds.
    """
    message = greeting("source", tag, bytes=ANSWER_BYTES, seed=1)
    return client.probe.many(
        address, port, message, ANSWER_BYTES, count, concurrent, False, protocol, source, within
    )


@dataclass(frozen=True)
class Balanced:
    """A listener and the backends behind it, in the inventory's order."""

    machine: Machine
    service: Service
    backends: tuple[tuple[Machine, Service], ...]

    def serve(self, client: Machine, count: int, source: str | None = None) -> tuple[int, ...]:
        """Make connections one by one, all of which must succeed; return how many each backend got."""
        tag = uuid.uuid4().hex
        family = 6 if source and ":" in source else 4
        address = self.machine.address(0, family)
        done = begin(client, address, self.service.port, tag, count, source=source).wait()
        assert (done.completed, dict(done.failed)) == (count, {}), f"not all were served: {done.failed}"
        assert done.mptcp == count, "not all of the connections were MPTCP"
        return tuple(
            len(machine.probe.origin(service.name).connections(tag=tag, timeline=False))
            for machine, service in self.backends
        )

    def dead(self, number: int) -> AbstractContextManager[object]:
        """Let a backend's host refuse every connection, until the end of the block."""
        machine, service = self.backends[number]
        return machine.probe.fault("reject", dport=service.port)


def find_balanced(machines: Session, method: str, suits: Callable[[Service], bool], what: str) -> Balanced:
    """Return the balancing listener with several backends that meets the condition `suits`.

    `what` describes the condition in the error message.

    Raises:
        Unsupported: the lab has no such listener.
    """
    service = find_balancing(machines.lab, method, suits, what)
    return Balanced(machines.machines[service.host], service, machines.backends(service))
