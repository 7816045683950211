"""Test the parsers with answers of kernels that lack newer socket options, counters and sysctls."""

from __future__ import annotations

import errno
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mptcp_lab.doctor.counters import diagnose
from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.paths import ROOT
from mptcp_lab.plugin.attempt import classify
from mptcp_lab.probe import Absent, Batch, OriginRecord, Readings, SocketFacts
from mptcp_lab.probe.shapes import Misshapen, read_as
from mptcp_lab.results.verdict import Outcome
from mptcp_lab.suite.packets import joins_sent
from tests.probe.kernels import INFO_ON_6_1, IS_MPTCP_ON_6_1, counted

AGENT = ROOT / "mptcp_lab/agent"
ESTABLISHED, SYN_SENT = 1, 2
SUBFLOW = {"id": None, "local": "198.18.1.1", "lport": 1, "remote": "198.18.1.2", "rport": 2}

#: Runs the agent's own code on a socket that answers as a kernel did; a negative number is an errno.
ON_A_KERNEL = """
import sys
sys.path.insert(0, sys.argv[1])
from lab_agent.kernel import socket_facts as facts
ANSWERS = eval(sys.argv[2])
class Socket:
    def getsockopt(self, level, option, size=0):
        answer = ANSWERS[level, option]
        if isinstance(answer, int) and answer < 0:
            raise OSError(-answer, "")
        return answer
facts.LEGACY = facts.Path("/proc/nonexistent")
facts.kernel_has_mptcp_info = lambda: eval(sys.argv[3])
print(facts.read_is_mptcp(Socket()))
"""
DECODE = """
import sys
sys.path.insert(0, sys.argv[1])
from lab_agent.kernel.socket_facts import MPTCP_INFO_FIELDS, decode_fields
print(sorted(decode_fields(bytes.fromhex(sys.argv[2]), MPTCP_INFO_FIELDS)))
"""
PROTOCOL, IS_MPTCP, INFO = (socket.SOL_SOCKET, 38), (socket.IPPROTO_TCP, 43), (284, 1)


def in_the_agent(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, str(AGENT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    ("answers", "has_info", "expected"),
    [
        ({PROTOCOL: 262, IS_MPTCP: -IS_MPTCP_ON_6_1["mptcp"], INFO: INFO_ON_6_1}, True, "True"),
        ({PROTOCOL: 262, IS_MPTCP: -IS_MPTCP_ON_6_1["fallen back"], INFO: -errno.EOPNOTSUPP}, True, "False"),
        ({PROTOCOL: 6, IS_MPTCP: -IS_MPTCP_ON_6_1["tcp"], INFO: -errno.EOPNOTSUPP}, False, "False"),
        ({PROTOCOL: 262, IS_MPTCP: 1}, True, "True"),
        ({PROTOCOL: 262, IS_MPTCP: 0}, True, "False"),
        # Before Linux 5.16, an MPTCP connection cannot be distinguished from one that fell back.
        ({PROTOCOL: 262, IS_MPTCP: -errno.EOPNOTSUPP, INFO: -errno.EOPNOTSUPP}, False, "None"),
    ],
    ids=["6.1 mptcp", "6.1 fallen back", "6.1 tcp", "6.10 mptcp", "6.10 fallen back", "5.10"],
)
def test_is_mptcp(answers: dict[tuple[int, int], Any], has_info: bool, expected: str) -> None:
    assert in_the_agent(ON_A_KERNEL, repr(answers), repr(has_info)) == expected


def facts(**changes: Any) -> SocketFacts:
    """Parse the socket facts of an MPTCP connection as a probe on 6.1 reports them, with changes."""
    document = {
        "protocol": 262,
        "is_mptcp": True,
        "info_errno": None,
        "full_info_errno": errno.EOPNOTSUPP,
        "info": {"subflows": 2, "token": struct.unpack_from("=I", INFO_ON_6_1, 12)[0]},
        "subflows": [{**SUBFLOW, "tcp": {"state": ESTABLISHED}}, {**SUBFLOW, "tcp": {"state": SYN_SENT}}],
        "tcp": None,
        "inode": 1,
        "local": None,
        "peer": None,
        "at": 0.0,
    }
    return read_as(SocketFacts, document | changes).seen_by("client", "6.1.0")


def test_a_struct_of_48_octets_has_no_later_fields() -> None:
    assert len(INFO_ON_6_1) == 48
    names = in_the_agent(DECODE, INFO_ON_6_1.hex())
    assert "retransmits" in names and "bytes_acked" not in names
    info = facts().info
    assert info is not None and info["subflows"] == 2
    with pytest.raises(Unsupported, match=r"mptcp_info bytes_acked: Linux 6\.1\.0 does not have it"):
        assert info["bytes_acked"] - 5 >= 0


def test_a_subflow_in_the_making_is_not_established() -> None:
    assert [subflow.is_established for subflow in facts().subflows] == [True, False]


def test_a_subflow_without_a_state_is_not_believed() -> None:
    (subflow,) = facts(subflows=[{**SUBFLOW, "tcp": None}]).subflows
    with pytest.raises(Unsupported, match="MPTCP_FULL_INFO or MPTCP_TCPINFO"):
        assert subflow.is_established


def test_subflows_that_cannot_be_read_are_not_none() -> None:
    unknown = facts(subflows=None, is_mptcp=None)
    for use in (lambda: len(unknown.subflows), lambda: bool(unknown.is_mptcp), lambda: unknown.is_mptcp == 1):
        with pytest.raises(Unsupported):
            use()


@pytest.mark.parametrize(
    "changes",
    [
        {"is_mptcp": "yes"},
        {"subflows": {}},
        {"subflows": [{**SUBFLOW, "tcp": {"state": "up"}}]},
        {"info": {"token": None}},
    ],
    ids=["is_mptcp", "subflows", "tcp", "info"],
)
def test_only_null_stands_for_what_is_absent(changes: dict[str, Any]) -> None:
    with pytest.raises(Misshapen):
        facts(**changes)


def test_a_batch_whose_connections_cannot_be_told_apart() -> None:
    answer = {"completed": 2, "failed": {}, "mptcp": None, "most_open": 1, "digests": {}, "seconds": 1.0}
    batch = read_as(Batch, answer)
    assert batch.completed == 2
    with pytest.raises(Unsupported, match="TCP_IS_MPTCP or MPTCP_INFO"):
        assert batch.mptcp == 0


def test_an_origins_record_names_its_host_and_kernel() -> None:
    ends = dict.fromkeys(("listener", "peer", "local", "proxy", "end", "error", "facts"))
    timeline = {"first": None, "last": None, "chunks": 0, "max_gap": 0.0, "gaps": [], "timeline": []}
    counts = {"number": 1, "protocol": 262, "opened": 0.0, "bytes_received": 0, "bytes_sent": 0}
    texts = dict.fromkeys(("tag", "mode", "sha256_received", "sha256_sent"), "")
    flows = {"open": True, "paused": False, "is_mptcp": None, "received": timeline, "sent": timeline}
    record = read_as(OriginRecord, ends | counts | texts | flows).seen_by("server1", "5.10")
    with pytest.raises(Unsupported, match=r"server1: TCP_IS_MPTCP or MPTCP_INFO: Linux 5\.10"):
        assert record.is_mptcp


USES: dict[str, Callable[[Any], object]] = {
    "equal": lambda value: value == 0,
    "reflected": lambda value: [0].index(value),
    "unequal": lambda value: value != 0,
    "less": lambda value: value < 1,
    "from": lambda value: 5 - value,
    "sum": lambda value: sum([value]),
    "bool": bool,
    "int": int,
    "max": lambda value: max(1, value),
    "in": lambda value: value in {0, 1},
    "strip": lambda value: value.strip(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_any_use_of_what_is_absent_is_unsupported(use: Callable[[Any], object], tmp_path: Path) -> None:
    absent = counted("6.1").mptcp("MPJoinSynTx")
    with pytest.raises(Unsupported) as raised:
        use(absent)
    assert str(raised.value) == "client: counter MPTcpExt.MPJoinSynTx: Linux 6.1 does not have it"
    assert classify(raised.value, EvidenceBox(tmp_path, tmp_path)) is Outcome.UNSUPPORTED
    assert repr(absent) == "<absent: counter MPTcpExt.MPJoinSynTx>"


def test_a_difference_keeps_what_is_absent() -> None:
    moved = counted("6.12", MPJoinSynRx=3).delta(counted("6.12", MPJoinSynRx=1))
    assert moved.mptcp("MPJoinSynRx") == 2
    assert moved.changes() == {"MPTcpExt.MPJoinSynRx": 2}
    assert isinstance(moved.mptcp("MPJoinRejected"), Absent)


def test_a_sysctl_that_is_absent() -> None:
    sysctls = Readings({"net.mptcp.enabled": "1"}, what="sysctl", host="client", kernel="6.12")
    assert "net.mptcp.syn_retrans_before_tcp_fallback" not in sysctls
    with pytest.raises(Unsupported, match=r"sysctl net\.mptcp\.syn_retrans_before_tcp_fallback: Linux 6\.12"):
        int(sysctls["net.mptcp.syn_retrans_before_tcp_fallback"])


def test_joins_are_seen_in_the_capture_where_they_are_not_counted() -> None:
    assert joins_sent(counted("6.12", MPJoinSynTx=2), []) == 2
    assert joins_sent(counted("6.1"), []) == 0


def test_the_doctor_passes_over_counters_that_are_absent() -> None:
    capable_a, capable_b = {"MPCapableSYNTX": 1, "MPCapableSYNACKRX": 1}, {"MPCapableSYNRX": 1}
    stripped = diagnose(counted("6.1", MPCapableSYNTX=1, MPCapableFallbackSYNACK=1), counted("6.1"))
    assert stripped.cause == "options stripped from SYNs"
    joined = diagnose(counted("6.1", **capable_a), counted("6.1", **capable_b, MPJoinSynRx=1, MPJoinAckRx=1))
    assert joined.cause == "healthy"
    alone = diagnose(counted("6.1", **capable_a), counted("6.1", **capable_b))
    assert alone.cause == "not known" and "MPTcpExt.MPJoinSynTx" in alone.advice
