"""`mptcp: auto`: the program's own option where its version has one, else the wrapper."""

from __future__ import annotations

from tests.e2e.conftest import BIN, Configured, run_tool
from tests.e2e.test_converge import changes

TARGETS = ("haproxy-preload", "haproxy-native")  # proxy1 has Debian 13's, proxy2 has sid's


def converge(configured: Configured) -> str:
    books = ["playbooks/proxies.yml", "--limit=proxy1,proxy2"]
    done = run_tool([str(BIN / "ansible-playbook"), "-i", str(configured.own.folder), *books])
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_auto_takes_what_each_version_can_do(configured: Configured) -> None:
    inventory = configured.own.folder / "hosts.yml"
    before = inventory.read_text()

    def leave_it_to_the_playbooks(children: dict) -> None:
        for host in children["proxies"]["hosts"].values():
            for service in host["lab_services"]:
                if service["engine"] == "haproxy" and service["mptcp"] != "off":
                    service["mptcp"] = "auto"

    try:
        configured.own.edit(leave_it_to_the_playbooks)
        assert changes(converge(configured)) == {"0"}  # just what the inventory said before
        run = configured.suite(*(f"--claim=PROXY-1[{target}]" for target in TARGETS))
    finally:
        inventory.write_text(before)
    assert run.verdicts() == {f"PROXY-1[{target}]": "pass" for target in TARGETS}, run.output
