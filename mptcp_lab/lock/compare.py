"""Compare two descriptions of the same hosts; pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from mptcp_lab.lock.document import Host

ABSENT = "absent"
#: How the files of a column's kernel begin among the tools of a lock, and the host that they belong to.
KERNEL_FILE, COLUMN = "kernel ", "column"


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


def kernel_differences(locked: Mapping[str, str], found: Mapping[str, str]) -> Iterator[Difference]:
    """Yield the files of a column's kernel that differ, by name and SHA-256; other tools are not compared.

    Where one side names no such file, nothing differs: the lab is no column there, and the release of each
    host's kernel is compared anyway.
    """
    before, after = (
        {name: value for name, value in tools.items() if name.startswith(KERNEL_FILE)}
        for tools in (locked, found)
    )
    if before and after:
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                yield Difference(COLUMN, name, before.get(name, ABSENT), after.get(name, ABSENT))


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
