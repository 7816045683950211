"""The bundle: what it holds, that no secret and no concealed address is in it, and that it is private."""

from __future__ import annotations

import json
import stat
import tarfile
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from mptcp_lab.doctor.bundle import BundleRefused, members, write_bundle
from mptcp_lab.doctor.finding import from_json
from mptcp_lab.doctor.readings import from_document
from tests.doctor.bundles import ADDRESSES, SECRETS, a_reading, findings

ROLES = {
    "client": {
        "kernel",
        "config",
        "sysctls",
        "endpoints",
        "ss",
        "counters-before",
        "counters-after",
        "network",
    },
    "server": {"kernel", "sysctls", "counters-before", "counters-after", "listeners", "firewall"},
}


@pytest.fixture(params=[False, True], ids=["open", "concealed"])
def conceal(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def unpack(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore[union-attr]


def test_a_bundle_has_what_maintainers_ask_for(tmp_path: Path, conceal: bool) -> None:
    path = tmp_path / "b.tar.gz"
    write_bundle(path, a_reading(), findings(), conceal)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["b.tar.gz"]
    files = unpack(path)
    names = list(files)
    for role, wanted in ROLES.items():
        assert {f"mptcp-doctor/{role}/{each}.txt" for each in wanted} <= {*names}
    assert "mptcp-doctor/client/capture.pcapng" in names
    assert "mptcp-doctor/client/events.jsonl" in names
    assert names[-1] == "mptcp-doctor/issue.md"
    assert not any(name.startswith("mptcp-doctor/proxy/") for name in names)
    assert files["mptcp-doctor/client/config.txt"] == b"CONFIG_MPTCP=y\nCONFIG_TCP_CONG_CUBIC=y\n"
    assert b"MPTcpExt.MPCapableSYNTX 5\n" in files["mptcp-doctor/client/counters-before.txt"]
    assert b"MPTcpExt.MPCapableSYNTX 6\n" in files["mptcp-doctor/client/counters-after.txt"]
    assert b"MPTcpExt.MPJoinNoTokenFound 3\n" in files["mptcp-doctor/client/counters-before.txt"]
    assert b"token:0a1b2c3d" in files["mptcp-doctor/client/ss.txt"]
    assert b"LD_PRELOAD=/usr/lib/libmptcpwrap.so" in files["mptcp-doctor/reading.json"]
    from_document(json.loads(files["mptcp-doctor/reading.json"]))
    from_json(json.loads(files["mptcp-doctor/findings.json"]))


def test_the_text_for_an_issue_says_what_was_found_and_on_what(conceal: bool) -> None:
    text = dict(members(a_reading(), findings(), conceal))["issue.md"].decode()
    for word in (
        "kernel 6.18.44",
        "CONFIG_MPTCP=y",
        "net.mptcp.enabled = 1",
        "subflows: 1 of 2",
        "no endpoint",
    ):
        assert word in text
    assert text.index("What happens") < text.index("What the doctor found")


def test_a_proxy_has_files_of_both_of_its_connections() -> None:
    reading = a_reading()
    proxy = replace(reading.client, name="gamma", hostname="gamma")
    reading = replace(reading, proxy=proxy, onward=reading.connection, server_port=80)
    files = dict(members(reading, findings(), conceal=False))
    wanted = {
        "front-counters-after.txt",
        "back-counters-after.txt",
        "back-capture.pcapng",
        "back-events.jsonl",
    }
    assert {f"proxy/{each}" for each in wanted} <= {*files}


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_is_in_it(secret: str, conceal: bool) -> None:
    for name, content in members(a_reading(), findings(), conceal):
        assert secret.encode() not in content, name


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_address_and_no_name_is_in_a_concealed_one(address: str) -> None:
    for name, content in members(a_reading(), findings(), conceal=True):
        assert address.encode() not in content, name
    assert any(address.encode() in content for _, content in members(a_reading(), findings(), conceal=False))


def test_the_same_address_is_replaced_by_the_same_one_everywhere() -> None:
    files = {
        name: content.decode(errors="replace") for name, content in members(a_reading(), findings(), True)
    }
    endpoint = files["client/endpoints.txt"].splitlines()[1].split()[0]
    assert ip_address(endpoint) in ip_network("240.0.0.0/4")
    for name in ("client/ss.txt", "client/network.txt", "client/events.jsonl", "reading.json", "issue.md"):
        assert endpoint in files[name], name


def test_a_bundle_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="cannot be written: No such file or directory"):
        write_bundle(tmp_path / "absent" / "b.tar.gz", a_reading(), findings(), False)
