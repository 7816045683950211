"""Compare this host's packages with the lock: `package_lock.py NAME=VERSION...` prints JSON, changes nothing.

The fields of the document are:

- manager: apt or dnf. The lock uses its names and versions: haproxy=3.0.11-1 for apt, and
  haproxy.x86_64=2.8.14-1.el9 for dnf (with an epoch before the version, if there is one).
- kernel: the release of the running kernel.
- differ: NAME=VERSION of each package that is missing or has another version.
- unavailable: those of them that no repository offers, with the versions that are offered. If there are any,
  the package lists are updated and read a second time.
"""

from __future__ import annotations

import collections
import json
import platform
import shutil
import subprocess
import sys


def run(*argv: str) -> str:
    """Return the standard output of a command, whatever its exit status."""
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


class Apt:
    """The package manager of Debian and Ubuntu."""

    manager = "apt"

    def installed(self) -> set[str]:
        """Return NAME=VERSION of every installed package."""
        shown = run(
            "dpkg-query", "--show", "--showformat", "${binary:Package}=${Version} ${db:Status-Abbrev}\n"
        )
        return {line.split()[0] for line in shown.splitlines() if line.split()[1:] == ["ii"]}

    def versions(self, packages: list[str]) -> dict[str, set[str]]:
        """Return the available versions of each package, by NAME=VERSION."""
        names = {package: package.partition("=")[0].partition(":")[0] for package in packages}
        has = collections.defaultdict(set)
        for line in run("apt-cache", "madison", *names.values()).splitlines():
            name, version, _ = (part.strip() for part in line.split("|", 2))
            has[name].add(version)
        return {package: has[name] for package, name in names.items()}

    def refresh(self) -> None:
        """Update the package lists."""
        run("apt-get", "--quiet", "update")


class Dnf:
    """The package manager of the RHEL family. It can install several versions of a package, as of kernels."""

    manager = "dnf"

    def installed(self) -> set[str]:
        """Return NAME.ARCH=VERSION of every installed package."""
        version = "%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}"
        return set(
            run("rpm", "--query", "--all", "--queryformat", f"%{{NAME}}.%{{ARCH}}={version}\\n").split()
        )

    def versions(self, packages: list[str]) -> dict[str, set[str]]:
        """Return the available versions of each package, by NAME.ARCH=VERSION."""
        names = {package: package.partition("=")[0] for package in packages}
        asked = ("dnf", "--quiet", "repoquery", "--queryformat", "%{name}.%{arch}=%{evr}", *names.values())
        has = collections.defaultdict(set)
        for line in run(*asked).split():
            name, _, version = line.partition("=")
            has[name].add(version)
        return {package: has[name] for package, name in names.items()}

    def refresh(self) -> None:
        """Update the package lists."""
        run("dnf", "--quiet", "--refresh", "makecache")


def unavailable(manager: Apt | Dnf, packages: list[str]) -> list[str]:
    """Return the packages (NAME=VERSION) that are not available, each with the versions that are."""
    has = manager.versions(packages) if packages else {}
    return [
        f"{package} (there is {', '.join(sorted(versions)) or 'none'})"
        for package, versions in has.items()
        if package.partition("=")[2] not in versions
    ]


def main() -> None:
    """Compare the packages in the arguments with the host, and print the document."""
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
