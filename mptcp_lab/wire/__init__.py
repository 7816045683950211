"""Decode, encode and analyse MPTCP (RFC 8684) on the wire: options, keys, packets and captures.

The codec and the analysis need only the standard library.
"""

from mptcp_lab.wire.analyse import Analyser, analyse, analyse_file
from mptcp_lab.wire.capture import CaptureError, CaptureFile
from mptcp_lab.wire.codec import (
    Option,
    TcpOption,
    decode_mptcp,
    decode_option,
    decode_options,
    encode_options,
    split_options,
)
from mptcp_lab.wire.keys import (
    ack_hmac,
    add_addr_hmac,
    dss_checksum,
    idsn,
    internet_checksum,
    join_hmac,
    syn_ack_hmac,
    token,
)
from mptcp_lab.wire.model import Analysis, Connection, Half, Side, State, Stream, Subflow
from mptcp_lab.wire.options.addresses import AddAddr, AddAddrV0, RemoveAddr
from mptcp_lab.wire.options.base import MalformedOption, MptcpOption
from mptcp_lab.wire.options.data import Dss, MpPrio, MpPrioV0
from mptcp_lab.wire.options.ending import MpFail, MpFastclose, TcpRst
from mptcp_lab.wire.options.experimental import Experimental
from mptcp_lab.wire.options.handshake import MpCapable, MpCapableV0
from mptcp_lab.wire.options.joins import MpJoinAck, MpJoinSyn, MpJoinSynAck
from mptcp_lab.wire.packet import Segment, Unread, build_packet, parse_segment, read_frame

__all__ = [
    "AddAddr",
    "AddAddrV0",
    "Analyser",
    "Analysis",
    "CaptureError",
    "CaptureFile",
    "Connection",
    "Dss",
    "Experimental",
    "Half",
    "MalformedOption",
    "MpCapable",
    "MpCapableV0",
    "MpFail",
    "MpFastclose",
    "MpJoinAck",
    "MpJoinSyn",
    "MpJoinSynAck",
    "MpPrio",
    "MpPrioV0",
    "MptcpOption",
    "Option",
    "RemoveAddr",
    "Segment",
    "Side",
    "State",
    "Stream",
    "Subflow",
    "TcpOption",
    "TcpRst",
    "Unread",
    "ack_hmac",
    "add_addr_hmac",
    "analyse",
    "analyse_file",
    "build_packet",
    "decode_mptcp",
    "decode_option",
    "decode_options",
    "dss_checksum",
    "encode_options",
    "idsn",
    "internet_checksum",
    "join_hmac",
    "parse_segment",
    "read_frame",
    "split_options",
    "syn_ack_hmac",
    "token",
]
