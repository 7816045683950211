"""What the hosts' root filesystems and their package pools are made of."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """A root filesystem: Debian suite, packages, masked units; and a pool of what roles install, by suite."""

    suite: str
    base: tuple[str, ...]
    pool: Mapping[str, tuple[str, ...]]
    masked: tuple[str, ...]
    revision: int  # raise it when the way of building changes the result

    def fingerprint(self) -> str:
        """Return the name of this recipe's result: the same for the same ingredients."""
        ingredients = [self.suite, self.base, self.pool, self.masked, self.revision]
        return hashlib.sha256(json.dumps(ingredients).encode()).hexdigest()[:12]


SUITE = "trixie"
#: Suites whose index may have expired, as on mirrors that keep snapshots. An index that was signed before
#: the day named here is refused; raise the day when the pool is built from a later index.
SIGNED_SINCE = {"sid": "2026-10-30"}
BASE = (
    "systemd,systemd-sysv,dbus,openssh-server,python3,python3-apt,iproute2,nftables,tcpdump,procps,ethtool,sudo"
).split(",")
#: What roles install on every host: proxies, the preload wrapper, the path manager daemon.
ROLES_NEED = ("haproxy", "nginx", "libnginx-mod-stream", "mptcpize", "mptcpd", "mptcpd-plugins")
#: Periodic work and consoles, which no lab host needs.
IDLE = (
    "apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer "
    "fstrim.timer systemd-networkd.service systemd-resolved.service systemd-timesyncd.service getty@.service "
    "console-getty.service ldconfig.service systemd-journal-catalog-update.service "
    "systemd-update-done.service"
).split()

#: The embedded lab's hosts: no TCP port 22, SSH answers on a Unix socket. sid has proxies with native MPTCP.
#: NetworkManager is what a host may run already: tests put it there, no role does.
CONTAINER = Recipe(
    suite=SUITE,
    base=tuple(BASE),
    pool={SUITE: (*ROLES_NEED, "network-manager"), "sid": ("haproxy", "nginx", "libnginx-mod-stream")},
    masked=("ssh.service", "ssh.socket", *IDLE),
    revision=2,
)
#: The release before. Its systemd offers no SSH on a Unix socket: units of ours do (debian-12/).
OLDER = Recipe(
    suite="bookworm",
    base=tuple(BASE),
    pool={"bookworm": (*ROLES_NEED, "network-manager")},
    masked=CONTAINER.masked,
    revision=1,
)
#: What a host's ``lab_image`` may say.
IMAGES = {"debian-13": CONTAINER, "debian-12": OLDER}


def part(suite: str, packages: Iterable[str]) -> str:
    """Return a part of the pool as pool.sh takes it."""
    since = f"@{SIGNED_SINCE[suite]}" if suite in SIGNED_SINCE else ""
    return f"{suite}{since}:{','.join(packages)}"


def mirror() -> str | None:
    """Return the Debian mirror the user asks for; None leaves mmdebstrap its default."""
    return os.environ.get("MPTCP_LAB_MIRROR") or None
