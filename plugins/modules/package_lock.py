#!/usr/bin/python
"""Compare a host's packages with a lock: an Ansible module that changes no package."""

from __future__ import annotations

import collections
import json
import platform
import shutil
import subprocess
import sys
from typing import Any

DOCUMENTATION = """
module: package_lock
short_description: Compare the packages of a host with a lock
author: mptcp-lab maintainers
description:
  - Returns which packages differ from the lock, and which of them no repository offers. It changes no
    package; if a version is not offered, the package lists are updated and read a second time, in check mode
    too.
options:
  packages:
    description: >-
      Versions by name, as the package manager names them, such as C(curl) with C(8.14.1-2) for apt, or
      C(curl.x86_64) with C(7.76.1-31.el9) for dnf (with an epoch before the version, if there is one).
    type: dict
    required: true
"""
RETURN = """
manager:
  description: C(apt) or C(dnf).
  returned: success
  type: str
kernel:
  description: The release of the running kernel.
  returned: success
  type: str
differ:
  description: C(NAME=VERSION) of each package that is missing or has another version.
  returned: success
  type: list
unavailable:
  description: Those of C(differ) that no repository offers, with the versions that are offered.
  returned: success
  type: list
"""

#: Ansible replaces this text with the arguments; its presence makes Ansible run the module in one round trip.
ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""


class Refused(Exception):
    """The host cannot be compared with the lock; the message names the reason."""


def run(*argv: str) -> str:
    """Return the standard output of a command, whatever its exit status."""
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


class Apt:
    """The package manager of Debian and Ubuntu."""

    manager = "apt"

    def installed_packages(self) -> set[str]:
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

    def installed_packages(self) -> set[str]:
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


def options(given: dict[str, Any]) -> list[str]:
    """Return the locked packages as NAME=VERSION; raise `Refused` for options that are unknown or wrong."""
    if unknown := sorted(name for name in given if name != "packages" and not name.startswith("_ansible_")):
        raise Refused(f"package_lock has no option {', '.join(unknown)}; it has packages")
    packages = given.get("packages")
    if not isinstance(packages, dict):
        raise Refused(f"package_lock: packages is {packages!r}, and has to be a dict of versions by name")
    for name, version in packages.items():
        if not version or not isinstance(version, str):
            raise Refused(f"package_lock: the version of {name} is {version!r}, and has to be a str")
    return [f"{name}={version}" for name, version in packages.items()]


def find_manager() -> Apt | Dnf:
    """Return the host's package manager; raise `Refused` if it has neither apt nor dnf."""
    if shutil.which("dpkg-query"):
        return Apt()
    if shutil.which("rpm") and shutil.which("dnf"):
        return Dnf()
    raise Refused("packages can be locked with apt and dnf only; go without the lock with -e lab_lock=")


def compare(manager: Apt | Dnf, packages: list[str]) -> dict[str, Any]:
    """Return the packages that differ, and those of them that are not available."""
    differ = sorted(set(packages) - manager.installed_packages())
    lacking = unavailable(manager, differ)
    if lacking:
        manager.refresh()
        lacking = unavailable(manager, differ)
    found = {"manager": manager.manager, "kernel": platform.release()}
    return {**found, "differ": differ, "unavailable": lacking}


def main() -> None:
    """Compare the host with the packages in the arguments, and print the result as Ansible reads it."""
    try:
        outcome = compare(find_manager(), options(json.loads(ARGUMENTS)))
    except (Refused, OSError) as error:
        outcome = {"failed": True, "msg": str(error)}
    print(json.dumps({"changed": False, **outcome}))
    sys.exit("failed" in outcome)


if __name__ == "__main__":
    main()
