#!/usr/bin/python
"""Build a program from its source on a host, without root, and install it: an Ansible module.

A user that exists only during the build compiles the source, without network and without a writable folder
of the host: the archive goes in by standard input, and the program comes out by standard output.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCUMENTATION = """
module: source_build
short_description: Build a program from its source as an unprivileged user, and install it
author: mptcp-lab maintainers
description:
  - The program is built anew if the source, the options or the commands differ from those that the installed
    one was built with.
  - The packages that the build needs are purged after it, also if the build failed or an earlier one was
    killed. Packages that the host had before stay. The package lists are used as they are.
  - In check mode nothing is changed, and the same C(changed) is returned.
options:
  program:
    description: The path of the program, such as C(/usr/local/nginx/sbin/nginx).
    type: path
    required: true
  prefix:
    description: >-
      A folder above C(program). It is refused if it is there and no build of this module made it.
    type: path
    required: true
  archive:
    description: The path of the source's archive (tar, gzip) on the host. It is removed in the end.
    type: path
    default: ""
  sha256:
    description: The digest of the archive; another one is refused.
    type: str
    required: true
  commands:
    description: Commands for the shell, which run in the unpacked source with C(options) as arguments.
    type: str
    required: true
  product:
    description: The path of the program in the source, once the commands have run.
    type: path
    required: true
  options:
    description: Options of the build.
    type: list
    elements: str
    default: []
  packages:
    description: The packages that the build needs.
    type: list
    elements: str
    default: []
  keep_packages:
    description: Whether the packages of the build stay installed.
    type: bool
    default: false
  packages_ok:
    description: Consent to install packages.
    type: bool
    default: true
"""
RETURN = """
needed:
  description: Whether the program, or the purge of the packages of an earlier build, is or was to be done.
  returned: success
  type: bool
"""

#: Ansible replaces this text with the arguments; its presence makes Ansible run the module in one round trip.
ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""
#: By option: the type of its value, and the default.
OPTIONS: dict[str, tuple[type, Any]] = {
    "program": (str, None),
    "prefix": (str, None),
    "archive": (str, ""),
    "sha256": (str, None),
    "commands": (str, None),
    "product": (str, None),
    "options": (list, []),
    "packages": (list, []),
    "keep_packages": (bool, False),
    "packages_ok": (bool, True),
}
#: The words that Ansible may turn a truth value into.
WORDS = {"true": True, "yes": True, "false": False, "no": False}
#: The file below the prefix that identifies the source of the program; it marks the folder as the lab's.
STAMP = "mptcp-lab-build"
#: The packages that a build has installed, one per line, until they are purged.
INSTALLED = Path("/var/lib/mptcp-lab/compiler-packages")
UNIT = "mptcp-lab-build.service"
MOST_SECONDS = 1200
LAST_LINES = 20
SANDBOX = (
    "DynamicUser=yes",
    "PrivateNetwork=yes",
    "PrivateDevices=yes",
    "ProtectHome=yes",
    "CapabilityBoundingSet=",
    f"RuntimeMaxSec={MOST_SECONDS}",
    "WorkingDirectory=/tmp",
)
#: Arguments: the commands, the product, the options. The output of the commands would be part of the program.
SCRIPT = f"""
commands=$1 product=$2
shift 2
tar --extract --gzip --strip-components=1
sh -euc "$commands" sh "$@" </dev/null >build.log 2>&1 || {{ tail -n {LAST_LINES} build.log >&2; exit 1; }}
cat "$product"
"""


class Refused(Exception):
    """The program cannot be built; the message names what failed and the reason."""


@dataclass(frozen=True)
class Build:
    """A build: the source, the commands, and where the program goes; the fields are the module's options."""

    program: str
    prefix: str
    archive: str
    sha256: str
    commands: str
    product: str
    options: list[str]
    packages: list[str]
    keep_packages: bool
    packages_ok: bool

    @property
    def stamp(self) -> Path:
        """Return the path of the file that identifies the source of the installed program."""
        return Path(self.prefix, STAMP)

    @property
    def identity(self) -> str:
        """Return the text of the stamp: equal builds have equal texts."""
        recipe = json.dumps([self.commands, self.product, self.options])
        return f"{self.sha256} {hashlib.sha256(recipe.encode()).hexdigest()}\n"

    def is_built(self) -> bool:
        """Return whether the installed program was built like this."""
        stamped = self.stamp.read_text() if self.stamp.is_file() else ""
        return stamped == self.identity and Path(self.program).is_file()


def options(given: dict[str, Any]) -> Build:
    """Return the build that the options describe; raise `Refused` for one that is unknown or wrong."""
    found = {name: value for name, value in given.items() if not name.startswith("_ansible_")}
    if unknown := sorted(found.keys() - OPTIONS.keys()):
        raise Refused(f"source_build has no option {', '.join(unknown)}; it has {', '.join(OPTIONS)}")
    for name, (kind, default) in OPTIONS.items():
        if found.get(name) is None:
            found[name] = default
        if found[name] is None:
            raise Refused(f"source_build needs {name}")
        if kind is bool:
            found[name] = WORDS.get(str(found[name]).lower(), found[name])
        if not isinstance(found[name], kind):
            raise Refused(f"source_build: {name} is {found[name]!r}, and has to be a {kind.__name__}")
    if not found["program"].startswith(f"{found['prefix']}/"):
        raise Refused(f"source_build: program {found['program']} is not below prefix {found['prefix']}")
    return Build(**found)


def run(*argv: str) -> str:
    """Run a command and return its standard output; raise `Refused` with its message if it fails."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"`{' '.join(argv)}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


# --- the packages of the build -----------------------------------------------------------------------------

#: "Inst NAME (VERSION ..." is a new package, "Inst NAME [OLD] (..." an upgrade.
NEW = re.compile(r"(?m)^Inst (\S+) \(")
APT = ("apt-get", "--quiet=2", "--yes", "--no-install-recommends")


@contextlib.contextmanager
def compiler(build: Build) -> Iterator[None]:
    """Install the packages of the build for the block, and purge those that were not there before.

    Their names are written down first, so that the next run purges what a killed one has left.
    """
    try:
        new = NEW.findall(run(*APT, "--simulate", "install", *build.packages))
        if new and not build.packages_ok:
            raise Refused(
                f"{' '.join(build.packages)} would be installed, and the host is marked lab_owned: false; "
                "set lab_packages_ok: true to allow it"
            )
        if new:
            INSTALLED.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with INSTALLED.open("a") as stream:
                stream.write("".join(f"{name}\n" for name in new))
                stream.flush()
                os.fsync(stream.fileno())
            run(*APT, "install", *build.packages)
        yield
    finally:
        purge_compiler(build)


def purge_compiler(build: Build) -> None:
    """Purge the packages that this build, or one that was killed, has installed."""
    if INSTALLED.exists():
        if not build.keep_packages:
            run(*APT, "purge", *sorted(set(INSTALLED.read_text().split())))
        INSTALLED.unlink()


# --- the build ---------------------------------------------------------------------------------------------


def check_source(build: Build) -> None:
    """Raise `Refused` unless the host can be built on, and has the right archive."""
    if not shutil.which("apt-get"):
        raise Refused("a source build needs apt; leave the source out to install the package")
    if Path(build.prefix).exists() and not build.stamp.exists():
        raise Refused(f"{build.prefix} is there and not the lab's; move it away")
    digest = hashlib.sha256(Path(build.archive).read_bytes()).hexdigest()
    if digest != build.sha256:
        raise Refused(
            f"the source's SHA-256 is {digest}, not {build.sha256}; correct the SHA-256 of the source"
        )


def compile_program(build: Build) -> None:
    """Compile the program as a user that exists only meanwhile, and put it in its place."""
    draft = Path(f"{build.program}.new")
    subprocess.run(["systemctl", "stop", UNIT], capture_output=True, check=False)  # of a run that was killed
    command = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--unit={UNIT}"]
    command += [f"--property={each}" for each in SANDBOX]
    command += ["sh", "-euc", SCRIPT, "sh", build.commands, build.product, *build.options]
    with Path(build.archive).open("rb") as source, draft.open("wb") as program:
        done = subprocess.run(command, stdin=source, stdout=program, stderr=subprocess.PIPE, check=False)
    # systemd-run reports no failure if it could not start the unit at all.
    if done.returncode or not draft.stat().st_size:
        draft.unlink()
        last = done.stderr.decode(errors="replace").strip() or f"(none: see `journalctl -u {UNIT}`)"
        raise Refused(f"{Path(build.program).name} cannot be built. The last lines of the build:\n{last}")
    draft.chmod(0o755)
    draft.replace(build.program)


def build_program(build: Build) -> None:
    """Build the program and install it; the archive and the packages of the build are removed at any end."""
    try:
        if build.is_built():
            purge_compiler(build)
            return
        check_source(build)
        Path(build.program).parent.mkdir(parents=True, exist_ok=True)
        if not build.stamp.exists():
            build.stamp.touch()  # from here on the folder is the lab's
        with compiler(build):
            compile_program(build)
        build.stamp.write_text(build.identity)
    finally:
        if build.archive:
            Path(build.archive).unlink(missing_ok=True)


def main() -> None:
    """Build the program unless it is there, and print the result as Ansible reads it."""
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
    os.environ.update(DEBIAN_FRONTEND="noninteractive", LC_ALL="C.UTF-8")
    given = json.loads(ARGUMENTS)
    outcome: dict[str, Any] = {"changed": False, "needed": False}
    try:
        build = options(given)
        if not build.is_built() or INSTALLED.exists():
            outcome.update(changed=True, needed=True)
            outcome["diff"] = [{"prepared": f"build {build.program}\n"}]
            if not given["_ansible_check_mode"]:
                build_program(build)
    except (Refused, OSError) as error:
        outcome = {"changed": False, "failed": True, "msg": str(error)}
    if not given["_ansible_diff"]:
        outcome.pop("diff", None)
    print(json.dumps(outcome))
    sys.exit(bool(outcome.get("failed")))


if __name__ == "__main__":
    main()
