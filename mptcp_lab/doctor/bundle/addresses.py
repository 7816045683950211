"""Replace addresses and host names consistently, in texts and in packets. Pure.

The same address has the same replacement everywhere in a bundle, and two addresses have as many leading
bits in common as before: networks stay networks, and routes still match. A random key, which is kept
nowhere, decides the rest. Kept are the addresses that have a meaning of their own (loopback, multicast,
unspecified) and the bits that show that an address is private, shared, link-local or for tests. Any other
IPv4 address moves to 240.0.0.0/4, any other IPv6 address to 3fff::/20, which no host uses.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
#: Networks whose addresses stay as they are.
KEPT = tuple(map(ip_network, ("0.0.0.0/32", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32")))
KEPT6 = tuple(map(ip_network, ("::/127", "ff00::/8", "64:ff9b::/96")))
#: Networks whose own bits stay, because they say what kind of address it is.
KINDS = tuple(
    map(
        ip_network,
        ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15"),
    )
)
KINDS6 = tuple(map(ip_network, ("fe80::/64", "fc00::/7")))
ELSEWHERE, ELSEWHERE6 = ip_network("240.0.0.0/4"), ip_network("3fff::/20")
MAPPED = ip_network("::ffff:0:0/96")
MAC = re.compile(r"(?<![0-9A-Fa-f:])(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f:])")
KEPT_MACS = (bytes(6), b"\xff" * 6)
#: What may be an address: hexadecimal digits, colons and dots, then perhaps a prefix length.
MAY_BE = re.compile(r"(?<![\w:.])(?P<run>[0-9A-Fa-f]*[:.][0-9A-Fa-f:.]+)(?P<length>/\d{1,3})?")
V4_AND_PORT = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3})(:\d*)?")


class AddressMap:
    """Replacements of one bundle; ``names`` maps host names to the words that stand for them."""

    def __init__(self, names: Mapping[str, str] | None = None, key: bytes = b"") -> None:
        self._key = key or os.urandom(32)
        self._macs: dict[bytes, bytes] = {}
        self._names = {name.lower(): word for name, word in (names or {}).items() if len(name) > 1}
        words = sorted(map(re.escape, self._names), key=len, reverse=True)
        self._name = (
            re.compile(rf"(?<![\w-])(?:{'|'.join(words)})(?![\w-])", re.IGNORECASE) if words else None
        )
        self.address = lru_cache(maxsize=None)(self._replace)

    def _replace(self, address: Address) -> Address:
        """Return the replacement of an address."""
        if isinstance(address, IPv6Address) and address in MAPPED:
            inner = self._replace(IPv4Address(address.packed[12:]))
            return IPv6Address(address.packed[:12] + inner.packed)
        is_v4 = isinstance(address, IPv4Address)
        if any(address in network for network in (KEPT if is_v4 else KEPT6)):
            return address
        kinds: tuple[IPv4Network | IPv6Network, ...] = KINDS if is_v4 else KINDS6
        elsewhere = ELSEWHERE if is_v4 else ELSEWHERE6
        home = next((network for network in kinds if address in network), elsewhere)
        width, fixed = address.max_prefixlen, home.prefixlen
        value = int(home.network_address)
        for bit in range(fixed, width):
            prefix = int(address) >> (width - bit)
            one = int(address) >> (width - bit - 1) & 1
            value |= (one ^ self._coin(width, bit, prefix)) << (width - bit - 1)
        return IPv4Address(value) if is_v4 else IPv6Address(value)

    def _coin(self, width: int, bit: int, prefix: int) -> int:
        """Return whether a bit is flipped, which depends on the bits before it and on the key."""
        message = b"%d %d %x" % (width, bit, prefix)
        return hmac.digest(self._key, message, hashlib.sha256)[0] & 1

    def network(self, address: Address, length: int) -> Address:
        """Return the replacement of an address with a prefix length: a network's has no host bits either."""
        replaced = self.address(address)
        host_bits = address.max_prefixlen - length
        if host_bits > 0 and not int(address) & ((1 << host_bits) - 1):
            return type(replaced)(int(replaced) >> host_bits << host_bits)
        return replaced

    def mac(self, octets: bytes) -> bytes:
        """Return the replacement of a MAC address; broadcast and multicast addresses stay."""
        if octets in KEPT_MACS or octets[0] & 1:
            return octets
        number = len(self._macs) + 1
        return self._macs.setdefault(octets, b"\x02\0\0" + number.to_bytes(3, "big"))

    def text(self, text: str) -> str:
        """Return a text with every address, MAC address and host name replaced."""
        text = MAC.sub(lambda found: self.mac(bytes.fromhex(found[0].replace(":", ""))).hex(":"), text)
        text = MAY_BE.sub(self._replace_match, text)
        return self._name.sub(lambda found: self._names[found[0].lower()], text) if self._name else text

    def _replace_match(self, found: re.Match[str]) -> str:
        """Return what replaces a match of `MAY_BE`: itself, if it is no address."""
        run, length = found["run"], found["length"] or ""
        written = run.rstrip(".:")  # the end of a sentence, or of a word such as "SRC:"
        for text in dict.fromkeys((run, run[:-1], written)):
            if pair := V4_AND_PORT.fullmatch(text):
                text, rest = pair[1], (pair[2] or "") + run[len(text) :]
            else:
                rest = run[len(text) :]
            try:
                address = ip_address(text)
                bits = min(int(length[1:]), address.max_prefixlen) if length else address.max_prefixlen
            except ValueError:
                continue
            return f"{self.network(address, bits)}{rest}{length}"
        return found[0]
