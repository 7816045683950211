"""Install the kernel that a host is to run, and select its boot entry.

    kernel.py plan MANAGER SUITE PACKAGE...            print missing packages, kernels and boot entries
    kernel.py install MANAGER SUITE PACKAGE...         install the packages, then print the same
    kernel.py select KERNEL                            make KERNEL boot next
    kernel.py confirm check|apply KERNEL                make KERNEL, which has booted well, the default
    kernel.py before                                   print the same for the kernel that ran before the lab
    kernel.py forget check|apply                       remove the lab's choice of the default kernel

MANAGER is apt or dnf; a PACKAGE is a name, NAME=VERSION, or JSON with `path` or `url`, and `sha256`, of a
file that was fetched to /var/cache/mptcp-lab. plan, install and before print one JSON line: `install` (the
missing packages), `running` and `wanted` (kernel releases; wanted is "" while packages are missing),
`entries` (the kernels that have a boot entry). The program never removes a package.

If GRUB can write its environment, the new kernel boots only once: until it is confirmed, the running kernel
stays the default, and a reset of the machine boots it again.
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


def run(*argv: str) -> str:
    """Run a command and return its standard output; exit with the command's message if it fails."""
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    if done.returncode:
        sys.exit(f"`{' '.join(argv)}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def given(packages: Iterable[str]) -> list[str]:
    """Return the packages as arguments of the package manager; exit if a fetched file has another digest."""
    ready = []
    for package in packages:
        if package.startswith("{"):
            described = json.loads(package)
            file = CACHE / Path(described.get("path") or described["url"]).name
            digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else described["sha256"]
            if digest != described["sha256"]:
                sys.exit(f"{file} has sha256 {digest}, not {described['sha256']}; nothing was installed")
            ready.append(str(file))
        else:
            ready.append(package)
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

    def missing(self) -> list[str]:
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
            # dpkg also prints packages that it knows by name only, such as virtual packages.
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

    def missing(self) -> list[str]:
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


def plan(manager: Apt | Dnf, install: bool) -> None:
    """Print the report of the packages; with `install`, install those that are missing first.

    Exits with a message unless the packages hold exactly one kernel.
    """
    absent = [package for package in manager.packages if "/" in package and not Path(package).exists()]
    missing = absent or manager.missing()
    if install and missing:
        remember()
        if boots_once() and platform.release() in boot_entries():
            pin(platform.release())  # a new kernel that is first in the menu must not be the default yet
        manager.install()
        missing = []
    kernels = sorted(set(IMAGE.findall(manager.contents()))) if not missing else []
    if len(kernels) != 1 and not missing:
        sys.exit(
            f"{' '.join(manager.packages)}: they hold {', '.join(kernels) or 'no kernel'}, and one is wanted"
        )
    print(report(missing, kernels[0] if kernels else ""))


def report(missing: list[str], wanted: str) -> str:
    """Return the JSON document that plan, install and before print."""
    return json.dumps(
        {"install": missing, "running": platform.release(), "wanted": wanted, "entries": boot_entries()}
    )


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
        raise SystemExit(f"{STATE}: cannot be written: {error.strerror}; make room on the host") from None


def read_state() -> dict[str, Any]:
    """Return the record of the kernel before the lab; exit with a message if it cannot be read."""
    try:
        state = json.loads(STATE.read_text())
        if not isinstance(state, dict) or not isinstance(state.get("before"), str):
            raise ValueError("it is no record of a kernel")
    except (OSError, ValueError, RecursionError) as error:
        hint = "choose the kernel by hand (docs/kernel.md) and remove this file"
        raise SystemExit(f"{STATE}: cannot be read: {error}; {hint}") from None
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


def choose_with_grub(kernel: str, apply: bool) -> str:
    """Make GRUB boot `kernel`, and return "unchanged" or "changed: ...".

    If it is the first entry anyway, the lab's default is removed, so that later updates boot too. Nothing is
    written unless `apply`.
    """
    menu = Path(GRUB_MENUS[0]).read_text()
    entries, chosen = grub_entries(menu), GRUB_CHOICE.exists()
    by_itself = next(iter(entries)) == kernel and (chosen or 'set default="0"' in menu)
    wanted = "" if by_itself else f'GRUB_DEFAULT="{entries[kernel]}"\n'
    if wanted == (GRUB_CHOICE.read_text() if chosen else ""):
        return "unchanged"
    if apply:
        write_choice(wanted)
    return f"changed: {kernel} boots next"


def write_choice(text: str) -> None:
    """Write the lab's GRUB default and update the menu; "" removes it."""
    GRUB_CHOICE.parent.mkdir(exist_ok=True)
    GRUB_CHOICE.write_text(text)
    if not text:
        GRUB_CHOICE.unlink()
    run("update-grub")


def select(kernel: str) -> None:
    """Make `kernel` boot next; exit unless it and the running kernel, for the way back, have boot entries."""
    entries, running = boot_entries(), platform.release()
    for needed, why in ((kernel, "is to boot"), (running, "runs, and is the way back")):
        if needed not in entries:
            sys.exit(
                f"{needed} {why}, but has no boot entry (there are: {', '.join(entries) or 'none'}); not "
                "rebooted. Repair the boot menu (update-grub, or kernel-install), then repeat"
            )
    remember()
    if boots_once():
        pin(running)
        run("grub-reboot", grub_entries(Path(GRUB_MENUS[0]).read_text())[kernel])
        print(f"changed: {kernel} boots next, once")
    elif shutil.which("grubby"):
        if run("grubby", "--default-kernel").strip().endswith(f"vmlinuz-{kernel}"):
            print("unchanged")
            return
        run("grubby", f"--set-default=/boot/vmlinuz-{kernel}")
        print(f"changed: {kernel} boots next")
    elif shutil.which("update-grub"):
        print(choose_with_grub(kernel, apply=True))
    else:
        print("unchanged: this system's boot loader chooses by itself")


def confirm(kernel: str, apply: bool) -> None:
    """Make a kernel that has booted well the default, if the lab has set a default at all."""
    print(choose_with_grub(kernel, apply) if GRUB_CHOICE.exists() else "unchanged")


def before() -> None:
    """Print the report for the kernel that ran before the lab, or the running one if that never changed."""
    was = read_state()["before"] if STATE.exists() else platform.release()
    print(report([], was))


def forget(apply: bool) -> None:
    """Remove the lab's GRUB default, its record of the kernel, and the fetched packages."""
    if not STATE.exists():
        print("unchanged")
        return
    if apply:
        kept = read_state()
        if GRUB_CHOICE.exists():
            write_choice("")
        if not kept.get("grub.d", True) and GRUB_CHOICE.parent.is_dir():
            GRUB_CHOICE.parent.rmdir()
        shutil.rmtree(CACHE, ignore_errors=True)
        STATE.unlink()
    print("changed: the system chooses again what boots")


def main() -> None:
    """Run the command that the arguments name."""
    verb, *rest = sys.argv[1:]
    if verb in ("plan", "install"):
        manager, suite, *packages = rest
        plan((Apt if manager == "apt" else Dnf)(suite, given(packages)), verb == "install")
    elif verb == "select":
        select(rest[0])
    elif verb == "confirm":
        confirm(rest[1], rest[0] == "apply")
    elif verb == "before":
        before()
    else:
        forget(rest[0] == "apply")


if __name__ == "__main__":
    main()
