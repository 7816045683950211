"""Put the host's reading together: one document, read once (the controller's `HostReading`)."""

from __future__ import annotations

from typing import Any

from ..basics import Json
from ..kernel.host import read_counters
from . import network, processes, services, socket_options, sockets, system
from .arp import find_duplicates
from .basics import attempt
from .boot_files import read_boot_files


def examine(ports: list[int]) -> Json:
    """Read the host; `ports` are those whose connections and programs matter. Nothing is changed."""
    tools = network.start_tools()
    filters, versions = system.start_filters(), system.start_versions()
    listening = attempt(lambda: read_listening(ports))
    found = listening if "listeners" in listening else {"listeners": listening, "processes": []}
    names = [process["unit"] for process in found["processes"] if process["unit"]]
    show = services.start_show(names)
    document: Json = {
        **system.read_system(),
        **system.read_path_manager(),
        "connections": attempt(lambda: sockets.read_connections(ports)),
        "counters": read_counters(),
        "conntrack": system.read_conntrack(ports),
        "bpf": attempt(system.read_bpf),
        "boot_files": attempt(read_boot_files),
        "installed_kernels": attempt(system.read_installed_kernels),
        "refused_options": socket_options.read_refused_options(),
        "configurations": services.read_configurations(found["processes"]),
        **found,
        **network.read_network(tools),
        **system.read_filters(filters),
        **services.read_units(show, names),
    }
    document["duplicates"] = read_duplicates(document)
    document["tools"] = system.read_versions(versions)
    add_versions(document["daemons"], document["tools"])
    is_active = any(
        each["name"] == "NetworkManager" and each.get("state") == "active" for each in document["daemons"]
    )
    document["nm_connections"] = attempt(lambda: services.read_nm_connections(is_active))
    return document


def read_listening(ports: list[int]) -> Json:
    """Return all listeners, and the processes that have them; those of the ports are looked at closely."""
    listeners = sockets.read_listeners()
    owners = processes.holders({each["inode"] for each in listeners if each["inode"]})
    closely = {owners.get(each["inode"]) for each in listeners if each["port"] in ports}
    for each in listeners:
        each["pid"] = owners.get(each.pop("inode"), 0)
    pids = sorted(set(owners.values()))
    return {
        "listeners": listeners,
        "processes": [processes.read_process(pid, pid in closely) for pid in pids],
    }


def read_duplicates(document: Json) -> Json:
    """Return the addresses that other hosts claim too; none where that cannot be asked."""
    try:
        return find_duplicates(document["addresses"], document["links"])
    except (OSError, TypeError, KeyError):
        return {}


def add_versions(daemons: list[Json], tools: dict[str, Any]) -> None:
    """Give each daemon the version of its program."""
    for daemon in daemons:
        daemon["version"] = tools.get(daemon["name"], "")
