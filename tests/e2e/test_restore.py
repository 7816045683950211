"""Restore takes back what the lab changed and nothing else, whoever owns the host.

Two proxies are configured, and then somebody else works on them: installs, updates and uses packages, edits
files, enables a service, sets up a firewall, adds to the network, changes settings.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mptcp_lab.probe import eventually
from tests.e2e.conftest import BIN, Configured, run_tool
from tests.e2e.snapshot import Snapshot, differences, snapshot
from tests.labs import own_lab

OWNED, BORROWED, REBOOTED = "proxy1", "proxy2", "server2"
CONSENT = {"lab_packages_ok": True, "lab_restart_nics_ok": True}
#: A repository of somebody else's: a tool in two versions, and a package that needs a part of nginx.
REPOSITORY = r"""
set -e
mkdir -p /srv/theirs && cd /srv/theirs
package() { # NAME VERSION DEPENDS
    mkdir -p "$1/DEBIAN" "$1/etc" "$1/var/lib/$1"
    printf 'Package: %s\nVersion: %s\nArchitecture: all\n' "$1" "$2" >"$1/DEBIAN/control"
    printf 'Maintainer: they <they@example.org>\nDescription: theirs\n%s' "$3" >>"$1/DEBIAN/control"
    echo "version $2" >"$1/etc/$1.conf"
    echo "/etc/$1.conf" >"$1/DEBIAN/conffiles"
    dpkg-deb --build --root-owner-group "$1" "$1_$2.deb" >/dev/null
    { cat "$1/DEBIAN/control"
      printf 'Filename: ./%s\nSize: %s\n' "$1_$2.deb" "$(stat -c %s "$1_$2.deb")"
      printf 'SHA256: %s\n\n' "$(sha256sum "$1_$2.deb" | cut -d' ' -f1)"; } >>Packages
}
package theirs-tool 1.0 ''
package theirs-tool 2.0 ''
package theirs-new 1.0 ''
package theirs-front 1.0 'Depends: nginx-common
'
echo 'deb [trusted=yes] file:/srv/theirs ./' >/etc/apt/sources.list.d/theirs.list
apt-get -qq update
apt-get -qq --yes install theirs-tool=1.0 >/dev/null
"""
#: What somebody else does after lab.yml.
SINCE = r"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get -qq --yes install theirs-tool theirs-new >/dev/null
echo 'edited' >>/etc/theirs-new.conf
echo 'precious' >/var/lib/theirs-new/data
echo 'table inet theirs { chain input { type filter hook input priority 0; }; }' >/etc/nftables.conf
systemctl --quiet enable --now nftables.service
echo '# edited' >>/etc/motd
echo '# edited' >>/etc/sysctl.d/90-mptcp-lab.conf
ip address add 192.0.2.7/24 dev eth3
ip route add 198.51.100.0/24 via 192.0.2.1 dev eth3
ip rule add from 192.0.2.7 lookup 99 priority 99
ip mptcp endpoint add 192.0.2.7 id 77 dev eth3 signal
sysctl --quiet --write net.mptcp.add_addr_timeout=33 net.mptcp.blackhole_timeout=7
"""
#: What they do to the packages that the lab installed, in one way and in another.
USED = {
    OWNED: "apt-get -qq --yes install theirs-front >/dev/null; echo '# edited' >>/etc/haproxy/haproxy.cfg",
    BORROWED: "echo '# theirs' >/etc/nginx/conf.d/theirs.conf",
}
#: Commands whose output stays what it is when the host is restored.
THEIRS = {
    "a package by hand": "dpkg-query --show theirs-new; cat /etc/theirs-new.conf /var/lib/theirs-new/data",
    "an update": "dpkg-query --show theirs-tool; cat /etc/theirs-tool.conf",
    "a unit enabled since": "systemctl is-enabled nftables.service; systemctl is-active nftables.service",
    "a firewall": "nft list table inet theirs",
    "a file edited": "cat /etc/motd /etc/nftables.conf",
    "an address": "ip -oneline address show to 192.0.2.7",
    "a route": "ip route show 198.51.100.0/24",
    "a rule": "ip rule show priority 99",
    "an endpoint": "ip mptcp endpoint show id 77",
    "a setting": "sysctl net.mptcp.add_addr_timeout net.mptcp.blackhole_timeout",
}
LEFT = {
    OWNED: (
        "file /etc/haproxy/haproxy.cfg: edited since the lab wrote it; left alone",
        "package haproxy: /etc/haproxy/haproxy.cfg is not as the package or the lab left it; left alone",
        "unit haproxy.service: /etc/haproxy/haproxy.cfg is not as the package or the lab left it; left alone",
        "package nginx-common: needed by theirs-front; left alone",
    ),
    BORROWED: (
        "package nginx: /etc/nginx/conf.d/theirs.conf is not as the package or the lab left it; left alone",
        "package nginx-common: /etc/nginx/conf.d/theirs.conf is not as the package or the lab left it; left",
    ),
}
GONE = {OWNED: "nginx libnginx-mod-stream", BORROWED: "haproxy"}
NAMED = (
    "packages: theirs-new: was absent, is 1.0: not the lab's, left alone",
    "packages: theirs-tool: was 1.0, is 2.0",
    "units: nftables.service: was disabled, does not run",
    "nft_tables: table inet theirs: was absent",
    "sysctl net/mptcp/blackhole_timeout: is 7, was 3600 before the lab, which set 0; changed since, left"
    " alone",
    "file /etc/sysctl.d/90-mptcp-lab.conf: the lab's own, edited since; moved to"
    " /var/backups/mptcp-lab/etc/sysctl.d/90-mptcp-lab.conf.edited",
)


@dataclass
class Used:
    """A configured lab that somebody else has worked on since."""

    lab: Configured
    theirs: dict[tuple[str, str], str]

    def restore(self, host: str, **variables: bool) -> subprocess.CompletedProcess[str]:
        """Run the playbook that `./lab restore` runs, on one host."""
        playbook = [str(BIN / "ansible-playbook"), "-i", str(self.lab.own.folder), "playbooks/restore.yml"]
        return run_tool([*playbook, f"--limit={host}", "-e", json.dumps(variables)])

    def snapshot(self, host: str) -> Snapshot:
        """Return what a host is."""
        return {host: snapshot(self.lab.own)[host]}


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Used]:
    own = own_lab(tmp_path_factory.mktemp("inventory") / "restore", "test-restore")
    own.edit(lambda groups: groups["proxies"]["hosts"][BORROWED].update(lab_owned=False))
    own.down()
    lab = Configured(own, tmp_path_factory.mktemp("results"))
    try:
        own.up()
        for host in (OWNED, BORROWED):
            own.ssh(host, REPOSITORY)
        lab.before = snapshot(own)
        lab.play(f"--limit=localhost,{OWNED},{BORROWED},{REBOOTED}", "-e", json.dumps(CONSENT))
        for host in (OWNED, BORROWED):
            own.ssh(host, SINCE + USED[host])
        theirs = {
            (host, what): own.ssh(host, command)
            for host in (OWNED, BORROWED)
            for what, command in THEIRS.items()
        }
        yield Used(lab, theirs)
    finally:
        own.down()


def test_packages_of_somebody_else_s_host_are_not_removed_without_consent(used: Used) -> None:
    before = used.snapshot(BORROWED)
    refused = used.restore(BORROWED)
    printed = " ".join(refused.stdout.split())
    assert refused.returncode == 2, printed
    assert "proxy2: haproxy, " in printed, refused.stdout
    assert " would be removed or changed back, and the host is marked" in printed
    assert "lab_owned: false; set lab_packages_ok: true to allow it. Nothing was changed" in printed
    assert list(differences(before, used.snapshot(BORROWED))) == []


@pytest.mark.parametrize("host", [OWNED, BORROWED])
def test_what_somebody_else_changed_since_is_named_and_left_alone(used: Used, host: str) -> None:
    done = used.restore(host, **({} if host == OWNED else {"lab_packages_ok": True}))
    printed = " ".join(done.stdout.split()).replace("''", "'")
    assert done.returncode == 0, done.stdout
    found = {what: used.lab.own.ssh_may_fail(host, command) for what, command in THEIRS.items()}
    assert found == {what: used.theirs[host, what] for what in THEIRS}
    assert [sentence for sentence in (*LEFT[host], *NAMED) if sentence not in printed] == [], done.stdout


@pytest.mark.parametrize("host", [OWNED, BORROWED])
def test_what_the_lab_changed_is_gone(used: Used, host: str) -> None:
    own = used.lab.own
    packages = own.ssh(host, "dpkg-query --show --showformat='${db:Status-Status} ${Package}\\n'")
    installed = {line.split()[1] for line in packages.splitlines() if line.startswith("installed ")}
    assert installed & set(GONE[host].split()) == set()
    files = "ls /etc/systemd/system/*mptcp-lab* /usr/local/sbin /etc/mptcp-lab /etc/sysctl.d/*mptcp-lab*"
    assert own.ssh_may_fail(host, files) == "/usr/local/sbin:\n"
    network = "ip address; ip rule; ip route; ip -6 route; ip mptcp endpoint; nft list ruleset"
    assert [line for line in own.ssh(host, network).splitlines() if "198.18." in line or "lab" in line] == []


def test_edits_are_kept(used: Used) -> None:
    edited = used.lab.own.ssh(
        OWNED, "tail -n 1 /etc/haproxy/haproxy.cfg /var/backups/mptcp-lab/etc/sysctl.d/*"
    )
    assert edited.count("# edited") == 2
    before_the_lab = "cat /var/backups/mptcp-lab/etc/haproxy/haproxy.cfg.before-lab"
    assert "log /dev/log" in used.lab.own.ssh(OWNED, before_the_lab)
    assert used.lab.own.ssh(BORROWED, "cat /etc/nginx/conf.d/theirs.conf") == "# theirs\n"


@pytest.mark.parametrize("host", [OWNED, BORROWED])
def test_a_second_restore_changes_nothing(used: Used, host: str) -> None:
    before = used.snapshot(host)
    again = used.restore(host)
    assert again.returncode == 0, again.stdout
    assert "changed=0" in again.stdout
    assert list(differences(before, used.snapshot(host))) == []


def test_a_reboot_in_between_makes_no_difference(used: Used) -> None:
    own = used.lab.own
    boot = own.ssh(REBOOTED, "cat /proc/sys/kernel/random/boot_id")
    own.ssh_may_fail(REBOOTED, "reboot")
    eventually(
        lambda: own.ssh_may_fail(REBOOTED, "cat /proc/sys/kernel/random/boot_id"),
        until=lambda now: now not in ("", boot),
        within=30,
        what=f"{REBOOTED} back with a new boot id",
    )
    own.ssh_may_fail(REBOOTED, "systemctl is-system-running --wait")
    done = used.restore(REBOOTED)
    assert done.returncode == 0, done.stdout
    assert "no difference" in done.stdout
    before = {REBOOTED: used.lab.before[REBOOTED]}
    assert list(differences(before, used.snapshot(REBOOTED))) == []
