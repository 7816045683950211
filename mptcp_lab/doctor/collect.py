"""Read hosts in parallel, choose the addresses, and make the doctor's connections between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from mptcp_lab.doctor.connect import connect
from mptcp_lab.doctor.connection_reading import ESTABLISHED, ConnectionReading
from mptcp_lab.doctor.expect import is_proper, questions, usable_addresses
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.network_reading import Lookup
from mptcp_lab.doctor.other_family import try_other_family
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.unreadable import read_or
from mptcp_lab.doctor.watch import End
from mptcp_lab.probe.client import Nonsense
from mptcp_lab.probe.openssh import Examiner, Ssh
from mptcp_lab.probe.shapes import Misshapen, read_as

ANY = ("0.0.0.0", "::")  # noqa: S104 # compared with, not bound to


@dataclass(frozen=True)
class Question:
    """A pair to examine, and a proxy between them; ``address`` is the one to connect to."""

    client: str
    server: str
    port: int
    via: str = ""
    server_port: int = 0
    address: str = ""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the hosts' names."""
        return tuple(name for name in (self.client, self.via, self.server) if name)

    @property
    def legs(self) -> tuple[tuple[str, str, int], ...]:
        """Return each connection's client, server and port."""
        if not self.via:
            return ((self.client, self.server, self.port),)
        return ((self.client, self.via, self.port), (self.via, self.server, self.server_port or self.port))


@contextmanager
def examiners(names: Iterable[str], ssh: Ssh) -> Iterator[dict[str, Examiner]]:
    """Connect to all hosts in parallel; raise `Unreachable` if one cannot be read."""
    wanted = list(dict.fromkeys(names))
    with ThreadPoolExecutor(len(wanted)) as pool, ExitStack() as stack:
        futures = {name: pool.submit(Examiner.reach, name, ssh) for name in wanted}
        errors = [error for future in futures.values() if (error := future.exception())]
        opened = {name: future.result() for name, future in futures.items() if not future.exception()}
        stack.callback(lambda: list(pool.map(Examiner.close, opened.values())))
        if errors:
            raise errors[0]
        yield opened


def read_hosts(probes: Mapping[str, Examiner], ports: Sequence[int]) -> dict[str, HostReading]:
    """Read all hosts in parallel."""
    with ThreadPoolExecutor(max(1, len(probes))) as pool:
        return dict(zip(probes, pool.map(lambda each: _read_host(each, ports), probes.values()), strict=True))


def _read_host(probe: Examiner, ports: Sequence[int]) -> HostReading:
    document = probe.examine(ports)
    try:
        return read_as(HostReading, {**document, "name": probe.host})
    except Misshapen as problem:
        raise Nonsense(probe.host, "examine", str(problem)) from None


def look_up(
    probes: Mapping[str, Examiner], readings: Mapping[str, HostReading], pairs: Iterable[tuple[str, str]]
) -> dict[str, HostReading]:
    """Return the readings with the routes between both hosts of each pair, in both directions."""
    asked: dict[str, dict[tuple[str, str, str], None]] = {name: {} for name in readings}
    for one, other in pairs:
        for name, peer in ((one, other), (other, one)):
            asked[name].update(dict.fromkeys(questions(readings[name], readings[peer])))
    with ThreadPoolExecutor(max(1, len(probes))) as pool:
        answers = pool.map(lambda name: probes[name].look_up(list(asked[name])), asked)
        found = dict(zip(asked, answers, strict=True))
    return {
        name: replace(reading, lookups=read_as(tuple[Lookup, ...], found[name]))
        for name, reading in readings.items()
    }


def choose_address(client: HostReading, server: HostReading, port: int) -> str:
    """Return the server's address to connect to; "" if it has none that the client could use.

    The best one is listened on, is no management address, can be reached, best on a network of the client,
    and is not announced: the client learns of an announced one by the connection.
    """
    listened = {each.address for each in server.listeners_on(port)}
    is_any = not listened or bool(listened & set(ANY))
    announced = {each.address for each in read_or(server.endpoints, ()) if "signal" in each.flags}

    def rank(address: str) -> tuple[Any, ...]:
        sources = usable_addresses(client)
        ways = [client.lookup(source, address, client.device_of(source)) for source in sources]
        return (
            not (is_any or address in listened),
            address == server.management_address,
            not any(is_proper(client, way) for way in ways),
            ":" in address,
            not any(is_proper(client, way) and way is not None and not way.gateway for way in ways),
            address in announced,
        )

    candidates = usable_addresses(server)
    return min(candidates, key=rank) if candidates else ""


def ask(questions_: Sequence[Question], ssh: Ssh) -> list[PairReading]:
    """Read all hosts of the questions, and make the connections, one after the other."""
    names = [name for question in questions_ for name in question.hosts]
    ports = sorted({port for question in questions_ for _, _, port in question.legs})
    pairs = [leg[:2] for question in questions_ for leg in question.legs]
    with examiners(names, ssh) as probes:
        readings = look_up(probes, read_hosts(probes, ports), pairs)
        return [_examine(question, probes, readings) for question in questions_]


def _connect(client: End, server: End, address: str, port: int) -> ConnectionReading:
    """Make the connection, then one over the other IP version, and send large packets over each path."""
    made = connect(client, server, address, port)
    attempts = (*made.attempts, *try_other_family(client, server, made))
    return replace(made, attempts=attempts, swallowed=_find_swallowed(client, made))


def _find_swallowed(client: End, made: ConnectionReading) -> Mapping[str, int]:
    """Return the established pairs between which packets as large as the client's device takes vanish."""
    paths = []
    for pair in made.pairs:
        link = client.reading.link(client.reading.device_of(pair.client))
        if pair.state == ESTABLISHED and link is not None:
            paths.append((pair.client, link.name, pair.server, link.mtu))
    swallowed = client.probe.find_swallowed(paths) if paths else []
    return {f"{path[0]} {path[2]}": path[3] for path, lost in zip(paths, swallowed, strict=True) if lost}


def _examine(
    question: Question, probes: Mapping[str, Examiner], readings: Mapping[str, HostReading]
) -> PairReading:
    made: list[ConnectionReading | None] = []
    for number, (client, server, port) in enumerate(question.legs):
        address = question.address if not number else ""
        address = address or choose_address(readings[client], readings[server], port)
        ends = (End(probes[client], readings[client]), End(probes[server], readings[server]))
        made.append(_connect(*ends, address, port) if address else None)
    return PairReading(
        client=readings[question.client],
        server=readings[question.server],
        port=question.port,
        connection=made[0],
        proxy=readings[question.via] if question.via else None,
        onward=made[1] if question.via else None,
        server_port=question.server_port,
    )
