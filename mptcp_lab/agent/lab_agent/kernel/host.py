"""Read the state of the host's network: counters, NICs, settings, and everything that a fault may change."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import pkgutil
import subprocess
from pathlib import Path
from typing import Any

from ..basics import AgentError, Json, patient

PROC_SYS = Path("/proc/sys")


def read_command_line() -> str:
    """Return the command line that the kernel was booted with; empty if it cannot be read."""
    try:
        return Path("/proc/cmdline").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def read_counters() -> Json:
    """Return the MIB counters by group ("MPTcpExt", "TcpExt", "IpExt", "Tcp", ...) and name.

    The group "Conntrack" has the statistics of the connection tracker, where the kernel has one.
    """
    groups: Json = {}
    for name in ("netstat", "snmp"):
        lines = Path("/proc/net", name).read_text().splitlines()
        for names, values in itertools.islice(itertools.zip_longest(lines, lines[1:]), 0, None, 2):
            group, _, keys = names.partition(":")
            numbers = map(int, values.partition(":")[2].split())
            groups[group] = dict(itertools.zip_longest(keys.split(), numbers))
    with contextlib.suppress(OSError):
        groups["Conntrack"] = sum_columns(Path("/proc/net/stat/nf_conntrack").read_text())
    return groups


def sum_columns(text: str) -> Json:
    """Return the sum of each column of a table of hexadecimal numbers whose first line names the columns.

    The column "entries" is a gauge, which has the same value in each row; it is left out.
    """
    names, *rows = (line.split() for line in text.splitlines())
    sums = {name: sum(int(row[column], 16) for row in rows) for column, name in enumerate(names)}
    sums.pop("entries", None)
    return sums


def read_nics() -> Json:
    """Return the counts of bytes, packets and dropped packets per network device (/proc/net/dev)."""
    nics = {}
    for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
        device, _, rest = line.partition(":")
        n = [int(word) for word in rest.split()]
        nics[device.strip()] = {
            "rx_bytes": n[0],
            "rx_packets": n[1],
            "rx_dropped": n[3],
            "tx_bytes": n[8],
            "tx_packets": n[9],
            "tx_dropped": n[11],
        }
    return nics


@functools.cache
def definition() -> Json:
    """Return what belongs to the network state of a host (network_state.json), for traces and records alike.

    `parts` has each part of `network_state`, with the kinds of facts in which module `host_record` records
    it. `sysctls` has patterns of paths below /proc/sys.
    """
    text = pkgutil.get_data(__name__, "network_state.json")
    assert text is not None, "the agent's archive has no network_state.json"
    found: Json = json.loads(text)
    return found


def read_sysctls() -> Json:
    """Return the values of the sysctls that roles or faults set, by dotted name."""
    values = {}
    for pattern in itertools.chain.from_iterable(definition()["sysctls"].values()):
        for name in sorted(map(str, PROC_SYS.glob(pattern))):
            with contextlib.suppress(OSError):
                values[sysctl_name(name)] = read_small(name)
    return values


def read_small(path: str) -> str:
    """Return the text of a sysctl without white space around it, with three system calls."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, 4096).decode(errors="replace").strip()
    finally:
        os.close(file)


def sysctl_name(path: Path | str) -> str:
    """Return a sysctl's name as sysctl(8) prints it: net.ipv4.conf.eth1/5.rp_filter for .../eth1.5/..."""
    below = str(path).removeprefix(f"{PROC_SYS}/")
    return ".".join(part.replace(".", "/") for part in below.split("/"))


def read_json_tools(commands: dict[str, list[str]]) -> Json:
    """Run tools that print JSON in parallel, and return the parsed output by name.

    The result of a tool that fails is {"error": text}.
    """
    started: dict[str, subprocess.Popen[str] | None] = {}
    for name, argv in commands.items():
        try:
            started[name] = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        except FileNotFoundError:
            started[name] = None
    documents: Json = {}
    for name, process in started.items():
        if process is None:
            documents[name] = {"error": f"{commands[name][0]}: not installed"}
            continue
        out, err = process.communicate(timeout=patient(10))
        documents[name] = (
            _document(out, commands[name]) if process.returncode == 0 else {"error": err.strip()}
        )
    return documents


def _document(out: str, argv: list[str]) -> Any:
    """Return a tool's parsed output, or an error document if it is not JSON."""
    try:
        return json.loads(out or "[]")
    except (ValueError, RecursionError):
        return {"error": f"{' '.join(argv)}: no JSON: {out[:80]!r}"}


IP_READINGS = {
    "addresses": ["ip", "-j", "address", "show"],
    "routes4": ["ip", "-j", "-4", "route", "show", "table", "all"],
    "routes6": ["ip", "-j", "-6", "route", "show", "table", "all"],
    "rules4": ["ip", "-j", "-4", "rule", "show"],
    "rules6": ["ip", "-j", "-6", "rule", "show"],
    "neighbours": ["ip", "-j", "neighbour", "show"],
    "nft": ["nft", "-j", "list", "ruleset"],
    "qdiscs": ["tc", "-j", "qdisc", "show"],
}


def read_tool(name: str) -> Any:
    """Return the parsed output of one of IP_READINGS; raise AgentError "tool" if it fails."""
    document = read_json_tools({name: IP_READINGS[name]})[name]
    if isinstance(document, dict) and "error" in document:
        raise AgentError("tool", f"{' '.join(IP_READINGS[name])}: {document['error']}")
    return document


#: The readings that one run of ip(8) can do together: its options, and names of IP_READINGS.
IP_BATCHES: tuple[tuple[list[str], tuple[str, ...]], ...] = (
    ([], ("addresses",)),
    (["-4"], ("routes4", "rules4")),
    (["-6"], ("routes6", "rules6")),
)


def read_ip_batches() -> Json:
    """Return all readings of ip(8) in IP_BATCHES, with three processes.

    If a batch fails, its readings are run one by one.
    """
    started = []
    for options, names in IP_BATCHES:
        words = (IP_READINGS[name] for name in names)
        lines = [" ".join(word for word in argv[1:] if not word.startswith("-")) for argv in words]
        argv = ["ip", "-j", *options, "-batch", "-"]
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdin is not None
        process.stdin.write("\n".join(lines) + "\n")
        process.stdin.close()
        started.append((process, names))
    found: Json = {}
    for process, names in started:
        assert process.stdout is not None
        with process.stdout:
            try:
                documents = split_json(process.stdout.read())
            except (ValueError, RecursionError):  # the single runs show which reading fails
                documents = []
        if process.wait(timeout=patient(10)) == 0 and len(documents) == len(names):
            found.update(zip(names, documents))
        else:
            found.update(read_json_tools({name: IP_READINGS[name] for name in names}))
    return found


def split_json(text: str) -> list[Any]:
    """Return the JSON documents that follow one another in a text; raise ValueError if one is malformed."""
    documents, decoder, text = [], json.JSONDecoder(), text.lstrip()
    while text:
        document, end = decoder.raw_decode(text)
        documents.append(document)
        text = text[end:].lstrip()
    return documents
