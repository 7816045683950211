"""Read the state of a lab's hosts for a lock; no host is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from typing import Any

from mptcp_lab.answers import member, parse
from mptcp_lab.errors import LabBroken
from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.lock.document import Host
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.paths import AGENT, ROOT

#: The Ansible module that reads a host's state; role `record` also runs it, before the lab changes the host.
MODULE = ROOT / "plugins/modules/host_record.py"
#: The text in the module that Ansible replaces with the arguments, and the arguments here.
PLACEHOLDER = "<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"
NETWORK = json.loads((AGENT / "lab_agent/kernel/network_state.json").read_text())
ARGUMENTS = {
    "state": "read",
    "network": NETWORK,
    "tools": {name: list(proxy.program.version_command) for name, proxy in PROXIES.items()},
    "_ansible_check_mode": True,
    "_ansible_diff": False,
}
#: The sysctls that a lock holds.
LOCKED = tuple(NETWORK["sysctls"]["set by roles"])
WITHIN_SECONDS = 60.0
#: Fields that the module's result must have for a lock.
READINGS = (
    "kernel system tools packages files sysctls links addresses routes rules endpoints limits nft_tables"
).split()


def observe(machines: Session) -> dict[str, Host]:
    """Return the state of each host, with every file below /etc and /usr/local.

    Raises:
        LabBroken: a host cannot be read; the error names it.
        LabError: the module's output is not JSON, or lacks a field.
    """
    program = MODULE.read_text().replace(PLACEHOLDER, json.dumps(ARGUMENTS))

    def one(machine: Machine) -> Host:
        done = machine.probe.run(["python3", "-"], timeout=WITHIN_SECONDS, stdin=program)
        tool = f"{MODULE.name} on {machine.name}"
        if done.returncode:
            reason = done.stderr.strip() or member(parse(done.stdout, tool), tool, "msg")
            raise LabBroken(f"its state cannot be read: {reason}", machine.name, "./lab status")
        shown = member(parse(done.stdout, tool), tool, "found")
        for name in READINGS:
            member(shown, tool, name)
        parts = {name: shown[name] for name in ("kernel", "system", "tools", "packages", "files")}
        return Host(**parts, settings=dict(_settings(machine, shown)))

    with ThreadPoolExecutor(max(1, len(machines.machines))) as pool:
        found = pool.map(one, machines.machines.values())
        return dict(zip(machines.machines, found, strict=True))


def _settings(machine: Machine, shown: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and value of each setting of the lab; other devices and tables are ignored."""
    devices = {nic.device for nic in machine.host.nics}
    for name, value in shown["sysctls"].items():
        device = name.split("/conf/")[1].split("/")[0] if "/conf/" in name else "all"
        if device in devices | {"all", "default"} and any(fnmatch(name, pattern) for pattern in LOCKED):
            yield f"sysctl {name}", value
    for device, state in shown["links"].items():
        if device in devices:
            yield f"link {device}", state
    for kind, word in (("addresses", "address"), ("routes", "route")):
        for line, value in shown[kind].items():
            if devices & set(line.split()):
                yield f"{word} {line}", value
    for kind, word in (("rules", "rule"), ("endpoints", "endpoint")):
        for line, value in shown[kind].items():
            if " implicit" not in line:  # an implicit endpoint: the kernel removes it with its connection
                yield f"{word} {line}", value
    yield from shown["limits"].items()
    for table, text in shown["nft_tables"].items():
        if " mptcp_lab" in table:
            yield f"nft {table}", text
