"""Write a bundle: what MPTCP maintainers ask for in a bug report, in one archive, without secrets.

The archive is a gzip tar with mode 0600. A folder for each host (client, proxy, server) has texts and its
captures; ``reading.json`` and ``findings.json`` have the same for programs. ``issue.md`` is the last file.
"""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mptcp_lab import __version__
from mptcp_lab.doctor.bundle.addresses import AddressMap
from mptcp_lab.doctor.bundle.captures import CaptureRefused, rewrite_capture
from mptcp_lab.doctor.bundle.issue import issue_text
from mptcp_lab.doctor.bundle.secrets import clean_document
from mptcp_lab.doctor.bundle.texts import connection_texts, host_texts
from mptcp_lab.doctor.connection_reading import ConnectionReading
from mptcp_lab.doctor.finding import Finding, from_json, to_json
from mptcp_lab.doctor.readings import PairReading, from_document, to_document
from mptcp_lab.errors import LabError

FOLDER = "mptcp-doctor"
CAPTURES = ("client_pcapng", "server_pcapng")
README = """# A report of mptcp-lab's doctor

One folder for each host: kernel, build options, sysctls, endpoints and limits, network, sockets (ss),
listeners, packet filter, kernel log, counters before and after the doctor's connection, netlink events, and
the headers of its packets. `reading.json` and `findings.json` have the same for programs, `issue.md` a text
to paste into an issue.

What is not in here:

- Payload: packets end after their TCP header, and packets other than TCP are left out{left_out}.
- The keys of MP_CAPABLE and MP_FASTCLOSE: their octets are zeros. Tokens, HMACs and initial data sequence
  numbers, which derive from keys, cannot be checked. Checksums of TCP are updated for the change.
- Private keys, passwords, tokens, credentials in URLs and long random words: `[removed]` stands for each.
- Values of environment variables, but for those that decide about MPTCP (LD_PRELOAD, GODEBUG).
{concealed}"""
CONCEALED = """\
- Addresses and names: each address has one replacement everywhere, in captures too, and networks stay
  networks. Hosts are client, proxy and server. An ADD_ADDR's HMAC is of the replaced address.
"""
OPEN = """
Addresses and host names are the real ones.
"""


class BundleRefused(LabError):
    """The bundle cannot be written."""


def write_bundle(path: Path, reading: PairReading, findings: Sequence[Finding], conceal: bool) -> None:
    """Write the archive with mode 0600, in one step; with ``conceal``, addresses and names are replaced.

    Raises:
        BundleRefused: the file cannot be written; no part of it is left.
    """
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            _write_archive(file, dict(members(reading, findings, conceal)))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        why = error.strerror or str(error)
        raise BundleRefused(
            f"the bundle cannot be written: {why}", str(path), "choose another FILE"
        ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def members(reading: PairReading, findings: Sequence[Finding], conceal: bool) -> Iterator[tuple[str, bytes]]:
    """Yield the archive's files as (name, content), ``issue.md`` last."""
    addresses = AddressMap(_names(reading)) if conceal else None
    captures, left_out = _captures(reading, addresses)
    clean = _clean(reading)
    found = from_json(clean_document(to_json(findings)))
    texts = {f"{role}/{name}": text for role, name, text in _host_files(clean)}
    texts["findings.json"] = _json(to_json(found))
    texts["reading.json"] = _json(to_document(clean))
    for name, text in texts.items():
        yield name, _conceal(text, addresses).encode()
    yield from captures.items()
    skipped = f" ({left_out} of them)" if left_out else ""
    yield "README.md", README.format(left_out=skipped, concealed=CONCEALED if conceal else OPEN).encode()
    yield "issue.md", _conceal(issue_text(clean, found, __version__), addresses).encode()


def _clean(reading: PairReading) -> PairReading:
    """Return the reading without secrets and without captures, which are files of their own."""
    document = to_document(reading)
    for name in ("connection", "onward"):
        if document[name] is not None:
            document[name].update(dict.fromkeys(CAPTURES, ""))
    return from_document(clean_document(document))


def _names(reading: PairReading) -> dict[str, str]:
    """Return the word that stands for each host's names."""
    roles = {"client": reading.client, "proxy": reading.proxy, "server": reading.server}
    return {
        name: role for role, host in roles.items() if host is not None for name in (host.hostname, host.name)
    }


def _host_files(reading: PairReading) -> Iterator[tuple[str, str, str]]:
    """Yield role, file name and text of every host's files."""
    for role in ("client", "proxy", "server"):
        host = getattr(reading, role)
        if host is None:
            continue
        files = host_texts(host)
        for leg, (connection, is_client) in _ends(reading, role).items():
            files |= {
                f"{leg}{name}": text for name, text in connection_texts(host, connection, is_client).items()
            }
        yield from ((role, name, text) for name, text in files.items())


def _ends(reading: PairReading, role: str) -> dict[str, tuple[ConnectionReading, bool]]:
    """Return a host's ends of connections by the prefix of their files: a proxy has two."""
    if getattr(reading, role) is None:
        return {}
    has_proxy = reading.proxy is not None
    if role == "client":
        found = {"": (reading.connection, True)}
    elif role == "proxy":
        found = {"front-": (reading.connection, False), "back-": (reading.onward, True)}
    else:
        found = {"": (reading.onward if has_proxy else reading.connection, False)}
    return {prefix: (each, is_client) for prefix, (each, is_client) in found.items() if each is not None}


def _captures(reading: PairReading, addresses: AddressMap | None) -> tuple[dict[str, bytes], int]:
    """Return the rewritten captures by file name, and how many packets other than TCP they have lost."""
    captures, left_out = {}, 0
    for role in ("client", "proxy", "server"):
        for prefix, (connection, is_client) in _ends(reading, role).items():
            encoded = getattr(connection, CAPTURES[0 if is_client else 1])
            if not encoded:
                continue
            name = f"{role}/{prefix}capture"
            try:
                captures[f"{name}.pcapng"], skipped = rewrite_capture(base64.b64decode(encoded), addresses)
                left_out += skipped
            except CaptureRefused as error:
                captures[f"{name}.txt"] = f"The capture is left out: it is {error}.\n".encode()
    return captures, left_out


def _conceal(text: str, addresses: AddressMap | None) -> str:
    return addresses.text(text) if addresses else text


def _json(document: Any) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _write_archive(file: Any, contents: dict[str, bytes]) -> None:
    """Write files as a gzip tar that names no user of this machine."""
    with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
            archive.addfile(entry, io.BytesIO(content))
