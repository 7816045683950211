"""Try a server that cannot be read from each address of one host (``--remote``)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from mptcp_lab.doctor.collect import examiners, read_hosts
from mptcp_lab.doctor.connect import connect
from mptcp_lab.doctor.expect import usable_addresses
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.network_reading import Lookup
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.watch import End
from mptcp_lab.errors import LabError
from mptcp_lab.probe.openssh import Ssh
from mptcp_lab.probe.shapes import read_as

ADDRESSES_MAX = 8


def parse_remote(text: str) -> tuple[str, int]:
    """Return address and port of "192.0.2.1:443" or "[2001:db8::1]:443"; raise `LabError` otherwise."""
    address, _, port = text.rpartition(":")
    bare = address.removeprefix("[").removesuffix("]")
    try:
        found = str(ip_address(bare))
        number = int(port)
    except ValueError:
        raise LabError("no address and port", f"--remote {text}", "--remote 192.0.2.1:443") from None
    if not 0 < number < 65536 or (":" in bare) != address.startswith("["):
        raise LabError("no address and port", f"--remote {text}", "--remote [2001:db8::1]:443") from None
    return found, number


def ask_remote(remote: tuple[str, int], host: str, ssh: Ssh) -> list[PairReading]:
    """Connect to the server from each address of the host, and return a reading for each."""
    address, port = remote
    with examiners([host], ssh) as probes:
        (reading,) = read_hosts(probes, [port]).values()
        sources = choose_sources(reading, address)
        asked = [(each, address, device) for each in sources for device in ("", reading.device_of(each))]
        lookups = read_as(tuple[Lookup, ...], probes[host].look_up(asked))
        end = End(probes[host], replace(reading, lookups=lookups))
        made = [connect(end, None, address, port, each) for each in sources or [""]]
    return [PairReading(end.reading, None, port, each) for each in made]


def choose_sources(host: HostReading, remote: str) -> list[str]:
    """Return the addresses of a host from which a remote address can be tried."""
    version = ip_address(remote).version
    found = [each for each in usable_addresses(host) if ip_address(each).version == version]
    return found[:ADDRESSES_MAX]
