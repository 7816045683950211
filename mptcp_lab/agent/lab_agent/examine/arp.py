"""Ask each segment who else has an address of this host, as duplicate address detection does (RFC 5227)."""

from __future__ import annotations

import select
import socket
import struct
import time

from ..basics import Json, patient

ETH_P_ARP, ARPHRD_ETHER, REQUEST, REPLY = 0x0806, 1, 1, 2
WAIT_S = 0.3
ADDRESSES_MAX = 16
HEADER = "!6s6sH"
BODY = "!HHBBH6s4s6s4s"


def find_duplicates(addresses: list[Json], links: list[Json]) -> Json:
    """Return the MACs of others that claim the host's IPv4 addresses, by address.

    A probe names no sender's address, so that it enters no neighbour table. Raises OSError without root.
    """
    macs = {link["name"]: link["mac"] for link in links if link["is_up"] and link["has_carrier"]}
    asked = [
        each for each in addresses if ":" not in each["address"] and len(macs.get(each["device"], "")) == 17
    ]
    asked = [each for each in asked if not macs[each["device"]].startswith("00:00:00:00")][:ADDRESSES_MAX]
    found: dict[str, set[str]] = {}
    sockets = {}
    try:
        for each in asked:
            device = each["device"]
            if device not in sockets:
                sockets[device] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP))
                sockets[device].bind((device, ETH_P_ARP))
            sockets[device].send(build_probe(macs[device], each["address"]))
        end = time.monotonic() + patient(WAIT_S)
        while asked and (left := end - time.monotonic()) > 0:
            for ready in select.select(list(sockets.values()), [], [], left)[0]:
                read_reply(ready.recv(64), {each["address"] for each in asked}, found)
    finally:
        for opened in sockets.values():
            opened.close()
    own = {link["mac"] for link in links}
    return {address: sorted(seen - own) for address, seen in found.items() if seen - own}


def build_probe(mac: str, address: str) -> bytes:
    """Return the frame that asks who has an address, without naming a sender's address."""
    sender, wanted = bytes.fromhex(mac.replace(":", "")), socket.inet_aton(address)
    header = struct.pack(HEADER, b"\xff" * 6, sender, ETH_P_ARP)
    return header + struct.pack(BODY, ARPHRD_ETHER, 0x0800, 6, 4, REQUEST, sender, bytes(4), bytes(6), wanted)


def read_reply(frame: bytes, wanted: set[str], found: dict[str, set[str]]) -> None:
    """Note the MAC in a frame that answers for one of the addresses."""
    if len(frame) < 42:
        return
    kind, mac, address = struct.unpack(BODY, frame[14:42])[4:7]
    text = socket.inet_ntoa(address)
    if kind == REPLY and text in wanted:
        found.setdefault(text, set()).add(mac.hex(":"))
