"""Render the project's templates for a small fixed lab.

`python -m tests.roles.golden` writes them to tests/roles/golden/; look at the difference before committing.
"""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import yaml

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("golden")
LAB = yaml.safe_load(Path(__file__).with_name("lab.yml").read_text())


def lab_filters() -> dict[str, Callable[..., Any]]:
    """Return the lab's own filters by their short names."""
    spec = importlib.util.spec_from_file_location("lab_filters", ROOT / "plugins/filter/lab.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, Callable[..., Any]] = module.FilterModule().filters()
    return found


def filters() -> dict[str, Callable[..., Any]]:
    """Return the lab's filters, by both of their names, and the filters of Ansible that templates use."""
    ours = {"split": str.split, "extract": lambda key, values: values[key], "combine": lambda a, b: a | b}
    ours["regex_replace"] = lambda text, pattern, new: re.sub(pattern, new, text)
    lab = lab_filters()
    return {**lab, **{f"mptcp.lab.{name}": function for name, function in lab.items()}, **ours}


FILTERS = filters()


def render(template: str, role: str, **variables: Any) -> str:
    """Render one template as Ansible does, with the role's defaults below the given variables."""
    environment = jinja2.Environment(  # configuration files, not HTML
        loader=jinja2.FileSystemLoader(ROOT / "templates"),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(FILTERS)
    defaults = yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text()) or {}
    return environment.get_template(template).render({**defaults, **variables})


def network(host: str) -> str:
    routes = FILTERS["lab_routes"](host, LAB["hosts"], LAB["segments"], LAB["gateways"])
    nics = LAB["hosts"][host]["lab_nics"]
    return render("network.sh.j2", "lab_network", lab_network_nics=nics, lab_network_routes=routes)


def network_settings(host: str) -> str:
    return render("network-sysctl.conf.j2", "lab_network", lab_network_nics=LAB["hosts"][host]["lab_nics"])


def gateway(host: str) -> str:
    devices = [nic["device"] for nic in LAB["hosts"][host]["lab_nics"]]
    return render("gateway.nft.j2", "gateway", gateway_devices=devices)


def network_manager(template: str, host: str, **variables: Any) -> str:
    """Render one of NetworkManager's files for a host whose NICs NetworkManager controls."""
    nics = LAB["hosts"][host]["lab_nics"]
    return render(
        template,
        "lab_network",
        **{"lab_network_manager": "networkmanager"} | variables,
        lab_network_nics=nics,
        lab_network_routes=FILTERS["lab_routes"](host, LAB["hosts"], LAB["segments"], LAB["gateways"]),
        lab_network_endpoints=FILTERS["lab_endpoints"](nics, LAB["segments"], ["subflow", "fullmesh"]),
        nic=nics[0],
    )


def mptcp(host: str, flags: list[str], enabled: bool = True, **variables: Any) -> str:
    nics = LAB["hosts"][host]["lab_nics"]
    endpoints = FILTERS["lab_endpoints"](nics, LAB["segments"], flags) if enabled else []
    return render("mptcp.service.j2", "mptcp", mptcp_endpoints=endpoints, mptcp_enabled=enabled, **variables)


def sysctls(**variables: Any) -> str:
    return render("mptcp-sysctl.conf.j2", "mptcp", **variables)


def proxy(template: str, role: str, engine: str, name: str = "proxy", auto: str = "preload") -> str:
    host = LAB["hosts"][name]
    services = FILTERS["lab_backends"](host["lab_services"], name, LAB["hosts"], LAB["segments"])
    variables = {
        f"{role}_services": FILTERS["of_engine"](services, engine),
        "mptcp_service_auto": auto,
        f"{role}_addresses": FILTERS["lab_addresses"](host["lab_nics"], LAB["segments"], ["path"]),
    }
    return render(template, role, **variables)


def drop_in(method: str) -> str:
    haproxy = yaml.safe_load((ROOT / "roles/haproxy/vars/main.yml").read_text())
    return render(
        "drop-in.conf.j2",
        "mptcp_service",
        mptcp_service_unit="haproxy.service",
        mptcp_service_listeners=[{"name": "test1", "port": 7000, "mptcp": method}],
        mptcp_service_capabilities=haproxy["__haproxy_capabilities"],
        mptcp_service_writable=haproxy["__haproxy_writable"],
        mptcp_service_settings=haproxy["__haproxy_settings"],
        __mptcp_service_methods=[method],
    )


def origin() -> str:
    host = LAB["hosts"]["server"]
    variables = {
        "item": host["lab_services"][0],
        "origin_addresses": FILTERS["lab_addresses"](host["lab_nics"], LAB["segments"], ["path", "core"]),
    }
    return render("origin.json.j2", "origin", **variables)


def renderings() -> dict[str, str]:
    """Return every rendering by the name of its golden file."""
    return {
        "client.network.sh": network("client"),
        "gateway.network.sh": network("gateway"),
        "client.mptcp.service": mptcp("client", ["subflow", "fullmesh"]),
        "laminar-client.mptcp.service": mptcp("client", ["subflow", "laminar"]),
        "proxy.mptcp.service": mptcp("proxy", ["signal"]),
        "server.mptcp.service": mptcp("server", ["signal"], enabled=False),
        "client.mptcp-sysctl.conf": sysctls(
            mptcp_sysctls={"stale_loss_cnt": 4}, mptcp_congestion_control="reno"
        ),
        "server.mptcp-sysctl.conf": sysctls(mptcp_enabled=False),
        "older-kernel.mptcp-sysctl.conf": sysctls(
            mptcp_sysctls={"blackhole_timeout": 0, "stale_loss_cnt": 4},
            mptcp_settings_found=["enabled", "stale_loss_cnt"],
        ),
        "legacy.mptcp-sysctl.conf": sysctls(
            mptcp_profile="legacy", mptcp_legacy_sysctls={"mptcp_syn_retries": 5}
        ),
        "legacy.mptcp.service": mptcp("client", ["subflow", "fullmesh"], mptcp_profile="legacy"),
        "nm-client.mptcp.service": mptcp("client", ["subflow", "fullmesh"], mptcp_owner="networkmanager"),
        "nm-client.network.sh": network_manager("network-manager.sh.j2", "client"),
        "nm-client.nmconnection": network_manager("network-manager.nmconnection.j2", "client"),
        "nm-client.conf": network_manager("network-manager.conf.j2", "client"),
        "unit-client.nm.conf": network_manager(
            "network-manager.conf.j2", "client", lab_network_manager="unit"
        ),
        "client.mptcpd.conf": render("mptcpd.conf.j2", "mptcp"),
        "client.network-sysctl.conf": network_settings("client"),
        "gateway.gateway.nft": gateway("gateway"),
        "proxy.forward.nft": proxy("forwarder.nft.j2", "forwarder", "forwarder"),
        "proxy.haproxy.cfg": proxy("haproxy.cfg.j2", "haproxy", "haproxy"),
        "newer-proxy.haproxy.cfg": proxy("haproxy.cfg.j2", "haproxy", "haproxy", auto="native"),
        "far-proxy.haproxy.cfg": proxy("haproxy.cfg.j2", "haproxy", "haproxy", name="far"),
        "proxy.nginx.conf": proxy("nginx.conf.j2", "nginx_stream", "nginx"),
        "native.drop-in.conf": drop_in("native"),
        "preload.drop-in.conf": drop_in("preload"),
        "server.origin.json": origin(),
    }


if __name__ == "__main__":
    for name, text in renderings().items():
        (GOLDEN / name).write_text(text)
