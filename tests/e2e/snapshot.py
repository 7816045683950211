"""Read all that a lab could have changed on a host, with common tools instead of the lab's own code."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.labs import OwnLab

Snapshot = dict[str, list[str]]  # host -> a line per fact

NETWORK = r"""
section() { sed "s|^|$1: |"; }
for family in 4 6; do
    ip -$family route show table all | section "route (IPv$family)"
    ip -$family rule show | section "rule (IPv$family)"
    ip -$family -brief address show scope global | section "address (IPv$family)"
done
ip -brief link show | awk '{ print $1, $2, $4 }' | section link
nft list ruleset | section nft
ip mptcp endpoint show | section endpoint
ip mptcp limits show | section limits
"""
#: Of the kernel's settings, net.* belongs to the host; the rest is the machine's. Counters are no settings.
ALL = (
    NETWORK
    + r"""
cd /
find /etc /usr/local /var/lib/mptcp-lab /run/mptcp-lab -printf '%p %M %u:%g %l\n' 2>/dev/null |
    sort | section file
find /etc /usr/local -type f -exec sha256sum {} + | sort -k 2 | section content
dpkg-query -W -f '${binary:Package} ${Version} ${db:Status-Abbrev}\n' | section package
apt-mark showauto | section 'package installed for another'
sysctl -a 2>/dev/null | grep '^net[.]' | grep -v '_conntrack_count ' | sort | section sysctl
systemctl list-unit-files --no-legend --plain --no-pager | section 'unit file'
systemctl list-units --state=active --no-legend --plain --no-pager \
    --type=service,socket,timer,path,target,slice |
    awk '!/^(sshd@|systemd-tmpfiles-clean|user-|user@)/ { print $1, $3, $4 }' | sort | section 'active unit'
"""
)


def snapshot(own: OwnLab, what: str = ALL) -> Snapshot:
    """Return what every host is."""
    names = list(own.lab.hosts)
    with ThreadPoolExecutor(len(names)) as pool:
        shown = pool.map(lambda name: own.ssh(name, what).splitlines(), names)
    return dict(zip(names, shown, strict=True))


def differences(before: Snapshot, after: Snapshot) -> Iterator[str]:
    """Yield what differs, as "host: -fact" for what is gone and "host: +fact" for what came."""
    for host, facts in before.items():
        yield from (f"{host}: -{fact}" for fact in facts if fact not in after[host])
        yield from (f"{host}: +{fact}" for fact in after[host] if fact not in facts)
