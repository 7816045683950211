"""A wrong inventory gets one error that names host, variable, what is wrong and an example of right."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mptcp_lab.inventory import InventoryError, load, resolve
from mptcp_lab.inventory.document import document_of
from mptcp_lab.inventory.validate import lab_from
from mptcp_lab.paths import ROOT

NIC = {"segment": "path1", "device": "eth1", "ipv4": "198.18.1.10/24"}
SERVED = {"name": "origin", "engine": "origin", "port": 7000, "mptcp": "off"}
PROXIED = {"name": "test1", "engine": "haproxy", "port": 7000, "backends": [{"host": "b", "port": 7000}]}
DOCUMENT: dict[str, Any] = {
    "all": {"children": ["clients", "origins", "proxies"]},
    "clients": {"hosts": ["a"]},
    "origins": {"hosts": ["b"]},
    "proxies": {"hosts": ["p"]},
    "_meta": {
        "hostvars": {
            name: {
                "lab_name": "tiny",
                "lab_segments": {"path1": {"kind": "path", "ipv4": "198.18.1.0/24"}},
                "lab_nics": [{**NIC, "ipv4": f"198.18.1.{number}/24"}],
                "lab_services": services,
            }
            for name, number, services in (("a", 10, []), ("b", 31, [SERVED]), ("p", 21, [PROXIED]))
        }
    },
}


def variables(document: dict[str, Any], host: str) -> dict[str, Any]:
    found: dict[str, Any] = document["_meta"]["hostvars"][host]
    return found


def nic(host: str, **change: Any):
    return lambda document: variables(document, host)["lab_nics"][0].update(change)


def service(host: str, **change: Any):
    return lambda document: variables(document, host)["lab_services"][0].update(change)


def backend(host: str, port: int):
    return service("p", backends=[{"host": host, "port": port}])


def relayed(change: dict[str, Any] | None = None, backend: dict[str, Any] | None = None, **second: Any):
    """Return the change that adds a second proxy q, and a service `relay` of p whose backend is a proxy.

    `change` changes the relay's service, `backend` its backend, and `second` the service of q.
    """

    def add(document: dict[str, Any]) -> None:
        document["proxies"]["hosts"] = ["p", "q"]
        hostvars = document["_meta"]["hostvars"]
        hostvars["q"] = copy.deepcopy(hostvars["p"])
        nic("q", ipv4="198.18.1.22/24")(document)
        service("q", mptcp="native", **second)(document)
        way = {"host": "q", "service": "test1", "mptcp": "native", **(backend or {})}
        way = {key: value for key, value in way.items() if value is not None}
        relay = {**PROXIED, "name": "relay", "port": 7001, "backends": [way], **(change or {})}
        variables(document, "p")["lab_services"].append(relay)

    return add


def mptcp_off_at_the_relay(document: dict[str, Any]) -> None:
    relayed()(document)
    variables(document, "p")["lab_mptcp"] = "off"


def proxies_on_a_core_segment(document: dict[str, Any]) -> None:
    relayed()(document)
    for host in document["_meta"]["hostvars"].values():
        host["lab_segments"] = {"path1": {"kind": "core", "ipv4": "198.18.1.0/24"}}


def without_device(document: dict[str, Any]) -> None:
    del variables(document, "a")["lab_nics"][0]["device"]


def management_nic(document: dict[str, Any]) -> None:
    variables(document, "b")["lab_mgmt_device"] = "eth1"


def second_service(document: dict[str, Any]) -> None:
    variables(document, "b")["lab_services"].append({**SERVED, "name": "other"})


def no_function(document: dict[str, Any]) -> None:
    document["clients"]["hosts"] = []
    document["all"]["hosts"] = ["a"]


def attacker_with_a_second_function(document: dict[str, Any]) -> None:
    document["attackers"] = {"hosts": ["a"]}


CASES = {
    "duplicate address": (nic("p", ipv4="198.18.1.10/24"), "p", "lab_nics[0].ipv4", "already a's"),
    "unknown segment": (nic("a", segment="path9"), "a", "lab_nics[0].segment", "unknown segment 'path9'"),
    "no device": (without_device, "a", "lab_nics[0].device", "needs its device name"),
    "service without backend": (service("p", backends=[]), "p", "lab_services[0]", "has no backend"),
    "backend that is no host": (backend("x", 1), "p", "lab_services[0].backends[0].host", "no host 'x'"),
    "backend's port not offered": (backend("b", 9), "p", "lab_services[0].backends[0].port", "no port 9"),
    "address outside its segment": (nic("a", ipv4="10.0.0.1/24"), "a", "lab_nics[0].ipv4", "not in segment"),
    "not an address": (nic("a", ipv4="198.18.1"), "a", "lab_nics[0].ipv4", "198.18.1"),
    "wrong family": (nic("a", ipv6="198.18.1.10/24"), "a", "lab_nics[0].ipv6", "is not IPv6"),
    "unknown key": (nic("a", speed="1g"), "a", "lab_nics[0].speed", "unknown key 'speed'"),
    "unknown flag": (nic("a", endpoint=["sub"]), "a", "lab_nics[0].endpoint", "'sub' is not one of"),
    "flags that are no list": (nic("a", endpoint="subflow"), "a", "lab_nics[0].endpoint", "not a list"),
    "flags that exclude each other": (
        nic("a", endpoint=["signal", "fullmesh"]), "a", "lab_nics[0].endpoint", "exclude each other"
    ),
    "rate that is none": (nic("a", rate="fast"), "a", "lab_nics[0].rate", "not a rate"),
    "management NIC": (management_nic, "b", "lab_nics[0].device", "management NIC"),
    "unknown engine": (service("p", engine="squid"), "p", "lab_services[0].engine", "'squid' is not one of"),
    "unknown method": (service("p", mptcp="maybe"), "p", "lab_services[0].mptcp", "'maybe' is not one of"),
    "port that is none": (service("p", port=70000), "p", "lab_services[0].port", "not a port number"),
    "unknown listen": (
        service("p", listen="dual"),
        "p",
        "lab_services[0].listen",
        "'dual' is not one of addresses, wildcard, dual-stack, ipv6-only",
    ),
    "listen on nothing": (service("p", listen=[]), "p", "lab_services[0].listen", "would not listen"),
    "listen on no address": (
        service("p", listen=["198.18.1.21/24"]),
        "p",
        "lab_services[0].listen",
        "is not an IPv4 or IPv6 address without prefix length",
    ),
    "listen twice": (
        service("p", listen=["198.18.1.21", "198.18.1.21"]),
        "p",
        "lab_services[0].listen",
        "an address is listed twice",
    ),
    "listen on another host's address": (
        service("p", listen=["198.18.1.31"]),
        "p",
        "lab_services[0].listen",
        "198.18.1.31 is no address of a NIC of p that is up",
    ),
    "port taken": (second_service, "b", "lab_services[1].port", "taken by origin"),
    "attacker that is a client too": (attacker_with_a_second_function, "a", "groups", "is also in clients"),
    "host without function": (no_function, "a", "groups", "in none of"),
    "relay to no host": (
        relayed(backend={"host": "x"}), "p", "lab_services[1].backends[0].host", "no host 'x'"
    ),
    "relay to no service": (
        relayed(backend={"service": "test2"}), "p", "lab_services[1].backends[0].service",
        "q has no service 'test2' (it has test1) (did you mean test1?)",
    ),
    "relay to a port and a service": (
        relayed(backend={"port": 7000}), "p", "lab_services[1].backends[0]", "either a port or the name"
    ),
    "relay to neither port nor service": (
        relayed(backend={"service": None}), "p", "lab_services[1].backends[0]", "either a port or the name"
    ),
    "relay by an unknown method": (
        relayed(backend={"mptcp": "wrapper"}), "p", "lab_services[1].backends[0].mptcp", "'wrapper' is not"
    ),
    "relay by nginx's own option": (
        relayed({"engine": "nginx", "mptcp": "native"}), "p", "lab_services[1].backends[0].mptcp",
        "nginx has no option for MPTCP to backends; only the wrapper (preload) adds it",
    ),
    "relay by the wrapper of another listener's method": (
        relayed({"mptcp": "native"}, {"mptcp": "preload"}), "p", "lab_services[1].backends[0].mptcp",
        "turns every socket of haproxy to MPTCP, but the listener has native",
    ),
    "relay of nginx by auto beside a listener without MPTCP": (
        relayed({"engine": "nginx"}, {"mptcp": "auto"}), "p", "lab_services[1].backends[0].mptcp",
        "turns every socket of nginx to MPTCP, but the listener has off",
    ),
    "relay by the program's option under the wrapper": (
        relayed({"mptcp": "preload"}), "p", "lab_services[1].backends[0].mptcp", "to MPTCP already"
    ),
    "relay of a forwarder": (
        relayed({"engine": "forwarder"}), "p", "lab_services[1].backends[0].mptcp", "unknown key 'mptcp'"
    ),
    "relay to itself": (
        relayed(backend={"host": "p", "service": "relay"}), "p", "lab_services[1].backends[0]",
        "in a circle: p's relay > p's relay",
    ),
    "relay in a circle": (
        relayed(backends=[{"host": "p", "service": "relay"}]), "p", "lab_services[1].backends[0]",
        "in a circle: p's relay > q's test1 > p's relay",
    ),
    "relay from a host without MPTCP": (
        mptcp_off_at_the_relay, "p", "lab_services[1].backends[0].mptcp", "cannot connect with MPTCP"
    ),
    "relay over a core segment": (
        proxies_on_a_core_segment, "p", "lab_services[1].backends[0].host", "listens on path segments only"
    ),
    "relay without the header that is expected": (
        relayed(accept_proxy=True), "p", "lab_services[1].backends[0]",
        "q's test1 expects a PROXY header, and relay sends none",
    ),
    "header expected by a text": (
        service("p", accept_proxy="yes"), "p", "lab_services[0].accept_proxy", "is not true or false"
    ),
}  # fmt: skip


@pytest.mark.parametrize("word", ["addresses", "wildcard", "dual-stack", "ipv6-only"])
def test_a_service_listens_on_addresses_or_on_all(word: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    service("p", listen=word)(document)
    assert lab_from(document, "tiny").hosts["p"].services[0].listen == word


def test_a_service_listens_on_listed_addresses() -> None:
    document = copy.deepcopy(DOCUMENT)
    service("p", listen=["198.18.1.21"])(document)
    assert lab_from(document, "tiny").hosts["p"].services[0].listen_on == ("198.18.1.21",)


def test_the_document_itself_is_sound() -> None:
    lab = lab_from(DOCUMENT, "tiny")
    assert [host.name for host in lab.hosts_with("proxies")] == ["p"]
    assert lab.hosts["p"].services[0].backends[0].host == "b"


@pytest.mark.parametrize(
    ("listener", "method"),
    [("off", "native"), ("native", "native"), ("auto", "auto"), ("preload", "preload")],
)
def test_a_backend_is_the_service_of_another_proxy(listener: str, method: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    relayed({"mptcp": listener, "proxy_protocol": 1}, {"mptcp": method}, accept_proxy=True)(document)
    lab = lab_from(document, "tiny")
    (backend,) = lab.hosts["p"].service("relay").backends
    assert (backend.host, backend.service, backend.port, backend.mptcp) == ("q", "test1", 7000, method)
    assert lab.hosts["q"].service("test1").accepts_proxy


def test_an_endpoints_flags_are_its_nics_or_the_hosts_or_what_the_host_is_for() -> None:
    document = copy.deepcopy(DOCUMENT)
    variables(document, "b")["lab_endpoint_flags"] = ["signal", "backup"]
    nic("p", endpoint=["subflow"])(document)
    lab = lab_from(document, "tiny")
    assert {name: host.nics[0].endpoint for name, host in lab.hosts.items()} == {
        "a": ("subflow", "fullmesh"),
        "b": ("signal", "backup"),
        "p": ("subflow",),
    }


@pytest.mark.parametrize(("spoil", "host", "variable", "problem"), CASES.values(), ids=CASES.keys())
def test_each_fault_is_named(spoil, host: str, variable: str, problem: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    spoil(document)
    with pytest.raises(InventoryError) as caught:
        lab_from(document, "tiny")
    assert (caught.value.host, caught.value.variable) == (host, variable)
    assert problem in caught.value.problem
    assert caught.value.example


def test_words_paths_and_names_are_resolved() -> None:
    assert resolve("inventory") == ROOT / "inventories/embedded"
    assert resolve("embedded") == resolve(str(ROOT / "inventories/embedded"))
    with pytest.raises(InventoryError, match="no such inventory"):
        resolve("nowhere")


@pytest.mark.parametrize("text", ["all: [", "all: {hosts: }\n", ""], ids=["not yaml", "no host", "empty"])
def test_a_file_that_is_no_inventory_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "hosts.yml").write_text(text)
    with pytest.raises(InventoryError):
        load(tmp_path)


def test_the_command_says_it_in_one_error_and_exit_code_4(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("all: {hosts: }\n")
    command = [sys.executable, "-m", "mptcp_lab.inventory", "validate", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert "no host is listed" in done.stderr


def test_the_example_for_hardware_is_sound() -> None:
    lab = load(resolve("hardware.example"))
    assert lab.flavour == "hardware"
    assert {host.name for host in lab.hosts_with("origins")} == {"server1", "server2"}


def test_the_example_for_kernels_is_the_embedded_lab_on_another_kernel() -> None:
    lab, embedded = load(resolve("kernel.example")), load(resolve("embedded"))
    assert lab.segments == embedded.segments and list(lab.hosts) == list(embedded.hosts)
    assert {host.variables["lab_kernel"] for host in lab.hosts.values()} == {"debian-12"}


@pytest.mark.parametrize("flavour", ["hardware", "vm"])
def test_hosts_with_kernels_of_their_own_run_on_no_named_kernel(flavour: str) -> None:
    document = document_of(load(resolve("kernel.example")))
    for variables in document["_meta"]["hostvars"].values():
        variables["lab_flavour"] = flavour
    with pytest.raises(InventoryError, match="lab_kernel"):
        lab_from(document, "a test")
