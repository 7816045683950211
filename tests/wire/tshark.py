"""tshark, the independent cross-check: the same fields from the same capture, per packet."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

Row = dict[str, list[str]]

P = "tcp.options.mptcp."
NUMBERS = (
    "subtype sendkey recvkey recvtok sendrand sendtrunchmac addaddrtrunchmac addrid echo port "
    "backup.flag rawdataack rawdataseqno subflowseqno datalvllen checksum datafin.flag "
    "version checksumreq.flags extensibility.flag nomoresubflows.flag sha256.flag "
    "dataackpresent.flag dataack8.flag dseqnpresent.flag dseqn8.flag "
    "rst_reason flag_T.flag flag_U.flag flag_V.flag flag_W.flag"
).split()
TEXTS = ["sendhmac", "ipv4", "ipv6"]
ANALYSIS = "mptcp.stream mptcp.ack mptcp.expected_token mptcp.expected_idsn".split()
TCP = "frame.number tcp.stream tcp.dstport tcp.len tcp.checksum.status".split()
NAMES = [*TCP, *ANALYSIS, *(P + name for name in NUMBERS + TEXTS)]

_OPTIONS = (
    "mptcp.analyze_mappings:TRUE",
    "mptcp.analyze_mptcp:TRUE",
    "mptcp.relative_sequence_numbers:FALSE",
    "tcp.check_checksum:TRUE",
)


@cache
def fields(path: Path) -> list[Row]:
    """One dictionary per packet: every occurrence of each of NAMES. A missing tshark fails the test."""
    if shutil.which("tshark") is None:
        pytest.fail(
            "tshark is missing: apt install tshark (the test set-up does); nothing can replace it here"
        )
    command = [
        "tshark",
        "-n",
        "-2",
        "-r",
        str(path),
        "-T",
        "fields",
        "-E",
        "separator=/t",
        "-E",
        "aggregator= ",
    ]
    for option in _OPTIONS:
        command += ["-o", option]
    for name in NAMES:
        command += ["-e", name]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [
        dict(zip(NAMES, (cell.split() for cell in line.split("\t")), strict=True))
        for line in out.splitlines()
    ]


def numbers(row: Row, name: str) -> list[int]:
    """A field's occurrences as integers, whatever base tshark prints."""
    return [
        {"True": 1, "False": 0}[each] if each in ("True", "False") else int(each, 0) for each in row[name]
    ]
