"""Test the filters that derive routes, endpoints and addresses from the inventory."""

import copy

import pytest

from tests.roles.golden import FILTERS, LAB

HOSTS, SEGMENTS = LAB["hosts"], LAB["segments"]


def routes(host: str, gateways: list[str]) -> set[tuple[str, str, str | None, bool]]:
    found = FILTERS["lab_routes"](host, HOSTS, SEGMENTS, gateways)
    return {(r["device"], r["to"], r.get("via"), r["main"]) for r in found}


def test_a_nic_reaches_what_its_gateway_reaches() -> None:
    assert routes("client", ["gateway"]) == {
        ("eth1", "198.18.1.0/24", None, False),
        ("eth1", "2001:db8:1::/64", None, False),
        ("eth1", "198.18.10.0/24", "198.18.1.1", True),
        ("eth1", "2001:db8:10::/64", "2001:db8:1::1", True),
        ("eth2", "198.18.2.0/24", None, False),
    }


def test_segments_a_host_is_plugged_into_stay_out_of_the_main_table() -> None:
    assert not any(main for _, _, _, main in routes("proxy", ["gateway"]))


def test_without_gateways_only_own_segments() -> None:
    assert {via for _, _, via, _ in routes("client", [])} == {None}


def test_a_gateway_routes_nothing_through_itself() -> None:
    assert {via for _, _, via, _ in routes("gateway", ["gateway"])} == {None}


def test_a_nic_that_is_down_has_no_endpoint_and_the_others_keep_their_ids() -> None:
    nics = copy.deepcopy(HOSTS["client"]["lab_nics"])
    assert [e["id"] for e in FILTERS["lab_endpoints"](nics, SEGMENTS, ["subflow"])] == [1, 2]
    nics[0]["state"], nics[1]["state"] = "down", "up"
    assert [e["id"] for e in FILTERS["lab_endpoints"](nics, SEGMENTS, ["subflow"])] == [3]


def test_a_nics_own_flags_go_before_the_hosts() -> None:
    nics = copy.deepcopy(HOSTS["client"]["lab_nics"])
    nics[0]["endpoint"] = ["subflow", "backup"]
    flags = [endpoint["flags"] for endpoint in FILTERS["lab_endpoints"](nics, SEGMENTS, ["subflow"])]
    assert flags == [["subflow", "backup"], ["subflow", "backup"]]


def test_backend_without_a_common_segment_is_refused_by_name() -> None:
    services = [{"engine": "haproxy", "backends": [{"host": "server", "port": 7000}]}]
    with pytest.raises(ValueError, match=r"client: its backend server is on none of the segments path1"):
        FILTERS["lab_backends"](services, "client", HOSTS, SEGMENTS)


def test_a_proxy_as_backend_is_reached_on_a_path_and_an_origin_on_a_core_segment() -> None:
    listed = FILTERS["lab_backends"](HOSTS["proxy"]["lab_services"], "proxy", HOSTS, SEGMENTS)
    services = {service["name"]: service for service in listed}
    (far, far6) = services["relay"]["backends"]
    assert (far["address"], far["port"], far["mptcp"]) == ("198.18.1.22", 7004, "native")
    assert (far6["address"], far6["port"]) == ("2001:db8:1::26", 7004)
    assert services["test1"]["backends"][0]["address"] == "198.18.10.31"


def test_nginx_reaches_backends_with_mptcp_by_the_wrapper_only() -> None:
    services = [{"engine": "nginx", "backends": [{"host": "far", "service": "test1", "mptcp": "auto"}]}]
    (service,) = FILTERS["lab_backends"](services, "proxy", HOSTS, SEGMENTS)
    assert service["backends"][0]["mptcp"] == "preload"


def test_methods_of_connections_to_backends_count() -> None:
    def listener(mptcp: str, *backends: str) -> dict[str, object]:
        return {"name": "x", "mptcp": mptcp, "backends": [{"mptcp": backend} for backend in backends]}

    assert FILTERS["lab_methods"]([listener("off", "native"), listener("native", "off")]) == ["native", "off"]
    assert FILTERS["lab_methods"]([{"name": "alone", "mptcp": "auto"}]) == ["auto"]
    assert FILTERS["lab_methods"]([listener("auto", "preload")]) == ["auto", "preload"]
    assert FILTERS["lab_native_backends"]([listener("off", "native"), listener("native")]) == ["x"]


ALL = ["forwarder", "gateway", "haproxy", "lab_network", "lock", "mptcp", "nginx_stream", "origin"]
ORIGIN = {"engine": "origin", "name": "origin"}


def retired(
    owners: list[str], services: list[dict[str, str]], groups: list[str], **variables: str
) -> list[str]:
    services = [{"name": "test", **service} for service in services]
    found: list[str] = FILTERS["lab_retired"](owners, services, groups, variables)
    return found


def test_a_role_whose_last_service_is_gone_is_retired() -> None:
    assert retired(ALL, [{"engine": "nginx"}], ["proxies"]) == ["forwarder", "gateway", "haproxy", "origin"]


def test_a_forwarder_needs_the_gateways_sysctls() -> None:
    assert retired(["forwarder", "gateway"], [{"engine": "forwarder"}], ["forwarders"]) == []


def test_a_gateway_without_services_stays_one() -> None:
    assert retired(["forwarder", "gateway"], [], ["gateways"]) == ["forwarder"]


def test_a_host_that_left_its_group_has_no_use_for_the_groups_role() -> None:
    services = [{"engine": "haproxy"}, ORIGIN]
    owners = ["haproxy", "origin", "origin@origin"]
    assert retired(owners, services, ["clients"]) == owners


def test_what_was_not_found_is_not_retired() -> None:
    assert retired([], [], ["clients"]) == []


def test_origins_that_are_no_services_are_retired() -> None:
    assert retired(["origin", "origin@late-one", "origin@origin"], [ORIGIN], ["origins"]) == [
        "origin@late-one"
    ]


@pytest.mark.parametrize(
    ("engine", "role", "variable"),
    [("nginx", "nginx_stream", "nginx_stream_source"), ("haproxy", "haproxy", "haproxy_source")],
)
def test_a_build_goes_with_its_source_or_with_its_engine(engine: str, role: str, variable: str) -> None:
    owners, services, source = [f"{engine}_source", role], [{"engine": engine}], {variable: "x.tar.gz"}
    assert retired(owners, services, ["proxies"], **source) == []
    assert retired(owners, services, ["proxies"]) == [f"{engine}_source"]
    assert retired(owners, [], ["proxies"], **source) == sorted(owners)


@pytest.mark.parametrize("value", ["10s;\n\t\tserver 127.0.0.1:1", "a b", "';id;'", "$(id)", "", "a\n"])
def test_a_value_that_is_no_single_word_does_not_reach_a_configuration(value: str) -> None:
    with pytest.raises(ValueError, match="not one word"):
        FILTERS["one_word"](value)


def test_addresses_times_and_names_are_words() -> None:
    words = ["198.18.1.10", "2001:db8:1::10", "10s", 7000, "test1-proxy-v2", "/etc/haproxy/errors"]
    assert [FILTERS["one_word"](word) for word in words] == [str(word) for word in words]


def test_live_state_is_written_as_the_kernel_writes_it() -> None:
    """Check short forms of addresses, no routes for a NIC that is down, and the name of the main table."""
    nics = copy.deepcopy(HOSTS["client"]["lab_nics"])
    nics[0]["ipv6"] = "2001:0DB8:1::0010/64"
    routes = FILTERS["lab_routes"]("client", HOSTS, SEGMENTS, ["gateway"])
    assert FILTERS["lab_network_live"](nics, routes, 7100, 71) == {
        "protocol": 71,
        "links": ["eth1 up", "eth2 down"],
        "addresses": ["198.18.1.10/24 dev eth1", "2001:db8:1::10/64 dev eth1", "198.18.2.10/24 dev eth2"],
        "rules": [
            "from 198.18.1.10 lookup 7101 priority 7101",
            "from 2001:db8:1::10 lookup 7101 priority 7101",
            "from 198.18.2.10 lookup 7102 priority 7102",
        ],
        "routes": [
            "198.18.1.0/24 dev eth1 table 7101",
            "2001:db8:1::/64 dev eth1 table 7101",
            "198.18.10.0/24 via 198.18.1.1 dev eth1 table 7101",
            "198.18.10.0/24 via 198.18.1.1 dev eth1 table main",
            "2001:db8:10::/64 via 2001:db8:1::1 dev eth1 table 7101",
            "2001:db8:10::/64 via 2001:db8:1::1 dev eth1 table main",
        ],
    }
    assert FILTERS["lab_network_live"](nics, routes, 7100, 71, "networkmanager") == {
        "links": ["eth1 up", "eth2 down"],
        "addresses": ["198.18.1.10/24 dev eth1", "2001:db8:1::10/64 dev eth1"],
    }


def test_live_endpoints_and_listeners() -> None:
    endpoint = {
        "id": 3,
        "address": "2001:DB8::1",
        "device": "eth1",
        "flags": ["subflow", "laminar", "backup"],
    }
    assert FILTERS["lab_endpoints_live"]([endpoint]) == ["2001:db8::1 id 3 dev eth1 backup subflow"]
    services = [{"mptcp": "preload", "port": 7000}, {"mptcp": "off", "port": 7001}, {"port": 7002}]
    assert FILTERS["lab_listeners_live"](services, ["198.18.1.1", "2001:DB8::1"]) == [
        "mptcp 198.18.1.1:7000",
        "mptcp [2001:db8::1]:7000",
        "tcp 198.18.1.1:7001",
        "tcp [2001:db8::1]:7001",
        "tcp 198.18.1.1:7002",
        "tcp [2001:db8::1]:7002",
    ]
