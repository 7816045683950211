"""Read known_hosts files as OpenSSH does (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT), and host certificates."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import paramiko

CERTIFICATE = "-cert-v01@openssh.com"
HOST_CERTIFICATE = 2
FILE_MAX_BYTES = 16 << 20
#: Number of fields of a public key in a certificate, between nonce and serial number.
KEY_FIELDS = {"ssh-ed25519": 1, "ssh-rsa": 2}
ECDSA_KEY_FIELDS = 2


class Trust(StrEnum):
    """The verdict of known_hosts on a key that a host has presented."""

    KNOWN = "known"
    REVOKED = "revoked"
    CHANGED = "changed"
    UNKNOWN = "unknown"


class Marker(StrEnum):
    """The first word of a line, if it is a marker instead of a list of hosts."""

    NONE = ""
    AUTHORITY = "@cert-authority"
    REVOKED = "@revoked"


@dataclass(frozen=True)
class Line:
    """One line of known_hosts: hosts and a key."""

    marker: Marker
    hosts: bytes
    key: bytes

    @property
    def kind(self) -> str:
        """Return the key's type, which is its first field."""
        return Fields(self.key).text()

    def is_about(self, name: str) -> bool:
        """Return whether the line's hashed name or patterns match a host; a pattern with "!" excludes it."""
        sought = name.lower().encode()
        if self.hosts.startswith(b"|1|"):
            return _matches_hash(self.hosts, sought)
        found = False
        for pattern in self.hosts.lower().split(b","):
            negated = pattern.startswith(b"!")
            if matches_pattern(pattern[negated:], sought):
                if negated:
                    return False
                found = True
        return found


def matches_pattern(pattern: bytes, text: bytes) -> bool:
    """Return whether a text matches a pattern of ``*`` and ``?``; brackets are literal, unlike in fnmatch."""
    words = {ord("*"): b".*", ord("?"): b"."}
    expression = b"".join(words.get(octet, re.escape(bytes([octet]))) for octet in _squeeze(pattern))
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _squeeze(pattern: bytes) -> bytes:
    """Replace consecutive stars in a pattern by one, which keeps matching fast."""
    return re.sub(rb"\*+", b"*", pattern)


def _matches_hash(hosts: bytes, name: bytes) -> bool:
    try:
        _, _, salt, digest = hosts.split(b"|")
        salted = hmac.new(base64.b64decode(salt, validate=True), name, hashlib.sha1).digest()
        return hmac.compare_digest(salted, base64.b64decode(digest, validate=True))
    except (ValueError, binascii.Error):
        return False


def parse(content: bytes) -> list[Line]:
    """Parse a file, without the lines that OpenSSH skips (comments, unknown markers, broken keys)."""
    found = []
    for raw in content.splitlines():
        words = raw.split()
        marker = Marker.NONE
        if words and words[0].startswith(b"@"):
            name = words.pop(0).decode("ascii", "replace")
            if name not in (Marker.AUTHORITY, Marker.REVOKED):
                continue
            marker = Marker(name)
        if len(words) < 3 or words[0].startswith(b"#"):
            continue
        try:
            key = base64.b64decode(words[2], validate=True)
            if Fields(key).text() != words[1].decode():
                continue
        except (ValueError, struct.error):
            continue
        found.append(Line(marker, words[0], key))
    return found


def read(files: Iterable[Path]) -> list[Line]:
    """Return the lines of several files in order; a missing file has no lines, as in OpenSSH.

    Raises:
        OSError: a file cannot be read, or none of them exists.
    """
    lines: list[Line] = []
    missing: OSError | None = None
    read_any = False
    for path in files:
        try:
            with path.open("rb") as file:
                content = file.read(FILE_MAX_BYTES + 1)
        except FileNotFoundError as error:
            missing = missing or error
            continue
        if len(content) > FILE_MAX_BYTES:
            raise OSError(27, f"larger than {FILE_MAX_BYTES >> 20} MiB", str(path))
        read_any = True
        lines += parse(content)
    if not read_any and missing is not None:
        raise missing
    return lines


def judge(lines: Sequence[Line], names: Sequence[str], key: bytes, certificate: Certificate | None) -> Trust:
    """Return the verdict of known_hosts lines on a key that a host presents.

    ``names`` are the host's names in the order of lookup. The lines of the first name decide; lines of a
    later name (the host without its port) can only make the key known.
    """
    about = [[line for line in lines if line.is_about(name)] for name in names]
    signers = {key} if certificate is None else {key, certificate.authority}
    if any(line.marker == Marker.REVOKED and line.key in signers for each in about for line in each):
        return Trust.REVOKED
    if certificate is not None and certificate.is_valid_for(names[-1]):
        authorities = {line.key for each in about for line in each if line.marker == Marker.AUTHORITY}
        if certificate.authority in authorities:
            return Trust.KNOWN
    kind = Fields(key).text()
    for each in about:
        plain = [line for line in each if line.marker == Marker.NONE]
        if any(line.key == key for line in plain):
            return Trust.KNOWN
        if any(line.kind == kind for line in plain):
            return Trust.CHANGED
    return Trust.UNKNOWN


class Fields:
    """A reader for the fields of an SSH protocol blob; each read past its end raises `struct.error`."""

    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        self.at = 0

    def number(self, form: str) -> int:
        """Read a number in the `struct` format ``form``."""
        value: int = struct.unpack_from(form, self.blob, self.at)[0]
        self.at += struct.calcsize(form)
        return value

    def string(self) -> bytes:
        """Read octets that are preceded by their length."""
        length = self.number(">I")
        if length > len(self.blob) - self.at:
            raise struct.error("a field is longer than the rest of the blob")
        self.at += length
        return self.blob[self.at - length : self.at]

    def text(self) -> str:
        """Read a string as text."""
        return self.string().decode("ascii", "replace")


@dataclass(frozen=True)
class Certificate:
    """A host certificate with a valid signature (PROTOCOL.certkeys)."""

    authority: bytes
    principals: tuple[bytes, ...]
    valid_from: int
    valid_until: int
    now: float

    def is_valid_for(self, name: str) -> bool:
        """Return whether it is in force for a host: its principals are names, and none means all hosts."""
        about = not self.principals or name.lower().encode() in self.principals
        return about and self.valid_from <= self.now < self.valid_until


def plain_key(blob: bytes) -> bytes:
    """Return the public key in a certificate, or any other key unchanged.

    Raises `ValueError` or `struct.error` for a malformed blob.
    """
    fields = Fields(blob)
    kind = fields.text()
    if not kind.endswith(CERTIFICATE):
        return blob
    fields.string()  # nonce
    base, start = kind.removesuffix(CERTIFICATE), fields.at
    for _ in range(KEY_FIELDS.get(base, ECDSA_KEY_FIELDS)):
        fields.string()
    return struct.pack(">I", len(base)) + base.encode() + blob[start : fields.at]


def parse_certificate(blob: bytes, now: float) -> Certificate | None:
    """Return the certificate in a key that a host presents, or None if it is not a valid host certificate."""
    try:
        return _parse_certificate(blob, now)
    except (struct.error, ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType):
        return None


def _parse_certificate(blob: bytes, now: float) -> Certificate | None:
    fields = Fields(blob)
    kind = fields.text()
    if not kind.endswith(CERTIFICATE):
        return None
    fields.string()  # nonce
    for _ in range(KEY_FIELDS.get(kind.removesuffix(CERTIFICATE), ECDSA_KEY_FIELDS)):
        fields.string()
    fields.number(">Q")  # serial number
    use = fields.number(">I")
    fields.string()  # key id, for logs
    listed = Fields(fields.string())
    principals = []
    while listed.at < len(listed.blob):
        principals.append(listed.string())
    valid_from, valid_until = fields.number(">Q"), fields.number(">Q")
    critical = fields.string()
    fields.string()  # extensions
    fields.string()  # reserved
    authority = fields.string()
    signed, signature = blob[: fields.at], fields.string()
    algorithm = Fields(signature).text()
    if use != HOST_CERTIFICATE or critical or algorithm == "ssh-rsa" or fields.at != len(blob):
        return None
    key = paramiko.PKey.from_type_string(Fields(authority).text(), authority)
    if not key.verify_ssh_sig(signed, paramiko.Message(signature)):
        return None
    return Certificate(authority, tuple(principals), valid_from, valid_until, now)
