"""Compare this host with its lock, before anything changes: `package_lock.py NAME=VERSION...`; prints JSON.

manager: apt or dnf, with whose names and versions the lock has to be written: haproxy=3.0.11-1, and
haproxy.x86_64=2.8.14-1.el9 (an epoch before the version, where there is one). kernel: the release that runs.
differ: NAME=VERSION of each package that is missing or has another version. unavailable: those of them that
the manager cannot get, with the versions that it has; where some are, its lists are brought up to date once
and asked again.
"""

from __future__ import annotations

import collections
import json
import platform
import shutil
import subprocess
import sys


def run(*argv: str) -> str:
    """Return what a command prints."""
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


class Apt:
    """Debian and Ubuntu."""

    manager = "apt"

    def installed(self) -> set[str]:
        """Return NAME=VERSION of every installed package."""
        shown = run(
            "dpkg-query", "--show", "--showformat", "${binary:Package}=${Version} ${db:Status-Abbrev}\n"
        )
        return {line.split()[0] for line in shown.splitlines() if line.split()[1:] == ["ii"]}

    def versions(self, packages: list[str]) -> dict[str, set[str]]:
        """Return the versions that can be had of each of NAME=VERSION."""
        names = {package: package.partition("=")[0].partition(":")[0] for package in packages}
        has = collections.defaultdict(set)
        for line in run("apt-cache", "madison", *names.values()).splitlines():
            name, version, _ = (part.strip() for part in line.split("|", 2))
            has[name].add(version)
        return {package: has[name] for package, name in names.items()}

    def refresh(self) -> None:
        """Bring the lists of packages up to date."""
        run("apt-get", "--quiet", "update")


class Dnf:
    """The RHEL family. A package that is installed in several versions, as kernels are, has each of them."""

    manager = "dnf"

    def installed(self) -> set[str]:
        """Return NAME.ARCH=VERSION of every installed package."""
        version = "%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}"
        return set(
            run("rpm", "--query", "--all", "--queryformat", f"%{{NAME}}.%{{ARCH}}={version}\\n").split()
        )

    def versions(self, packages: list[str]) -> dict[str, set[str]]:
        """Return the versions that can be had of each of NAME.ARCH=VERSION."""
        names = {package: package.partition("=")[0] for package in packages}
        asked = ("dnf", "--quiet", "repoquery", "--queryformat", "%{name}.%{arch}=%{evr}", *names.values())
        has = collections.defaultdict(set)
        for line in run(*asked).split():
            name, _, version = line.partition("=")
            has[name].add(version)
        return {package: has[name] for package, name in names.items()}

    def refresh(self) -> None:
        """Bring the lists of packages up to date."""
        run("dnf", "--quiet", "--refresh", "makecache")


def unavailable(manager: Apt | Dnf, packages: list[str]) -> list[str]:
    """Return those of NAME=VERSION that cannot be had, each with what there is instead."""
    has = manager.versions(packages) if packages else {}
    return [
        f"{package} (there is {', '.join(sorted(versions)) or 'none'})"
        for package, versions in has.items()
        if package.partition("=")[2] not in versions
    ]


def main() -> None:
    """Look, and print."""
    if shutil.which("dpkg-query"):
        manager: Apt | Dnf = Apt()
    elif shutil.which("rpm") and shutil.which("dnf"):
        manager = Dnf()
    else:
        sys.exit("packages can be locked with apt and dnf only; go without the lock with -e lab_lock=")
    differ = sorted(set(sys.argv[1:]) - manager.installed())
    lacking = unavailable(manager, differ)
    if lacking:
        manager.refresh()
        lacking = unavailable(manager, differ)
    found = {"manager": manager.manager, "kernel": platform.release()}
    print(json.dumps({**found, "differ": differ, "unavailable": lacking}))


main()
