"""Answers of kernels, recorded in virtual machines with Debian's 6.1.0-56 and 6.12.118, and on 6.18.44."""

from __future__ import annotations

import errno

from mptcp_lab.probe import Counters

#: The names of the MPTcpExt line of /proc/net/netstat.
IN_6_1 = """
MPCapableSYNRX MPCapableSYNTX MPCapableSYNACKRX MPCapableACKRX MPCapableFallbackACK
MPCapableFallbackSYNACK MPCapableEndpAttempt MPFallbackTokenInit MPTCPRetrans MPJoinNoTokenFound
MPJoinSynRx MPJoinSynBackupRx MPJoinSynAckRx MPJoinSynAckBackupRx MPJoinSynAckHMacFailure
MPJoinAckRx MPJoinAckHMacFailure DSSNotMatching DSSCorruptionFallback DSSCorruptionReset
InfiniteMapTx InfiniteMapRx DSSNoMatchTCP DataCsumErr OFOQueueTail OFOQueue OFOMerge NoDSSInWindow
DuplicateData AddAddr EchoAdd PortAdd AddAddrDrop MPJoinPortSynRx MPJoinPortSynAckRx MPJoinPortAckRx
MismatchPortSynRx MismatchPortAckRx RmAddr RmAddrDrop RmSubflow MPPrioTx MPPrioRx MPFailTx MPFailRx
MPFastcloseTx MPFastcloseRx MPRstTx MPRstRx RcvPruned SubflowStale SubflowRecover SndWndShared
RcvWndShared RcvWndConflictUpdate RcvWndConflict
""".split()
ADDED_BY_6_12 = """
MPCapableSYNTXDrop MPCapableSYNTXDisabled MPJoinSynTx MPJoinSynTxCreatSkErr MPJoinSynTxBindErr
MPJoinSynTxConnectErr AddAddrTx AddAddrTxDrop EchoAddTx EchoAddTxDrop RmAddrTx RmAddrTxDrop
MPCurrEstab Blackhole MPCapableDataFallback MD5SigFallback DssFallback SimultConnectFallback
FallbackFailed
""".split()
ADDED_BY_6_18 = """
MPJoinRejected WinProbe
""".split()
MPTCP_COUNTERS = {
    "6.1": IN_6_1,
    "6.12": IN_6_1 + ADDED_BY_6_12,
    "6.18": IN_6_1 + ADDED_BY_6_12 + ADDED_BY_6_18,
}
#: TCP_IS_MPTCP (6.10): on a connection that is MPTCP, on one that fell back, and on plain TCP.
IS_MPTCP_ON_6_1 = {"mptcp": errno.EOPNOTSUPP, "fallen back": errno.ENOPROTOOPT, "tcp": errno.ENOPROTOOPT}
#: MPTCP_INFO of a connection to itself over loopback, on 6.1: 48 octets.
INFO_ON_6_1 = bytes.fromhex(
    "000000020000000002000000ac44ec597ec034a2894edfb47ec034a2894edfb44232323fa41c88e00000000000000000"
)


def counted(kernel: str, **values: int) -> Counters:
    """Return a kernel's MPTCP counters: 0 unless given in `values`; those that it lacks are absent."""
    names = MPTCP_COUNTERS[kernel]
    assert set(values) <= set(names), f"{kernel} has no {sorted(set(values) - set(names))}"
    return Counters({"MPTcpExt": {**dict.fromkeys(names, 0), **values}}, "client", kernel)
