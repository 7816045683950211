"""What the hosts' root filesystem and the package pool are made of."""

from __future__ import annotations

import hashlib
import json
import os

SUITE = "trixie"
BASE = (
    "systemd,systemd-sysv,dbus,openssh-server,python3,python3-apt,iproute2,nftables,tcpdump,procps,ethtool,sudo"
).split(",")
#: What roles install, by suite. The pool holds these and what they depend on beyond the base.
POOL = {
    "trixie": ("haproxy", "nginx", "libnginx-mod-stream", "mptcpize", "mptcpd", "mptcpd-plugins"),
    "sid": ("haproxy", "nginx", "libnginx-mod-stream"),
}
#: Units that a lab host does not need: no TCP port 22 (SSH answers on a Unix socket), no periodic work.
MASKED = (
    "ssh.service ssh.socket apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer "
    "fstrim.timer systemd-networkd.service systemd-resolved.service systemd-timesyncd.service getty@.service "
    "console-getty.service ldconfig.service systemd-journal-catalog-update.service "
    "systemd-update-done.service"
).split()
REVISION = 2  # raise it when the way of building changes the result


def mirror() -> str | None:
    """Return the Debian mirror the user asks for; None leaves mmdebstrap its default."""
    return os.environ.get("MPTCP_LAB_MIRROR") or None


def fingerprint() -> str:
    """Return the name of this recipe's result: the same for the same ingredients."""
    ingredients = [SUITE, BASE, POOL, MASKED, REVISION]
    return hashlib.sha256(json.dumps(ingredients).encode()).hexdigest()[:12]
