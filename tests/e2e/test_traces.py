"""A check that passes and leaves a trace fails, and its reason names the trace: seen for every kind of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from mptcp_lab.labs import fabric
from mptcp_lab.paths import ROOT
from tests.e2e.conftest import Configured, environment, suite_run
from tests.e2e.leaving import LEAVING

#: What is left on the client, how it is cleared away, and what the reason must say.
LEFT = (
    ("ip address add 198.18.1.77/24 dev eth1", "ip address del 198.18.1.77/24 dev eth1", "198.18.1.77"),
    ("ip route add blackhole 203.0.113.0/24", "ip route del blackhole 203.0.113.0/24", "203.0.113.0/24"),
    ("ip rule add from 198.18.1.77 pref 500", "ip rule del pref 500", "rules4: new"),
    ("ip -6 rule add from 2001:db8::77 pref 500", "ip -6 rule del pref 500", "rules6: new"),
    (
        "ip mptcp endpoint add 198.18.1.77 id 77 signal",
        "ip mptcp endpoint delete id 77",
        "endpoints: new",
    ),
    ("ip mptcp limits set subflows 3", "ip mptcp limits set subflows 8", "limits.subflows: was 8, is 3"),
    ("nft add table inet left", "nft delete table inet left", "left"),
    (
        "sysctl -qw net.mptcp.add_addr_timeout=77",
        "sysctl -qw net.mptcp.add_addr_timeout=120",
        "sysctls.net.mptcp.add_addr_timeout: was 120, is 77",
    ),
    ("ip link set eth3 up", "ip link set eth3 down", "eth3"),
    ("tc qdisc add dev eth1 root pfifo limit 77", "tc qdisc del dev eth1 root", "pfifo"),
    (
        "ip neighbour add 198.18.1.77 lladdr 02:00:00:00:00:77 dev eth1 nud permanent",
        "ip neighbour del 198.18.1.77 dev eth1",
        "permanent_neighbours: new",
    ),
)
#: Cheap checks, more of them than leave something: the first leaves all of LEFT, the second a pulled cable.
CLAIMS = ("--claim=PROXY-7",)


def pulled_cable(lab: Configured) -> tuple[list[str], list[str]]:
    """Return what pulls server2's cable, and what plugs it in and waits until its port forwards again."""
    ip = f"ip -n {lab.own.paths.fabric}"
    port = fabric.find(lab.own.lab, "server2", "eth1").port
    forwards = f"{ip} -d link show {port} | grep -q 'state forwarding'"
    plug = f"{ip} link set {port} up; until {forwards}; do sleep 0.1; done"
    return [*ip.split(), "link", "set", port, "down"], ["timeout", "30", "sh", "-c", plug]


def test_every_trace_is_named(configured: Configured, tmp_path: Path) -> None:
    ssh = ["ssh", "-F", str(configured.own.paths.state / "ssh_config"), "client"]
    leave, clear = (" && ".join(commands) for commands in list(zip(*LEFT, strict=True))[:2])
    traces = [([*ssh, leave], [*ssh, clear]), pulled_cable(configured)]
    words = [f"client: {word}" if ":" in word else word for *_, word in LEFT], ["the fabric: ports"]
    done = subprocess.run(
        configured.suite_command(tmp_path, *CLAIMS, "-p", "tests.e2e.leaving"),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**environment(), LEAVING: json.dumps(traces)},
        check=False,
    )
    run = suite_run(done.returncode, done.stdout, tmp_path)
    assert run.code == 1, run.output
    red = [check["reason"] for check in run.result["checks"] if check["verdict"] in ("fail", "non-strict")]
    for expected, reason in zip(words, red, strict=True):
        assert "the check left traces: " in reason, reason
        assert [word for word in expected if word not in reason] == [], reason
    assert run.result["counts"]["pass"] > 0, "the last ones leave nothing"


def test_a_check_fails_that_makes_a_kernel_warn(configured: Configured) -> None:
    run = configured.suite(*CLAIMS, "-p", "tests.e2e.noisy_kernel")
    assert run.code == 1, run.output
    (red,) = [check for check in run.result["checks"] if check["verdict"] == "fail"]
    assert "a kernel reported a fault during the check: this machine: WARNING: CPU: 1" in red["reason"]
    kept = [run.folder / evidence["file"] for evidence in red["attempts"][-1]["evidence"]]
    assert any("mptcp_sendmsg_frag" in path.read_text() for path in kept if path.suffix == ".txt")
