"""Readings as JSON and back, and how a rule reads them."""

import json

import pytest

from mptcp_lab.doctor.connection_reading import ConnectionReading, Pair
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import PairReading, from_document, to_document
from mptcp_lab.doctor.service_reading import Listener
from mptcp_lab.doctor.unreadable import Unreadable, read_or
from mptcp_lab.probe.facts import Endpoint, Limits
from mptcp_lab.probe.shapes import Misshapen

CLIENT = HostReading(
    "a",
    limits=Limits(2, 1),
    endpoints=(Endpoint(1, "192.0.2.1", 0, "eth0", frozenset({"subflow", "fullmesh"})),),
    nft=Unreadable("needs root"),
    config=Unreadable("no /proc/config.gz"),
    sysctls={"net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.eth1/5.rp_filter": "2"},
)
SERVER = HostReading("b", listeners=(Listener("mptcp", "::", 7000), Listener("tcp", "::", 22)))
CONNECTION = ConnectionReading(
    7000,
    pairs=(
        Pair("192.0.2.1", "192.0.2.2", "established", is_first=True),
        Pair("192.0.2.1", "198.51.100.2", "pending"),
        Pair("192.0.2.1", "203.0.113.2", "missing", is_expected=False),
    ),
)


def test_readings_survive_json() -> None:
    reading = PairReading(CLIENT, SERVER, 7000, CONNECTION)
    assert from_document(json.loads(json.dumps(to_document(reading)))) == reading


def test_a_recorded_reading_may_leave_out_what_has_a_default() -> None:
    reading = from_document({"client": {"name": "a"}, "server": None, "port": 7000})
    assert reading == PairReading(HostReading("a"), None, 7000)


@pytest.mark.parametrize("document", [[], {"client": {}}, {"client": {"name": "a"}, "server": 3, "port": 1}])
def test_anything_else_is_refused(document: object) -> None:
    with pytest.raises(Misshapen):
        from_document(document)


def test_what_could_not_be_read_is_not_empty() -> None:
    assert CLIENT.unreadable() == {"nft": "needs root", "config": "no /proc/config.gz"}
    assert read_or(CLIENT.nft, "") == ""
    assert read_or(SERVER.nft, "none") == ""


def test_lookups_of_a_host() -> None:
    assert CLIENT.rp_filter("eth1.5") == 2
    assert [each.protocol for each in SERVER.listeners_on(7000)] == ["mptcp"]
    assert CLIENT.endpoint("192.0.2.9") is None


def test_a_pair_that_is_not_expected_is_not_missing() -> None:
    assert [each.server for each in CONNECTION.missing_pairs()] == ["198.51.100.2"]


def test_a_proxy_makes_two_legs() -> None:
    reading = PairReading(CLIENT, SERVER, 80, CONNECTION, proxy=HostReading("p"), server_port=7000)
    assert [(leg.client.name, leg.server and leg.server.name, leg.port) for leg in reading.legs] == [
        ("a", "p", 80),
        ("p", "b", 7000),
    ]
