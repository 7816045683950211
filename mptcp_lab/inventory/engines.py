"""Read the table of engines, the programs that run the services of a lab: every fact about one is there.

Validation of inventories, the playbooks' filters, the suite, renderings and locks read the same table
(engines.toml). A new engine is a new entry.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("engines.toml")
#: The keys that the services of every engine have.
COMMON_KEYS = ("name", "engine", "port", "mptcp")


@dataclass(frozen=True)
class Program:
    """The program of an engine that hosts install.

    ``validation`` is the command that validates ``configuration``, with ``{}`` for the path. The first group
    of ``version_pattern`` is the version in the output of ``version_command``. ``suite_variable`` is the
    inventory's variable with the distribution's suite from which the program comes.
    """

    configuration: str
    validation: str
    version_command: tuple[str, ...]
    version_pattern: str
    suite_variable: str

    def version(self, printed: str) -> str:
        """Return the version in the output of the version command; empty if there is none."""
        found = re.search(self.version_pattern, printed)
        return found[1] if found else ""


@dataclass(frozen=True)
class Documented:
    """The behaviour that an engine's manual promises to a client.

    ``keeps_half_open``: one direction may end before the other. ``attempts``: how often it tries to connect
    to the backend. ``end_after_reset``: how the backend's connection may end after a client's RST (``error``
    is a RST). ``balances``: backends have a weight, and one that fails is left out for a time.
    """

    keeps_half_open: bool
    attempts: int
    end_after_reset: tuple[str, ...]
    balances: bool


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine, as an inventory names it in ``engine``.

    ``groups`` are the groups whose hosts may run it. ``roles`` are the roles that change a host for it, as
    the host's manifest names them, and ``roles_by_variable`` those that do so if a variable of the inventory
    is set. ``unit`` is its systemd unit, with ``{service}`` for a service's name if each has its own.
    ``keys`` are the keys that its services may have besides `COMMON_KEYS`, and ``methods`` the values of
    their ``mptcp``, ``backend_methods`` those of their backends' ``mptcp``. ``proxy_protocol`` lists the
    versions of the PROXY header that it can send, 0 for none. ``listens_on`` are the kinds of segments on
    whose addresses it listens. ``variables`` are those of its role that an inventory may set.
    """

    name: str
    groups: tuple[str, ...]
    roles: tuple[str, ...]
    unit: str
    keys: tuple[str, ...]
    methods: tuple[str, ...]
    backend_methods: tuple[str, ...] = ()
    roles_by_variable: Mapping[str, str] = field(default_factory=dict)
    listens_on: tuple[str, ...] = ()
    proxy_protocol: tuple[int, ...] = ()
    variables: tuple[str, ...] = ()

    def unit_of(self, service: str) -> str:
        """Return the systemd unit that runs a service of this engine."""
        return self.unit.format(service=service)


@dataclass(frozen=True, kw_only=True)
class Proxy(Engine):
    """An engine that ends a client's connection and opens another one to a backend; hosts install it."""

    program: Program
    documented: Documented


def _tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}


def _engine(name: str, entry: Mapping[str, Any]) -> Engine:
    values = {**_tuples(entry), "name": name}
    if "program" not in entry:
        return Engine(**values)
    program, documented = Program(**_tuples(values.pop("program"))), values.pop("documented")
    return Proxy(**values, program=program, documented=Documented(**_tuples(documented)))


ENGINES: Mapping[str, Engine] = {
    name: _engine(name, entry) for name, entry in tomllib.loads(TABLE.read_text(encoding="utf-8")).items()
}
PROXIES: Mapping[str, Proxy] = {name: engine for name, engine in ENGINES.items() if isinstance(engine, Proxy)}
