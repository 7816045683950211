"""Derive tokens, initial DSNs and HMACs from the keys of a connection; compute DSS checksums (RFC 8684).

Keys, tokens and nonces are unsigned integers in network order: 64, 32 and 32 bits.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address


@lru_cache(maxsize=1024)
def _digest(key: int) -> bytes:
    return hashlib.sha256(key.to_bytes(8, "big")).digest()


def token(key: int) -> int:
    """Return the token of the host that chose `key`: the first 32 bits of SHA-256 (RFC 8684, 3.1)."""
    return int.from_bytes(_digest(key)[:4], "big")


def idsn(key: int) -> int:
    """Return the initial DSN of the host that chose `key`: the last 64 bits of SHA-256 (RFC 8684, 3.1).

    The first octet of data has this DSN + 1.
    """
    return int.from_bytes(_digest(key)[-8:], "big")


@lru_cache(maxsize=1024)
def _digest_v0(key: int) -> bytes:
    return hashlib.sha1(key.to_bytes(8, "big"), usedforsecurity=False).digest()


def token_v0(key: int) -> int:
    """Return the token of version 0: the first 32 bits of SHA-1 (RFC 6824, 3.1)."""
    return int.from_bytes(_digest_v0(key)[:4], "big")


def idsn_v0(key: int) -> int:
    """Return the initial DSN of version 0: the last 64 bits of SHA-1 (RFC 6824, 3.1)."""
    return int.from_bytes(_digest_v0(key)[-8:], "big")


def join_hmac(sender_key: int, receiver_key: int, sender_nonce: int, receiver_nonce: int) -> bytes:
    """Return the HMAC-SHA256 (32 octets) that authenticates the sender of an MP_JOIN (RFC 8684, 3.2).

    The sender's key and nonce come before those of the receiver.
    """
    key = struct.pack(">QQ", sender_key, receiver_key)
    return hmac.digest(key, struct.pack(">II", sender_nonce, receiver_nonce), "sha256")


def syn_ack_hmac(sender_key: int, receiver_key: int, sender_nonce: int, receiver_nonce: int) -> bytes:
    """Return the HMAC of a SYN/ACK with MP_JOIN: the leftmost 64 bits of `join_hmac`."""
    return join_hmac(sender_key, receiver_key, sender_nonce, receiver_nonce)[:8]


def ack_hmac(sender_key: int, receiver_key: int, sender_nonce: int, receiver_nonce: int) -> bytes:
    """Return the HMAC of the third packet of a join: the leftmost 160 bits of `join_hmac`."""
    return join_hmac(sender_key, receiver_key, sender_nonce, receiver_nonce)[:20]


def add_addr_hmac(
    sender_key: int,
    receiver_key: int,
    address_id: int,
    address: IPv4Address | IPv6Address,
    port: int | None = None,
) -> bytes:
    """Return the HMAC of an ADD_ADDR: the rightmost 64 bits of the HMAC-SHA256 (RFC 8684, 3.4.1).

    It covers the address id, the address and the port; the port is 0 if there is none.
    """
    key = struct.pack(">QQ", sender_key, receiver_key)
    message = bytes((address_id,)) + address.packed + struct.pack(">H", port or 0)
    return hmac.digest(key, message, "sha256")[-8:]


def internet_checksum(data: bytes) -> int:
    """Return the 16-bit one's complement checksum of TCP (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def dss_checksum(dsn: int, subflow_seq: int, data_length: int, payload: bytes) -> int:
    """Return the checksum of a mapping and its payload (RFC 8684, 3.3.1).

    `dsn` is the full number of 64 bits, also if the wire has only 32 of them. `payload` holds the mapped
    octets only: a DATA_FIN counts in `data_length` but has no octet.
    """
    return internet_checksum(struct.pack(">QIHH", dsn, subflow_seq, data_length, 0) + payload)
