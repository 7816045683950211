"""Recipes: the contents of the hosts' root filesystems and of their package pools."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.paths import ROOT


@dataclass(frozen=True)
class Recipe:
    """The Debian suite, packages and masked units of a root filesystem, and its package pool by suite."""

    suite: str
    base: tuple[str, ...]
    pool: Mapping[str, tuple[str, ...]]
    masked: tuple[str, ...]
    revision: int  # raise it when a change of the build code changes the result

    def fingerprint(self) -> str:
        """Return a hash of the recipe, which names the image: equal recipes have equal hashes."""
        ingredients = [self.suite, self.base, self.pool, self.masked, self.revision]
        return hashlib.sha256(json.dumps(ingredients).encode()).hexdigest()[:12]


SUITE = "trixie"
#: Suites whose index may have expired, as on mirrors with snapshots. An index that was signed before the day
#: given here is refused; raise the day when the pool is built from a later index.
SIGNED_SINCE = {"sid": "2026-10-30"}
BASE = (
    "systemd,systemd-sysv,dbus,openssh-server,python3,python3-apt,iproute2,nftables,tcpdump,procps,ethtool,sudo"
).split(",")


def _of_proxies(system: str) -> tuple[str, ...]:
    """Return the packages of all proxy engines on a system, a name in roles/system/systems."""
    return tuple(package for engine in PROXIES for package in _system(system)[engine]["packages"])


def _of_roles(system: str) -> tuple[str, ...]:
    """Return the packages that roles install on a system: proxies, preload wrapper, path manager daemon."""
    found = _system(system)
    return (*_of_proxies(system), *found["mptcpize"], *found["mptcpd"]["packages"])


def _system(name: str) -> Any:
    return yaml.safe_load((ROOT / "roles/system/systems" / f"{name}.yml").read_text())


ROLES_NEED = _of_roles("debian-13")
#: Units for periodic work and consoles, which no lab host needs.
IDLE = (
    "apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer "
    "fstrim.timer systemd-networkd.service systemd-resolved.service systemd-timesyncd.service getty@.service "
    "console-getty.service ldconfig.service systemd-journal-catalog-update.service "
    "systemd-update-done.service"
).split()

#: Each unit that waits for a file takes an inotify instance, of which Linux allows a user 128 by default:
#: a host with these takes six instead of four. Nobody types passwords on a host's console.
WAITING = ("systemd-ask-password-console.path", "systemd-ask-password-wall.path")

#: The default container: no TCP port 22, sshd listens on a Unix socket. The pool takes proxies with native
#: MPTCP from sid. NetworkManager is in the pool for tests of hosts that already run it; no role installs it.
CONTAINER = Recipe(
    suite=SUITE,
    base=tuple(BASE),
    pool={SUITE: (*ROLES_NEED, "network-manager"), "sid": _of_proxies("debian-13")},
    masked=("ssh.service", "ssh.socket", *WAITING, *IDLE),
    revision=2,
)
#: The previous release. Its systemd cannot offer SSH on a Unix socket: the units in debian-12/ do.
OLDER = Recipe(
    suite="bookworm",
    base=tuple(BASE),
    pool={"bookworm": (*_of_roles("debian-12"), "network-manager")},
    masked=CONTAINER.masked,
    revision=1,
)
#: The values that ``lab_image`` may have, and their recipes.
IMAGES = {"debian-13": CONTAINER, "debian-12": OLDER}


def part(suite: str, packages: Iterable[str]) -> str:
    """Return a part of the pool as an argument of pool.sh."""
    since = f"@{SIGNED_SINCE[suite]}" if suite in SIGNED_SINCE else ""
    return f"{suite}{since}:{','.join(packages)}"


def mirror() -> str | None:
    """Return the Debian mirror that MPTCP_LAB_MIRROR names, or None for mmdebstrap's default."""
    return os.environ.get("MPTCP_LAB_MIRROR") or None
