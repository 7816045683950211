"""Compare two descriptions of the same hosts; pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from mptcp_lab.lock.document import Host

ABSENT = "absent"


@dataclass(frozen=True)
class Difference:
    """One item of one host whose value differs; a missing item has the value "absent"."""

    host: str
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.host}: {self.what}: expected {self.expected}, found {self.found}"


def differences(expected: Mapping[str, Host], found: Mapping[str, Host]) -> Iterator[Difference]:
    """Yield all differences, host by host; both arguments must describe the same hosts."""
    for name in expected:
        before, after = _flat(expected[name]), _flat(found[name])
        for what in sorted(before.keys() | after.keys()):
            if before.get(what) != after.get(what):
                yield Difference(name, what, before.get(what, ABSENT), after.get(what, ABSENT))


def _flat(host: Host) -> dict[str, str]:
    """Return all items of a host in one mapping, for example from ``package haproxy`` to its version."""
    flat: dict[str, str] = {}
    for kind, value in asdict(host).items():
        if kind == "settings":
            flat |= value
        elif isinstance(value, dict):
            flat |= {f"{kind.removesuffix('s')} {key}": text for key, text in value.items()}
        else:
            flat[kind] = value
    return flat
