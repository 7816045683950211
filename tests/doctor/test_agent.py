"""What the agent reads of a host: outputs of tools, sockets, processes, and the filter of captures."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from mptcp_lab.agent.lab_agent.basics import AgentError
from mptcp_lab.agent.lab_agent.capture import Capture
from mptcp_lab.agent.lab_agent.examine import arp, network, processes, services, sockets, system
from mptcp_lab.agent.lab_agent.examine.basics import Tool, attempt
from mptcp_lab.agent.lab_agent.examine.examiner import Examiner
from mptcp_lab.agent.lab_agent.packet_filter import keep_ports
from mptcp_lab.doctor.watch import segments

MPTCP = 262
SHOWN = """\
Id=web.service
LoadState=loaded
ActiveState=active
FragmentPath={unit}
DropInPaths=
Environment=SECRET=1 LD_PRELOAD=/usr/lib/libmptcpwrap.so
ExecStart={{ path=/usr/sbin/web ; argv[]=/usr/sbin/web --password x ; }}
NeedDaemonReload=yes
ActiveEnterTimestampMonotonic=5000000
TriggeredBy=

Id=mptcp.service
LoadState=not-found
ActiveState=inactive
"""


def listener(stack: ExitStack, protocol: int, family: int = socket.AF_INET) -> socket.socket:
    sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, protocol))
    sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    sock.listen(7)
    return sock


@pytest.mark.parametrize(("protocol", "has_fallen_back"), [(MPTCP, False), (socket.IPPROTO_TCP, True)])
def test_a_connection_that_fell_back_is_told_from_one_that_did_not(
    protocol: int, has_fallen_back: bool
) -> None:
    with ExitStack() as stack:
        port = listener(stack, protocol).getsockname()[1]
        client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP))
        client.connect(("127.0.0.1", port))
        own = [each for each in sockets.read_connections([port]) if each["remote_port"] == port]
        (found,) = (each for each in own if each["protocol"] == "mptcp")
        assert found["has_fallen_back"] is has_fallen_back


def test_listeners_are_told_apart_by_protocol() -> None:
    with ExitStack() as stack:
        opened = {name: listener(stack, number) for name, number in (("mptcp", MPTCP), ("tcp", 6))}
        found = {each["port"]: each for each in sockets.read_listeners()}
        for name, sock in opened.items():
            port = sock.getsockname()[1]
            assert (found[port]["protocol"], found[port]["backlog"]) == (name, 7)
            assert sockets.is_listening(port)
            owner = processes.holders({found[port]["inode"]})
            assert owner[found[port]["inode"]] == os.getpid()
            program = processes.read_process(os.getpid(), True)["program"]
            assert Path(program) == Path(sys.executable).resolve()


def test_a_connection_has_its_subflows() -> None:
    with ExitStack() as stack:
        server = listener(stack, MPTCP)
        client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP))
        client.connect(server.getsockname())
        accepted = stack.enter_context(server.accept()[0])
        found = sockets.read_connections([accepted.getsockname()[1]])
    assert [(each["protocol"], each["subflows"]) for each in found] == 2 * [("mptcp", [["127.0.0.1"] * 2])]


def test_a_capture_of_ports_has_only_their_packets_over_both_families() -> None:
    with ExitStack() as stack:
        wanted = [listener(stack, 6, family) for family in (socket.AF_INET, socket.AF_INET6)]
        other = listener(stack, 6)
        ports = [sock.getsockname()[1] for sock in wanted]
        capture = Capture(["lo"], 160, ports)
        for sock in (*wanted, other):
            with socket.socket(sock.family) as client:
                client.connect(sock.getsockname()[:2])
        capture.stop()
        found = segments(capture.data)
    assert {port for each in found for port in (each.sport, each.dport)} >= set(ports)
    assert all({each.sport, each.dport} & set(ports) for each in found)


def test_a_filter_of_many_ports_has_jumps_that_fit() -> None:
    assert all(len(each) == 8 for each in keep_ports(range(1, 100), 160))


def test_routes_with_several_hops_and_derived_ones() -> None:
    hops = [{"dev": "eth1", "gateway": "192.0.2.1"}, {"dev": "eth2", "gateway": "198.51.100.1"}]
    found = network.route_of({"dst": "default", "nexthops": hops, "table": 101}, 4)
    assert [(each["device"], each["gateway"], each["table"]) for each in found] == [
        ("eth1", "192.0.2.1", "101"),
        ("eth2", "198.51.100.1", "101"),
    ]
    assert not network.route_of({"dst": "192.0.2.9", "type": "local", "table": "local"}, 4)


def test_a_rule_keeps_its_prefix() -> None:
    (rule,) = network.rule_of({"priority": 5, "src": "192.0.2.0", "srclen": 24, "table": "101"}, 4)
    assert (rule["source"], rule["destination"], rule["table"]) == ("192.0.2.0/24", "all", "101")


def test_the_kernel_answers_for_a_route_or_names_the_error() -> None:
    here, nowhere = network.look_up([["127.0.0.1", "127.0.0.1", ""], ["192.0.2.77", "127.0.0.1", ""]])
    assert (here["device"], here.get("error", "")) == ("lo", "")
    assert nowhere["error"].split(":")[0] in ("EINVAL", "ENETUNREACH")


def test_a_unit_is_read_without_secrets(tmp_path: Path) -> None:
    unit = tmp_path / "web.service"
    unit.write_text(
        "[Service]\nExecStart=/usr/sbin/web --password x\n# LD_PRELOAD=no\n"
        "Environment=SECRET=1 GODEBUG=multipathtcp=1\n"
    )
    shown = services.parse_show(SHOWN.format(unit=unit))
    read = services.unit_of(shown["web.service"], 0.0)
    assert (read["environment"], read["exec_start"]) == (
        "LD_PRELOAD=/usr/lib/libmptcpwrap.so",
        "/usr/sbin/web",
    )
    assert (read["needs_reload"], read["started"]) == (True, 5.0)
    assert read["files"] == {
        str(unit): "[Service]\nExecStart=/usr/sbin/web\nEnvironment=GODEBUG=multipathtcp=1"
    }
    assert services.daemon_of("mptcpd", shown["mptcp.service"])["state"] == ""


def test_an_nginx_configuration_is_followed_into_its_includes(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "nginx.conf").write_text("stream {\n  include conf.d/*.conf;\n}\n")
    (tmp_path / "conf.d/web.conf").write_text(
        "server {\n  listen 7000 multipath;\n  ssl_password_file x;\n}\n"
    )
    found = services.read_configuration("nginx", str(tmp_path / "nginx.conf"), 0.0)
    assert [each["lines"] for each in found] == [["stream {"], ["server {", "listen 7000 multipath;"]]


def test_the_version_of_go_is_read_from_a_program(tmp_path: Path) -> None:
    mark = b"\xff Go buildinf:" + bytes((8, 2)) + bytes(16)
    program = tmp_path / "program"
    program.write_bytes(b"x" * 100 + mark + bytes((8,)) + b"go1.24.1" + bytes(100))
    assert processes.read_go_version(program) == "go1.24.1"
    program.write_bytes(b"x" * 300)
    assert processes.read_go_version(program) == ""


def test_only_two_variables_and_configuration_options_are_kept(tmp_path: Path) -> None:
    (tmp_path / "environ").write_bytes(b"TOKEN=1\0GODEBUG=multipathtcp=1\0")
    (tmp_path / "cmdline").write_bytes(b"web\0--password\0x\0-f\0/etc/web.cfg\0")
    (tmp_path / "cgroup").write_text("0::/system.slice/web.service\n")
    assert processes.read_environment(tmp_path) == {"GODEBUG": "multipathtcp=1"}
    assert processes.read_arguments(tmp_path) == ["-f", "/etc/web.cfg"]
    assert processes.read_unit(tmp_path) == "web.service"


def test_a_reply_for_the_address_names_the_other_host() -> None:
    probe = arp.build_probe("02:00:00:00:00:01", "192.0.2.1")
    found: dict[str, set[str]] = {}
    arp.read_reply(probe, {"192.0.2.1"}, found)
    assert not found
    body = bytes.fromhex("0001080006040002" + "020000000099" + "c0000201" + "020000000001" + "00000000")
    arp.read_reply(probe[:14] + body, {"192.0.2.1"}, found)
    assert found == {"192.0.2.1": {"02:00:00:00:00:99"}}


def test_a_tool_that_is_missing_or_refuses_is_unreadable() -> None:
    assert attempt(Tool(["no-such-tool"]).output) == {"unreadable": "no-such-tool: not installed"}
    refused = attempt(Tool(["sh", "-c", "echo Operation not permitted >&2; exit 1"]).output)
    assert refused == {"unreadable": "needs root: sh: Operation not permitted"}


@pytest.mark.parametrize("op", ["run", "fault", "change_endpoints", "listen", "lease_take"])
def test_the_doctor_changes_nothing(op: str) -> None:
    with pytest.raises(AgentError, match="the doctor does not run"):
        Examiner(None, None, "").run_operation(op, {})


def test_the_kernel_is_read() -> None:
    read = system.read_system()
    uname = subprocess.run(["uname", "-r"], capture_output=True, text=True, check=True).stdout.strip()
    assert read["kernel"] == uname
    assert "net.mptcp.enabled" in read["sysctls"]
