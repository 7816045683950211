"""The kernel that a host is to run: what is missing, installing it, and the boot entry.

    kernel.py plan MANAGER SUITE PACKAGE...            say what would be installed, and what runs and boots
    kernel.py install MANAGER SUITE PACKAGE...         install it, then say the same
    kernel.py select KERNEL                            make KERNEL the one that boots next
    kernel.py confirm check|apply KERNEL                let KERNEL, which was proved, boot from now on
    kernel.py before                                   say the same, of the kernel that ran before the lab
    kernel.py forget check|apply                       let the system choose again what boots

MANAGER is apt or dnf; a PACKAGE is a name, NAME=VERSION, or JSON with `path` or `url`, and `sha256`, of a
file that was fetched to /var/cache/mptcp-lab. plan, install and before print one JSON line: `install` (what
is missing), `running` and `wanted` (kernel releases; wanted is "" while packages are missing), `entries`
(kernels that have a boot entry). Nothing is ever removed.

Where GRUB can write its environment, a kernel boots once: until it is proved the running one stays the
default, and the machine's reset button brings it back.
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
#: As in Debian's /etc/grub.d/00_header: on these GRUB reads its environment and cannot write it.
NOT_WRITTEN_BY_GRUB = set("diskfilter lvm btrfs cpiofs newc odc romfs squash4 tarfs zfs".split())
LOADER_ENTRIES = ("/boot/loader/entries", "/boot/efi/loader/entries", "/efi/loader/entries")
#: A kernel in a list of files, one per line: in /boot, or beside its modules as Debian has it since 7.3.
IMAGE = re.compile(r"(?m)/(?:boot/vmlinuz-|lib/modules/(?=[^/\s]+/vmlinuz$))([^/\s]+)")


def run(*argv: str) -> str:
    """Run a command and return what it printed; when it fails, say what it said."""
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    if done.returncode:
        sys.exit(f"`{' '.join(argv)}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def given(packages: Iterable[str]) -> list[str]:
    """Return packages as their manager takes them; a fetched file has to be what its digest says."""
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


# --- package managers: what is missing, installing, and which kernel the packages hold ---------------------


class Apt:
    """Debian and Ubuntu. A metapackage leads to the image; Debian splits that too since 7.3."""

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
        """Install; apt gives up rather than remove anything."""
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
            # dpkg also shows what it knows by name only, such as virtual packages.
            status, _, depends = shown.stdout.partition("\n")
            if status == "installed":
                names |= {d.split()[0] for d in re.split(r"[,|]\s*", depends) if d.startswith("linux-")}
                paths += run("dpkg-query", "--listfiles", name)
        return paths


class Dnf:
    """The RHEL family. Several kernels stay installed side by side; the running one is never removed."""

    def __init__(self, _suite: str, packages: list[str]) -> None:
        self.packages = [package.replace("=", "-") for package in packages]

    def _names(self) -> list[str]:
        return [run("rpm", "--query", "--package", p).strip() if "/" in p else p for p in self.packages]

    def missing(self) -> list[str]:
        """Return the packages of which no version, or not the one that is named, is installed."""
        return [
            n
            for n in self._names()
            if subprocess.run(["rpm", "--query", "--quiet", n], check=False).returncode
        ]

    def install(self) -> None:
        """Install beside what is there."""
        run("dnf", "--assumeyes", "--quiet", "--setopt=install_weak_deps=False", "install", *self.packages)

    def contents(self) -> str:
        """Return the paths of all files in the newest installed package of each name."""
        newest = [run("rpm", "--query", "--last", name).split()[0] for name in self._names()]
        return "".join(run("rpm", "--query", "--list", name) for name in newest)


def plan(manager: Apt | Dnf, install: bool) -> None:
    """Say what is missing; or install it, and say what there is then."""
    absent = [package for package in manager.packages if "/" in package and not Path(package).exists()]
    missing = absent or manager.missing()
    if install and missing:
        remember()
        if boots_once() and platform.release() in boot_entries():
            pin(platform.release())  # a kernel that comes first in the menu is not the default for that
        manager.install()
        missing = []
    kernels = sorted(set(IMAGE.findall(manager.contents()))) if not missing else []
    if len(kernels) != 1 and not missing:
        sys.exit(
            f"{' '.join(manager.packages)}: they hold {', '.join(kernels) or 'no kernel'}, and one is wanted"
        )
    print(report(missing, kernels[0] if kernels else ""))


def report(missing: list[str], wanted: str) -> str:
    """Return the document that all verbs print."""
    return json.dumps(
        {"install": missing, "running": platform.release(), "wanted": wanted, "entries": boot_entries()}
    )


def remember() -> None:
    """Keep, once, which kernel ran before the lab."""
    if not STATE.exists():
        STATE.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = GRUB_CHOICE.parent
        write_state({"before": platform.release(), "grub.d": folder.exists()})


def write_state(state: dict[str, Any]) -> None:
    """Write the record in one step, on disk when this returns: a power cut leaves all of it or none."""
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
    """Return the record of the time before the lab; end with one sentence where it is of no use."""
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
    """Return GRUB's path to the entry of each kernel of a grub.cfg, in the menu's order; no recovery modes.

    An entry in a submenu is addressed as `SUBMENU_ID>ENTRY_ID`. The entry that names its kernel goes before
    the first one, which is another kernel's as soon as that is newer.
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
                found[image[1]] = entry  # stays in its place
            found.setdefault(image[1], entry)
    return found


def loader_entries(texts: Iterable[str]) -> list[str]:
    """Return the kernels of Boot Loader Specification entries, as GRUB on RHEL and systemd-boot read them."""
    return [
        match[1]
        for text in texts
        if (match := re.search(r"(?m)^version\s+(\S+)", text)) and "rescue" not in match[1]
    ]


def boot_entries() -> list[str]:
    """Return every kernel that the boot menu offers."""
    menus = [Path(name).read_text() for name in GRUB_MENUS if Path(name).exists()]
    files = [path.read_text() for folder in LOADER_ENTRIES for path in sorted(Path(folder).glob("*.conf"))]
    return list(
        dict.fromkeys([kernel for menu in menus for kernel in grub_entries(menu)] + loader_entries(files))
    )


def boots_once() -> bool:
    """Tell whether GRUB can be asked to boot an entry once: it has to take the word back by itself."""
    if shutil.which("grubby") or not shutil.which("grub-reboot") or not Path(GRUB_MENUS[0]).exists():
        return False
    folder = str(Path(GRUB_MENUS[0]).parent)
    lies_on = f"{run('grub-probe', '-t', 'fs', folder)} {run('grub-probe', '-t', 'abstraction', folder)}"
    return "save_env next_entry" in Path(GRUB_MENUS[0]).read_text() and not NOT_WRITTEN_BY_GRUB & set(
        lies_on.split()
    )


def pin(kernel: str) -> None:
    """Have GRUB boot `kernel`, whatever comes first."""
    wanted = f'GRUB_DEFAULT="{grub_entries(Path(GRUB_MENUS[0]).read_text())[kernel]}"\n'
    if not GRUB_CHOICE.exists() or GRUB_CHOICE.read_text() != wanted:
        write_choice(wanted)


def choose_with_grub(kernel: str, apply: bool) -> str:
    """Have GRUB boot `kernel`; no word from us where it comes first anyway, so that updates boot too."""
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
    """Write the lab's word on what boots; "" takes it away."""
    GRUB_CHOICE.parent.mkdir(exist_ok=True)
    GRUB_CHOICE.write_text(text)
    if not text:
        GRUB_CHOICE.unlink()
    run("update-grub")


def select(kernel: str) -> None:
    """Make `kernel` boot next; the running one has to have its entry too, for the way back."""
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
    """Let a kernel that was proved boot from now on, where the lab has said which one does."""
    print(choose_with_grub(kernel, apply) if GRUB_CHOICE.exists() else "unchanged")


def before() -> None:
    """Say which kernel ran before the lab; the running one where the lab never changed it."""
    was = read_state()["before"] if STATE.exists() else platform.release()
    print(report([], was))


def forget(apply: bool) -> None:
    """Take away what the lab said and remembers of kernels."""
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
    """Do what the arguments say."""
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
