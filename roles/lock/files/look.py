"""Compare this host with its lock, before anything changes: `look.py NAME=VERSION...`; prints JSON.

kernel: the release that runs; differ: NAME=VERSION of each package that is missing or has another version;
unavailable: those of them that apt cannot get, with the versions that it has. Where some are, apt's lists are
brought up to date once and asked again.
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


def installed() -> set[str]:
    """Return NAME=VERSION of every installed package."""
    shown = run("dpkg-query", "--show", "--showformat", "${binary:Package}=${Version} ${db:Status-Abbrev}\n")
    return {line.split()[0] for line in shown.splitlines() if line.split()[1:] == ["ii"]}


def unavailable(packages: list[str]) -> list[str]:
    """Return those of NAME=VERSION that apt cannot get, each with what it has instead."""
    names = {package: package.partition("=")[0].partition(":")[0] for package in packages}
    has = collections.defaultdict(set)
    for line in run("apt-cache", "madison", *names.values()).splitlines() if names else []:
        name, version, _ = (part.strip() for part in line.split("|", 2))
        has[name].add(version)
    return [
        f"{package} (there is {', '.join(sorted(has[name])) or 'none'})"
        for package, name in names.items()
        if package.partition("=")[2] not in has[name]
    ]


def main() -> None:
    """Look, and print."""
    if not shutil.which("dpkg-query"):
        sys.exit("packages can be locked on Debian and Ubuntu only; go without the lock with -e lab_lock=")
    differ = sorted(set(sys.argv[1:]) - installed())
    lacking = unavailable(differ)
    if lacking:
        run("apt-get", "--quiet", "update")
        lacking = unavailable(differ)
    print(json.dumps({"kernel": platform.release(), "differ": differ, "unavailable": lacking}))


main()
