"""``python -m mptcp_lab.machines.owned [--inventory X] [--json]``: print what this lab changed on its hosts.

The list is each host's manifest, which `playbooks/restore.yml` reads too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mptcp_lab.errors import LabBroken, LabError
from mptcp_lab.inventory import Lab, load, resolve
from mptcp_lab.machines.session import Machine, session

MANIFEST = "/var/lib/mptcp-lab/manifest.json"
#: Prints the manifest, or an empty one if the lab has changed nothing on the host.
COMMAND = f"if [ -e {MANIFEST} ]; then cat {MANIFEST}; else echo '{{\"entries\": []}}'; fi"
READ_TIMEOUT_S = 60.0
Entries = Sequence[Mapping[str, Any]]


def read_manifests(lab: Lab) -> dict[str, Entries]:
    """Return each host's manifest by host name; raise `LabBroken` if one cannot be read."""

    def read(machine: Machine) -> Entries:
        done = machine.probe.run(["sh", "-c", COMMAND], timeout=READ_TIMEOUT_S)
        try:
            return parse(done.stdout if done.returncode == 0 else "")
        except ValueError as error:
            reason = done.stderr.strip() or str(error)
            step = f"put a copy of {MANIFEST} back; ./lab restore names the alternative"
            raise LabBroken(f"{MANIFEST} cannot be read: {reason}", machine.name, step) from None

    with session(lab) as machines, ThreadPoolExecutor(max(1, len(machines.machines))) as pool:
        found = pool.map(read, machines.machines.values())
        return dict(zip(machines.machines, found, strict=True))


def parse(text: str) -> Entries:
    """Return the entries of a manifest; raise `ValueError` if the text is not a manifest."""
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    entries = document.get("entries") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise ValueError("it is not a manifest (a JSON object with a list of entries)")
    return entries


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("kind"), str)
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("owners"), list)
        and isinstance(entry.get("after"), list)
        and bool(entry["after"])
        and "before" in entry
    )


def lines(manifests: Mapping[str, Entries]) -> Iterator[str]:
    """Yield one line per host, followed by one line per change on that host."""
    for host, entries in manifests.items():
        yield f"{host}: {len(entries)} changes" if entries else f"{host}: the lab has changed nothing"
        for entry in entries:
            owners = ", ".join(map(str, entry["owners"]))
            yield f"  {entry['kind']:<9} {entry['name']}: {change(entry)} [{owners}]"


def change(entry: Mapping[str, Any]) -> str:
    """Describe in words the state before the lab's change, and the state after it."""
    kind, before, after = entry["kind"], entry["before"], entry["after"][-1]
    if kind in ("file", "folder", "nft"):
        if after == "absent":
            return "removed"
        return "added" if before is None else "replaced; the original is kept"
    if kind == "package" and isinstance(before, dict):
        version = before.get("version")
        return f"{version} -> {after}" if version else f"installed, {after}"
    if kind == "unit" and isinstance(before, dict):
        return f"was {before.get('enabled') or 'not there'}, {before.get('active')}; did {after}"
    if kind in ("device", "endpoints", "limits", "routes"):
        return " ".join(map(str, after)) if isinstance(after, list) else str(after)
    return f"{before} -> {after}"


def main(words: list[str] | None = None) -> int:
    """Print what the lab changed; exit 0, or 4 with one error message."""
    parser = argparse.ArgumentParser(
        prog="mptcp_lab.machines.owned", description="What this lab changed on its hosts."
    )
    parser.add_argument("--inventory", default="inventory", help="a path, or a name under inventories/")
    parser.add_argument("--json", action="store_true", help="print the manifests as one JSON document")
    arguments = parser.parse_args(words)
    try:
        manifests = read_manifests(load(resolve(arguments.inventory)))
    except LabError as error:
        print(error, file=sys.stderr)
        return 4
    print(json.dumps(manifests) if arguments.json else "\n".join(lines(manifests)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
