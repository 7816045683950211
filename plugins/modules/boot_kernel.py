#!/usr/bin/python
"""Install the kernel that a host is to run, and select the kernel that boots: an Ansible module.

If GRUB can write its environment, the new kernel boots only once: until it is the default, the kernel that
ran before stays the default, and a reset of the machine boots it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DOCUMENTATION = """
module: boot_kernel
short_description: Install a kernel, and select the kernel that a host boots
author: mptcp-lab maintainers
description:
  - Installs packages that hold one kernel, or selects the boot entry of a kernel. It removes no package, and
    does not reboot the host.
  - In check mode nothing is changed, and the same values are returned; no kernel is known of packages that
    are not installed.
options:
  state:
    description: >-
      C(installed) installs C(packages). C(next) makes C(kernel) boot next, and refuses unless it and the
      running kernel have boot entries. C(default) makes C(kernel), which has booted well, the default, if the
      lab has set a default. C(restored) removes the lab's default, its note of the kernel from before the
      lab, and the fetched packages.
    type: str
    choices: [installed, next, default, restored]
    default: installed
  packages:
    description: >-
      For C(installed). Each is a name, C(NAME=VERSION), or a mapping with C(path) or C(url), and C(sha256),
      of a file that was fetched to /var/cache/mptcp-lab.
    type: list
    elements: raw
    default: []
  manager:
    description: The package manager.
    type: str
    choices: [apt, dnf]
    default: apt
  suite:
    description: The suite that apt installs from; empty for the host's own.
    type: str
    default: ""
  kernel:
    description: The release of the kernel, for C(next) and C(default).
    type: str
    default: ""
"""
RETURN = """
missing:
  description: The packages that are missing, or were before this task installed them.
  returned: C(state) is C(installed) or C(restored)
  type: list
running:
  description: The release of the running kernel.
  returned: C(state) is C(installed) or C(restored)
  type: str
wanted:
  description: >-
    The kernel in the packages, empty while packages are missing; for C(restored), the kernel that ran before
    the lab.
  returned: C(state) is C(installed) or C(restored)
  type: str
entries:
  description: The kernels that have a boot entry.
  returned: C(state) is C(installed) or C(restored)
  type: list
once:
  description: Whether the kernel boots only once.
  returned: C(state) is C(next)
  type: bool
"""

#: Ansible replaces this text with the arguments; its presence makes Ansible run the module in one round trip.
ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""
#: By option: the type of its value, and the default.
OPTIONS: dict[str, tuple[type, Any]] = {
    "state": (str, "installed"),
    "packages": (list, []),
    "manager": (str, "apt"),
    "suite": (str, ""),
    "kernel": (str, ""),
}
#: By option: the values that it accepts.
CHOICES = {"state": ("installed", "next", "default", "restored"), "manager": ("apt", "dnf")}
STATE = Path("/var/lib/mptcp-lab/kernel.json")
CACHE = Path("/var/cache/mptcp-lab")
GRUB_CHOICE = Path("/etc/default/grub.d/90-mptcp-lab.cfg")
GRUB_MENUS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")
#: File systems and devices on which GRUB can read its environment, but not write it. The list is that of
#: Debian's /etc/grub.d/00_header.
NOT_WRITTEN_BY_GRUB = set("diskfilter lvm btrfs cpiofs newc odc romfs squash4 tarfs zfs".split())
LOADER_ENTRIES = ("/boot/loader/entries", "/boot/efi/loader/entries", "/efi/loader/entries")
#: A kernel image in a list of files, one per line: in /boot, or, since Debian's Linux 7.3, with its modules.
IMAGE = re.compile(r"(?m)/(?:boot/vmlinuz-|lib/modules/(?=[^/\s]+/vmlinuz$))([^/\s]+)")


class Refused(Exception):
    """The module cannot do its task; the message names what failed and the reason."""


def options(given: dict[str, Any]) -> dict[str, Any]:
    """Return the module's options with their defaults; raise `Refused` for one that is unknown or wrong."""
    found = {name: value for name, value in given.items() if not name.startswith("_ansible_")}
    if unknown := sorted(found.keys() - OPTIONS.keys()):
        raise Refused(f"boot_kernel has no option {', '.join(unknown)}; it has {', '.join(OPTIONS)}")
    for name, (kind, default) in OPTIONS.items():
        if found.get(name) is None:
            found[name] = default
        if not isinstance(found[name], kind):
            raise Refused(f"boot_kernel: {name} is {found[name]!r}, and has to be a {kind.__name__}")
        if found[name] not in CHOICES.get(name, (found[name],)):
            raise Refused(f"boot_kernel: {name} is {found[name]!r}; give one of {', '.join(CHOICES[name])}")
    needed = {"installed": "packages", "next": "kernel", "default": "kernel"}.get(found["state"])
    if needed and not found[needed]:
        raise Refused(f"boot_kernel: state {found['state']} needs {needed}, which is empty")
    return found


def run(*argv: str) -> str:
    """Run a command and return its standard output; raise `Refused` with its message if it fails."""
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    if done.returncode:
        raise Refused(f"`{' '.join(argv)}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def package_words(packages: Iterable[Any]) -> list[str]:
    """Return the packages as arguments of the package manager; refuse a file with another digest."""
    ready = []
    for package in packages:
        if isinstance(package, str):
            ready.append(package)
            continue
        try:
            file, wanted = CACHE / Path(package.get("path") or package["url"]).name, package["sha256"]
        except (AttributeError, KeyError, TypeError):
            raise Refused(
                f"boot_kernel: package {package!r} is no name, and has no path or url with sha256"
            ) from None
        digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else wanted
        if digest != wanted:
            raise Refused(f"{file} has sha256 {digest}, not {wanted}; nothing was installed")
        ready.append(str(file))
    return ready


# --- package managers: find missing packages, install them, list their files -------------------------------


class Apt:
    """The package manager of Debian and Ubuntu.

    A metapackage depends on the package with the image, which Debian splits further since Linux 7.3.
    """

    def __init__(self, suite: str, packages: list[str]) -> None:
        chosen = ["--target-release", suite] if suite else []
        older = ["--allow-downgrades"] if any("=" in package for package in packages) else []
        self.packages = packages
        self.command = [
            "apt-get",
            "--quiet",
            "--yes",
            "--no-remove",
            "--no-install-recommends",
            *chosen,
            *older,
        ]

    def missing_packages(self) -> list[str]:
        """Return a line per package that would be installed or upgraded."""
        shown = run(*self.command, "--simulate", "install", *self.packages)
        return [line.partition(" ")[2] for line in shown.splitlines() if line.startswith("Inst ")]

    def install(self) -> None:
        """Install the packages; apt fails if that would remove any other package."""
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        run(*self.command, "--option", "Dpkg::Options::=--force-confold", "install", *self.packages)

    def contents(self) -> str:
        """Return the paths of all files in the packages and in the `linux-` packages that they depend on."""
        names = {
            run("dpkg-deb", "--field", p, "Package").strip() if "/" in p else p.partition("=")[0]
            for p in self.packages
        }
        paths, seen = "", set[str]()
        while names - seen:
            name = min(names - seen)
            seen.add(name)
            shown = subprocess.run(
                ["dpkg-query", "--show", "--showformat=${db:Status-Status}\n${Depends}", name],
                capture_output=True,
                text=True,
                check=False,
            )
            # dpkg also prints packages that it has only the name of, such as virtual packages.
            status, _, depends = shown.stdout.partition("\n")
            if status == "installed":
                names |= {d.split()[0] for d in re.split(r"[,|]\s*", depends) if d.startswith("linux-")}
                paths += run("dpkg-query", "--listfiles", name)
        return paths


class Dnf:
    """The package manager of the RHEL family. It keeps several kernels, and never removes the running one."""

    def __init__(self, _suite: str, packages: list[str]) -> None:
        self.packages = [package.replace("=", "-") for package in packages]

    def _names(self) -> list[str]:
        return [run("rpm", "--query", "--package", p).strip() if "/" in p else p for p in self.packages]

    def missing_packages(self) -> list[str]:
        """Return the packages that are not installed, or not in the version that is named."""
        return [
            n
            for n in self._names()
            if subprocess.run(["rpm", "--query", "--quiet", n], check=False).returncode
        ]

    def install(self) -> None:
        """Install the packages in addition to the kernels that are installed."""
        run("dnf", "--assumeyes", "--quiet", "--setopt=install_weak_deps=False", "install", *self.packages)

    def contents(self) -> str:
        """Return the paths of all files in the newest installed package of each name."""
        newest = [run("rpm", "--query", "--last", name).split()[0] for name in self._names()]
        return "".join(run("rpm", "--query", "--list", name) for name in newest)


def install(manager: Apt | Dnf, check: bool) -> dict[str, Any]:
    """Install the packages that are missing, unless `check`, and return the result.

    Raises `Refused` unless the packages hold exactly one kernel.
    """
    absent = [package for package in manager.packages if "/" in package and not Path(package).exists()]
    missing = absent or manager.missing_packages()
    if missing and not check:
        remember()
        if boots_once() and platform.release() in boot_entries():
            pin(platform.release())  # a new kernel that is first in the menu must not be the default yet
        manager.install()
    if missing and check:
        return result(bool(missing), missing=missing, **report(""))
    kernels = sorted(set(IMAGE.findall(manager.contents())))
    if len(kernels) != 1:
        raise Refused(
            f"{' '.join(manager.packages)}: they hold {', '.join(kernels) or 'no kernel'}, and one is wanted"
        )
    return result(bool(missing), missing=missing, **report(kernels[0]))


def report(wanted: str) -> dict[str, Any]:
    """Return the running kernel, the wanted one and all that have a boot entry."""
    return {"running": platform.release(), "wanted": wanted, "entries": boot_entries()}


def result(changed: bool, text: str = "", **values: Any) -> dict[str, Any]:
    """Return a result as Ansible reads it; `text` and the missing packages are shown as the difference."""
    lines = [f"install {each}" for each in values.get("missing", [])] + ([text] if text else [])
    diff = [{"prepared": "".join(f"{line}\n" for line in lines)}] if changed else []
    return {"changed": changed, "diff": diff, **values}


def remember() -> None:
    """Record which kernel ran before the lab, unless that is recorded already."""
    if not STATE.exists():
        STATE.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = GRUB_CHOICE.parent
        write_state({"before": platform.release(), "grub.d": folder.exists()})


def write_state(state: dict[str, Any]) -> None:
    """Write the record atomically and synced to disk: a power cut leaves the old or the new one."""
    partial = STATE.with_suffix(".partial")
    try:
        with partial.open("w") as stream:
            json.dump(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(STATE)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise Refused(f"{STATE}: cannot be written: {error.strerror}; make room on the host") from None


def read_state() -> dict[str, Any]:
    """Return the record of the kernel before the lab; raise `Refused` if it cannot be read."""
    try:
        state = json.loads(STATE.read_text())
        if not isinstance(state, dict) or not isinstance(state.get("before"), str):
            raise ValueError("it is no record of a kernel")
    except (OSError, ValueError, RecursionError) as error:
        hint = "choose the kernel by hand (docs/kernel.md) and remove this file"
        raise Refused(f"{STATE}: cannot be read: {error}; {hint}") from None
    return state


# --- boot entries ------------------------------------------------------------------------------------------


def grub_entries(menu: str) -> dict[str, str]:
    """Return the path of each kernel's menu entry in a grub.cfg, in the menu's order, without recovery modes.

    The path of an entry in a submenu is `SUBMENU_ID>ENTRY_ID`. An entry whose id names the kernel is
    preferred to the menu's first entry, which boots another kernel as soon as a newer one is installed.
    """
    found: dict[str, str] = {}
    submenu = entry = ""
    for line in menu.splitlines():
        named = re.match(r"(\s*)(submenu|menuentry) .*?(?:menuentry_id_option|--id)\s+'?([^' ]+)'?", line)
        if named:
            indent, kind, name = named.groups()
            if kind == "submenu":
                submenu, entry = name, ""
            else:
                entry = f"{submenu}>{name}" if indent and submenu else name
        image = re.match(r"\s*linux\w*\s+\S*/vmlinuz-(\S+)", line)
        if image and entry and "-recovery-" not in entry:
            if f"-{image[1]}-advanced-" in entry:
                found[image[1]] = entry  # keeps the kernel's position in the dict
            found.setdefault(image[1], entry)
    return found


def loader_entries(texts: Iterable[str]) -> list[str]:
    """Return the kernels of Boot Loader Specification entries, which GRUB on RHEL and systemd-boot use."""
    return [
        match[1]
        for text in texts
        if (match := re.search(r"(?m)^version\s+(\S+)", text)) and "rescue" not in match[1]
    ]


def boot_entries() -> list[str]:
    """Return the release of every kernel that the boot menu offers."""
    menus = [Path(name).read_text() for name in GRUB_MENUS if Path(name).exists()]
    files = [path.read_text() for folder in LOADER_ENTRIES for path in sorted(Path(folder).glob("*.conf"))]
    return list(
        dict.fromkeys([kernel for menu in menus for kernel in grub_entries(menu)] + loader_entries(files))
    )


def boots_once() -> bool:
    """Return whether GRUB can boot an entry only once, which requires that it can write its environment."""
    if shutil.which("grubby") or not shutil.which("grub-reboot") or not Path(GRUB_MENUS[0]).exists():
        return False
    folder = str(Path(GRUB_MENUS[0]).parent)
    lies_on = f"{run('grub-probe', '-t', 'fs', folder)} {run('grub-probe', '-t', 'abstraction', folder)}"
    return "save_env next_entry" in Path(GRUB_MENUS[0]).read_text() and not NOT_WRITTEN_BY_GRUB & set(
        lies_on.split()
    )


def pin(kernel: str) -> None:
    """Make `kernel` GRUB's default, whichever entry is first in the menu."""
    wanted = f'GRUB_DEFAULT="{grub_entries(Path(GRUB_MENUS[0]).read_text())[kernel]}"\n'
    if not GRUB_CHOICE.exists() or GRUB_CHOICE.read_text() != wanted:
        write_choice(wanted)


def choose_with_grub(kernel: str, check: bool) -> bool:
    """Make GRUB boot `kernel`, unless `check`, and return whether that is a change.

    If it is the first entry anyway, the lab's default is removed, so that later updates boot too.
    """
    menu = Path(GRUB_MENUS[0]).read_text()
    entries, chosen = grub_entries(menu), GRUB_CHOICE.exists()
    if kernel not in entries:
        raise Refused(
            f"{kernel} has no entry in {GRUB_MENUS[0]}; repair the boot menu (update-grub), then repeat"
        )
    by_itself = next(iter(entries)) == kernel and (chosen or 'set default="0"' in menu)
    wanted = "" if by_itself else f'GRUB_DEFAULT="{entries[kernel]}"\n'
    if wanted == (GRUB_CHOICE.read_text() if chosen else ""):
        return False
    if not check:
        write_choice(wanted)
    return True


def write_choice(text: str) -> None:
    """Write the lab's GRUB default and update the menu; "" removes it."""
    GRUB_CHOICE.parent.mkdir(exist_ok=True)
    GRUB_CHOICE.write_text(text)
    if not text:
        GRUB_CHOICE.unlink()
    run("update-grub")


def boot_next(kernel: str, check: bool) -> dict[str, Any]:
    """Make `kernel` boot next, unless `check`; return whether that is a change, and whether it boots once.

    Raises `Refused` unless `kernel` and the running kernel, for the way back, have boot entries.
    """
    entries, running = boot_entries(), platform.release()
    for needed, why in ((kernel, "is to boot"), (running, "runs, and is the way back")):
        if needed not in entries:
            raise Refused(
                f"{needed} {why}, but has no boot entry (there are: {', '.join(entries) or 'none'}); not "
                "rebooted. Repair the boot menu (update-grub, or kernel-install), then repeat"
            )
    if not check:
        remember()
    changed, once = True, boots_once()
    if once:
        if not check:
            pin(running)
            run("grub-reboot", grub_entries(Path(GRUB_MENUS[0]).read_text())[kernel])
    elif shutil.which("grubby"):
        changed = not run("grubby", "--default-kernel").strip().endswith(f"vmlinuz-{kernel}")
        if changed and not check:
            run("grubby", f"--set-default=/boot/vmlinuz-{kernel}")
    elif shutil.which("update-grub"):
        changed = choose_with_grub(kernel, check)
    else:
        changed = False  # the boot loader chooses by itself
    return result(changed, f"{kernel} boots next{', once' if once else ''}", once=once)


def make_default(kernel: str, check: bool) -> dict[str, Any]:
    """Make a kernel that has booted well the default, if the lab has set a default at all."""
    return result(GRUB_CHOICE.exists() and choose_with_grub(kernel, check), f"{kernel} is the default")


def restore(check: bool) -> dict[str, Any]:
    """Remove the lab's GRUB default, its note of the kernel from before the lab, and the fetched packages."""
    state = read_state() if STATE.exists() else {}
    found = report(state.get("before", platform.release()))
    if state and not check:
        if GRUB_CHOICE.exists():
            write_choice("")
        if not state.get("grub.d", True) and GRUB_CHOICE.parent.is_dir():
            GRUB_CHOICE.parent.rmdir()
        shutil.rmtree(CACHE, ignore_errors=True)
        STATE.unlink()
    return result(bool(state), "the system chooses again what boots", missing=[], **found)


def main() -> None:
    """Bring the host to the state that the arguments name, and print the result as Ansible reads it."""
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
    given = json.loads(ARGUMENTS)
    check = given["_ansible_check_mode"]
    try:
        wanted = options(given)
        if wanted["state"] == "installed":
            manager = Apt if wanted["manager"] == "apt" else Dnf
            outcome = install(manager(wanted["suite"], package_words(wanted["packages"])), check)
        elif wanted["state"] == "next":
            outcome = boot_next(wanted["kernel"], check)
        elif wanted["state"] == "default":
            outcome = make_default(wanted["kernel"], check)
        else:
            outcome = restore(check)
    except (Refused, OSError) as error:
        outcome = {"changed": False, "failed": True, "msg": str(error)}
    if not given["_ansible_diff"]:
        outcome.pop("diff", None)
    print(json.dumps(outcome))
    sys.exit(bool(outcome.get("failed")))


if __name__ == "__main__":
    main()
