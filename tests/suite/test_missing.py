"""Why subflows are missing: each cause by readings as labs broken that way gave them."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from mptcp_lab.probe import Counters, Endpoint, Limits
from mptcp_lab.suite.examination import addresses_of, dropping_tables, handshake, parse_route
from mptcp_lab.suite.matrix import Pair, Room
from mptcp_lab.suite.missing.causes import cause_of, causes, describe_causes
from mptcp_lab.suite.missing.readings import EndReading, Handshake, PairReading, Readings, Route
from mptcp_lab.suite.missing.rules import LEFT_OUT
from mptcp_lab.wire import MpJoinAck, MpJoinSyn
from mptcp_lab.wire.packet import ACK, Segment
from mptcp_lab.wire.packet import SYN as SYN_FLAG

FULLMESH, SIGNAL = frozenset({"subflow", "fullmesh"}), frozenset({"signal"})


def end(name: str, net: int, flags: frozenset[str]) -> EndReading:
    addresses = {f"198.18.{n}.{net}": f"eth{n}" for n in (1, 2)}
    endpoints = tuple(Endpoint(2 * n - 1, f"198.18.{n}.{net}", 0, f"eth{n}", flags) for n in (1, 2))
    zero = dict.fromkeys(("MPJoinSynTx", "MPJoinSynRx", "MPJoinAckRx", "MPJoinSynTxBindErr"), 0)
    return EndReading(
        name,
        Counters({"MPTcpExt": zero, "TcpExt": {}, "Conntrack": {}}),
        endpoints,
        Limits(8, 8),
        addresses,
        {},
    )


CLIENT, SERVER = end("client", 10, FULLMESH), end("server1", 31, SIGNAL)
#: A join of A-2 to B's first address that was never tried.
UNTRIED = PairReading(
    "eth2",
    "198.18.2.10",
    "198.18.1.31",
    route=Route("eth2", "198.18.2.1"),
    way="routed by gateway",
    handshake=Handshake(syn_arrived=False, answered=False, third_arrived=False),
)
READINGS = Readings(
    CLIENT,
    SERVER,
    ("198.18.1.10", "198.18.1.31"),
    (UNTRIED,),
    established=2,
    server_addresses=frozenset({"198.18.1.31", "198.18.2.31"}),
)
SYN = {"devices": frozenset({"eth2"}), "syn_sent": True, "syn_arrived": False}
ARRIVED = SYN | {"syn_arrived": True, "answered": False}
ANSWERED = ARRIVED | {"answered": True}
THIRD = ANSWERED | {"answer_arrived": True, "third_sent": True, "third_arrived": False}


def counting(reading: EndReading, group: str = "MPTcpExt", **counters: int) -> EndReading:
    groups = {**reading.counters.groups, group: {**reading.counters.groups[group], **counters}}
    return replace(reading, counters=Counters(groups))


def pair(**changed: object) -> PairReading:
    handshake = changed.pop("handshake", None)
    found = replace(UNTRIED, **changed)
    return found if handshake is None else replace(found, handshake=Handshake(**handshake))


def without(reading: EndReading, address: str) -> EndReading:
    return replace(reading, endpoints=tuple(e for e in reading.endpoints if e.address != address))


def flagged(reading: EndReading, flags: frozenset[str]) -> EndReading:
    return replace(reading, endpoints=tuple(replace(e, flags=flags) for e in reading.endpoints))


ALSO_2 = {"remote": "198.18.2.31", "route": Route("eth2"), "way": "both on path2"}
CASES = {
    "MPTCP off": (
        {
            "is_mptcp": False,
            "client": counting(CLIENT, MPCapableSYNTX=1, MPCapableFallbackSYNACK=1),
        },
        {},
        "the connection is not MPTCP",
        "options stripped from SYNs",
    ),
    "address gone at the client": (
        {
            "client": counting(
                replace(CLIENT, addresses={"198.18.1.10": "eth1"}), MPJoinSynTx=1, MPJoinSynTxBindErr=3
            )
        },
        {},
        "the client's address is gone",
        "MPJoinSynTxBindErr 3",
    ),
    "address gone at the server": (
        {"server": replace(SERVER, addresses={"198.18.2.31": "eth2"})},
        {},
        "the server's address is gone",
        "server1",
    ),
    "endpoint gone at the client": (
        {"client": without(CLIENT, "198.18.2.10")},
        {},
        "the client's endpoint is gone",
        "client",
    ),
    "endpoint without fullmesh": (
        {"client": flagged(CLIENT, frozenset({"subflow"}))},
        {},
        "the client's endpoint is not subflow and fullmesh",
        "client has it as subflow",
    ),
    "endpoint gone at the server": (
        {"server": without(SERVER, "198.18.2.31")},
        ALSO_2,
        "the server does not announce the address",
        "server1 has no endpoint for it",
    ),
    "limit at the client": (
        {"client": replace(CLIENT, limits=Limits(1, 8))},
        {},
        "limit at the client",
        "subflows 1 on client",
    ),
    "limit of announcements at the client": (
        {"client": replace(CLIENT, limits=Limits(8, 0))},
        ALSO_2,
        "limit at the client",
        "add_addr_accepted 0 on client",
    ),
    "limit at the server": (
        {"server": counting(replace(SERVER, limits=Limits(0, 8)), MPJoinRejected=2)},
        {"handshake": THIRD | {"refused_by": "198.18.1.31 resets it"}},
        "limit at the server",
        "MPJoinRejected 2, subflows 0 on server1",
    ),
    "limit at the server of a kernel without MPJoinRejected": (
        {"server": replace(SERVER, limits=Limits(0, 8))},
        {"handshake": THIRD | {"refused_by": "198.18.1.31 resets it"}},
        "limit at the server",
        "subflows 0 on server1",
    ),
    "C flag": (
        {"server": replace(SERVER, sysctls={"net.mptcp.allow_join_initial_addr_port": "0"})},
        {},
        "C flag: the server forbids joins to its first address",
        "server1",
    ),
    "another NIC": (
        {},
        {"handshake": THIRD | {"devices": frozenset({"eth1"})}},
        "it leaves by another NIC",
        "eth1",
    ),
    "bind error": (
        {"client": counting(CLIENT, MPJoinSynTxBindErr=3)},
        {},
        "bind error",
        "MPJoinSynTxBindErr 3 on client",
    ),
    "no route": (
        {"client": counting(CLIENT, MPJoinSynTxConnectErr=1)},
        {"route": Route(error="RTNETLINK answers: Network is unreachable")},
        "no route",
        "Network is unreachable, MPJoinSynTxConnectErr 1",
    ),
    "no route but a device": (
        {},
        {"route": Route("eth2"), "handshake": SYN},
        "no route",
        "takes 198.18.1.31 for a neighbour on eth2",
    ),
    "announcement lost": (
        {},
        {**ALSO_2, "announced": False},
        "the announcement was lost",
        "no ADD_ADDR",
    ),
    "rejected by a firewall": (
        {},
        {"handshake": SYN | {"refused_by": "something on the way resets it in the name of 198.18.1.31"}},
        "refused",
        "something on the way",
    ),
    "SYN dropped at the client": (
        {"client": replace(CLIENT, filters=("table inet f",))},
        {"client_state": "SYN-SENT"},
        "the SYN does not leave",
        "table inet f",
    ),
    "SYN lost": ({}, {"handshake": SYN}, "the SYN is lost on the way", "routed by gateway"),
    "SYN dropped at the server": (
        {"server": replace(SERVER, filters=("table inet f",))},
        {"handshake": ARRIVED},
        "the SYN is dropped at the server",
        "its packet filter drops in table inet f",
    ),
    "rp_filter at the server": (
        {"server": counting(SERVER, "TcpExt", IPReversePathFilter=4)},
        {"handshake": ARRIVED},
        "the SYN is dropped at the server",
        "rp_filter dropped 4",
    ),
    "called INVALID at the server": (
        {"server": counting(SERVER, "Conntrack", invalid=3)},
        {"handshake": ARRIVED},
        "the SYN is dropped at the server",
        "its connection tracker called 3 packets INVALID",
    ),
    "SYN/ACK lost": ({}, {"handshake": ANSWERED}, "the SYN/ACK is lost on the way back", "routed by gateway"),
    "SYN/ACK dropped": (
        {"client": counting(CLIENT, "TcpExt", IPReversePathFilter=2)},
        {"handshake": ANSWERED | {"answer_arrived": True}},
        "the SYN/ACK is dropped at the client",
        "rp_filter dropped 2",
    ),
    "third packet lost": (
        {"server": counting(SERVER, MPJoinSynRx=5, MPJoinAckRx=1)},
        {"handshake": THIRD, "client_state": "ESTAB", "server_state": "SYN-RECV"},
        "third packet lost on the way",
        "MPJoinSynRx 5, MPJoinAckRx 1",
    ),
    "third packet dropped": (
        {"server": replace(SERVER, filters=("table inet f",))},
        {"handshake": THIRD | {"third_arrived": True}},
        "third packet dropped at the server",
        "table inet f",
    ),
    "an announcement that came in vain": (
        {},
        {"handshake": THIRD | {"third_arrived": True, "taken": True}},
        "it came up on a second connection only",
        "client has no socket for it on the first connection",
    ),
    "third packet lost before a translation": (
        {},
        {"handshake": THIRD | {"syn_arrived": None, "answered": None, "third_arrived": None}},
        "third packet lost",
        "server1 has no subflow",
    ),
    "no answer before a translation": (
        {},
        {"handshake": SYN | {"syn_arrived": None, "answered": None, "third_arrived": None}},
        "the SYN is not answered",
        "no answer came",
    ),
    "no room": (
        {"client": counting(CLIENT, MPJoinSynTx=8), "established": 9},
        {},
        LEFT_OUT,
        "8 joins were tried",
    ),
    "nothing known": ({}, {}, "no rule explains it", "no socket at the client"),
}


@pytest.mark.parametrize(("readings", "changed", "cause", "evidence"), CASES.values(), ids=CASES.keys())
def test_cause(readings: dict, changed: dict, cause: str, evidence: str) -> None:
    found = cause_of(replace(READINGS, **readings), pair(**changed))
    assert found.cause == cause
    assert evidence in found.evidence


@pytest.mark.parametrize("counter", ["MPJoinSynTxBindErr", "MPJoinSynTxConnectErr", "MPJoinSynTxCreatSkErr"])
def test_a_full_connection_excuses_nothing_where_a_join_error_moved(counter: str) -> None:
    client = counting(CLIENT, MPJoinSynTx=8, **{counter: 1})
    assert cause_of(replace(READINGS, client=client, established=9), UNTRIED).cause != LEFT_OUT


def test_a_full_connection_does_not_excuse_a_join_that_failed() -> None:
    readings = replace(READINGS, client=counting(CLIENT, MPJoinSynTx=8), established=9)
    assert cause_of(readings, pair(handshake=SYN)).cause == "the SYN is lost on the way"


def test_a_limit_that_the_inventory_asks_for_is_no_cause() -> None:
    readings = replace(READINGS, client=replace(CLIENT, limits=Limits(1, 8)), room=Room(1, 8))
    assert cause_of(readings, UNTRIED).cause == LEFT_OUT


def test_subflows_that_commands_make_need_no_endpoint() -> None:
    readings = replace(READINGS, client=without(CLIENT, "198.18.2.10"), made_by_endpoints=False)
    assert cause_of(readings, pair(handshake=SYN)).cause == "the SYN is lost on the way"


def test_without_captures_the_states_of_both_ends_tell() -> None:
    half = pair(client_state="ESTAB", server_state="SYN-RECV")
    assert cause_of(READINGS, replace(half, handshake=None)).cause == "third packet lost on the way"
    unanswered = replace(pair(client_state="SYN-SENT"), handshake=None)
    assert cause_of(READINGS, unanswered).cause == "the SYN is lost on the way"
    half_way = replace(pair(client_state="SYN-SENT", server_state="SYN-RECV"), handshake=None)
    assert cause_of(READINGS, half_way).cause == "the SYN/ACK is lost on the way back"


def test_pairs_of_one_cause_share_a_line() -> None:
    by_eth1 = SYN | {"devices": frozenset({"eth1"})}
    pairs = (pair(handshake=SYN), pair(local="198.18.1.10", device="eth1", handshake=by_eth1))
    pairs += (pair(**ALSO_2, announced=False),)
    lines = describe_causes(causes(replace(READINGS, pairs=pairs)), expected=4).splitlines()
    assert lines[0] == "3 of 4 expected subflows are missing"
    assert lines[1].startswith("198.18.2.10 (eth2) > 198.18.1.31, 198.18.1.10 (eth1) > 198.18.1.31: the SYN")
    assert lines[2].startswith("198.18.2.10 (eth2) > 198.18.2.31: the announcement was lost")
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("printed", "complaint", "route"),
    [
        (
            "198.18.1.31 from 198.18.2.10 via 198.18.2.1 dev eth2 uid 0 \\    cache",
            "",
            Route("eth2", "198.18.2.1"),
        ),
        ("198.18.3.31 from 198.18.2.10 dev eth2 uid 0 \\    cache", "", Route("eth2")),
        (
            "",
            "RTNETLINK answers: Network is unreachable\n",
            Route(error="RTNETLINK answers: Network is unreachable"),
        ),
        (
            "unreachable 2001:db8:3::31 dev lo table 7\n",
            "",
            Route(error="unreachable 2001:db8:3::31 dev lo table 7"),
        ),
    ],
)
def test_route(printed: str, complaint: str, route: Route) -> None:
    assert parse_route(printed, complaint) == route


def test_addresses_of_devices_that_are_down_are_not_there() -> None:
    links = [
        {"ifname": "eth1", "flags": ["UP"], "addr_info": [{"local": "198.18.1.10"}, {}]},
        {"ifname": "eth2", "flags": [], "addr_info": [{"local": "198.18.2.10"}]},
        {},
    ]
    assert addresses_of(links) == {"198.18.1.10": "eth1"}


def test_tables_that_drop_by_rule_or_policy() -> None:
    rules = {
        "nftables": [
            {"metainfo": {"version": "1.1"}},
            {"chain": {"family": "ip", "table": "closed", "policy": "drop"}},
            {"rule": {"family": "inet", "table": "f", "expr": [{"match": {}}, {"drop": None}]}},
            {"rule": {"family": "inet", "table": "counts", "expr": [{"counter": {}}, {"accept": None}]}},
        ]
    }
    assert dropping_tables(rules) == ("table inet f", "table ip closed")
    assert dropping_tables(None) == ()


def test_a_join_is_taken_if_the_server_acknowledges_its_third_packet() -> None:
    client, server = IPv4Address("198.18.2.10"), IPv4Address("198.18.1.31")
    asked = Segment(client, 40000, server, 7000, 0, 0, SYN_FLAG, 65535, (MpJoinSyn(3, 1, 2),))
    answer = Segment(server, 7000, client, 40000, 0, 1, SYN_FLAG | ACK, 65535)
    third = Segment(client, 40000, server, 7000, 1, 1, ACK, 65535, (MpJoinAck(bytes(20)),))
    fourth = Segment(server, 7000, client, 40000, 1, 1, ACK, 65535)
    dropped, whole = [asked, answer, third, answer], [asked, answer, third, fourth]
    found = [handshake(Pair("eth2", client, server), {"eth2": each}, each) for each in (dropped, whole)]
    assert [each.third_arrived for each in found] == [True, True]
    assert [each.taken for each in found] == [False, True]
