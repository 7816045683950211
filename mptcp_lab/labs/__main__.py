"""``python -m mptcp_lab.labs up|down|status|kernel|doctor|copies``: manage the labs on this machine."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from mptcp_lab.errors import LabError
from mptcp_lab.inventory import InventoryError, Lab, load, resolve
from mptcp_lab.inventory.fields import HOSTNAME
from mptcp_lab.inventory.validate import RESERVED_LAB_NAMES
from mptcp_lab.labs import copies, lifecycle, recorded
from mptcp_lab.labs import machine_check as doctor
from mptcp_lab.labs.columns import choice, column, readiness
from mptcp_lab.labs.columns.spec import KernelSpec, parse_spec
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths, lab_paths
from mptcp_lab.paths import ROOT

#: The variable by which an inventory of a lab on this machine refers to the ssh_config that `up` writes.
OPENS_LAB = 'lab_ssh_config: "{{ ansible_config_file | dirname }}/.lab/labs/{{ lab_name }}/ssh_config"'
#: As many copies as the machine carries.
AUTO = "auto"


class Progress:
    """Print stages with the time since the start: on one changing line of a terminal, else line by line."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.begun, self.live = quiet, time.monotonic(), sys.stderr.isatty()

    def __call__(self, stage: str) -> None:
        """Show one stage."""
        if self.quiet:
            return
        line = f"  {time.monotonic() - self.begun:5.1f} s  {stage}"
        print(
            f"\r\033[K{line}" if self.live else line,
            end="" if self.live else "\n",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        """End the changing line."""
        if self.live and not self.quiet:
            print("\r\033[K", end="", file=sys.stderr)


def main() -> int:
    """Run one action; exit 0 on success, 4 with one error message, 1 if status finds a host not up."""
    parser = argparse.ArgumentParser(
        prog="mptcp_lab.labs",
        description="Labs on this machine: up, down, status.",
    )
    parser.add_argument("action", choices=["up", "down", "status", "kernel", "doctor", "copies"])
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--inventory",
        default="inventory",
        help="a path, or a name under inventories/ (default: that of ansible.cfg)",
    )
    which.add_argument(
        "--lab", metavar="NAME", help="down only: remove the lab with this name, without its inventory"
    )
    parser.add_argument("--kernel", metavar="SPEC", help="the kernel that the lab runs on (docs/kernels.md)")
    parser.add_argument("--modules", metavar="DIR", help="the modules of a kernel that is a bzImage")
    parser.add_argument("--base", default=".", help="the folder that relative paths of --kernel start from")
    parser.add_argument(
        "--labs", default=AUTO, help=f"copies only: how many labs there are to be with the first, or {AUTO}"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON line instead of progress and text"
    )
    arguments = parser.parse_args()
    if arguments.lab and arguments.action != "down":
        parser.error("--lab is for down only")
    signal.signal(signal.SIGTERM, _interrupt)  # so that a terminated build cleans up after itself
    if arguments.action in ("up", "down", "copies") and os.geteuid() != 0:
        become_root()
    progress = Progress(arguments.json)
    try:
        if arguments.action == "down":
            return _take_down(arguments, progress)
        return _act(arguments, progress)
    except LabError as error:
        progress.close()
        print(error, file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        progress.close()
        option = "" if arguments.inventory == "inventory" else f" --inventory {arguments.inventory}"
        print(
            f"interrupted; next: ./lab up{option} to continue, or ./lab down{option} to remove the lab",
            file=sys.stderr,
        )
        return 130


def become_root() -> None:
    """Run this command again through sudo; files that it creates are given to the calling user."""
    sudo = [
        "sudo",
        "--preserve-env=MPTCP_LAB_MIRROR,MPTCP_LAB_PATIENCE",
        *([] if sys.stdin.isatty() else ["-n"]),
    ]
    os.chdir(ROOT)
    with contextlib.suppress(FileNotFoundError):  # without sudo, the action reports that it needs root
        os.execvp("sudo", [*sudo, sys.executable, "-B", "-m", "mptcp_lab.labs", *sys.argv[1:]])  # noqa: S606 - no shell


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _act(arguments: argparse.Namespace, progress: Progress) -> int:
    if arguments.action == "doctor" and not (arguments.kernel or arguments.modules):
        return 0 if doctor.report(doctor.examine()) else 1
    as_json = arguments.json
    lab = load(resolve(arguments.inventory))
    paths = paths_of_lab(lab)
    _check_ssh_config(lab)
    chosen = choice.choose_kernel(paths, lab, _given_kernel(arguments))
    if arguments.action == "copies":
        _write_copies(paths, lab, chosen.spec, arguments.labs)
        return 0
    if arguments.action == "doctor":
        is_host = chosen.spec.is_host
        found = doctor.examine() if is_host else readiness.examine_column(paths, lab, chosen)
        return 0 if doctor.report(found) else 1
    if arguments.action == "kernel":
        print(chosen.spec.word)
        return 0
    if arguments.action == "up":
        if chosen.spec.is_host:
            changed = lifecycle.bring_up(paths, lab, progress)
        else:
            changed = column.bring_up(paths, lab, chosen, progress)
        progress.close()
        seconds = time.monotonic() - progress.begun
        word = "is up" if changed else "was up already"
        _print(
            as_json,
            {"changed": changed, "seconds": round(seconds, 3)},
            f"{lab.name}: {len(lab.hosts)} hosts, lab {word} ({seconds:.1f} s)",
        )
        return 0
    states = lifecycle.status(paths, lab) if chosen.spec.is_host else column.status(paths, lab)
    _print(as_json, {"hosts": states}, "\n".join(f"{name:<16} {state}" for name, state in states.items()))
    return 0 if set(states.values()) == {"up"} else 1


def _given_kernel(arguments: argparse.Namespace) -> KernelSpec | None:
    """Return the kernel that the options name, if they name any."""
    if arguments.kernel:
        return parse_spec(arguments.kernel, arguments.modules, Path(arguments.base))
    if arguments.modules:
        raise EmbeddedError("--modules belongs to --kernel BZIMAGE", "name the bzImage too")
    return None


def _write_copies(paths: LabPaths, lab: Lab, kernel: KernelSpec, labs: str) -> None:
    """Write the inventories of the labs beside the first one, and print a line for each."""
    is_copied = lab.flavour == "embedded" and kernel.is_host and not copies.has_secrets(lab)
    if labs == AUTO:
        labs = str(copies.count_shared(paths, lab) if is_copied else 1)
    elif lab.flavour != "embedded" or not kernel.is_host:
        raise EmbeddedError(
            "--labs makes copies of an embedded lab on this machine's kernel only", "./lab run without --labs"
        )
    for number in range(2, int(labs) + 1):
        print(copies.write_copy(lab, number))


def _take_down(arguments: argparse.Namespace, progress: Progress) -> int:
    """Take one lab down: the lab with a name, or the lab that an inventory describes."""
    name = arguments.lab
    paths = paths_of_name(name) if name else paths_to_take_down(arguments.inventory, progress)
    if given := _given_kernel(arguments):
        choice.check_given(paths, given)
    changed = lifecycle.take_down(paths, progress)
    for copy in copies.find_copies(paths):
        changed |= lifecycle.take_down(copy, progress)
    copies.remove_copies(paths)
    progress.close()
    _print(
        arguments.json, {"changed": changed}, "the lab is down" if changed else f"lab {paths.name} was not up"
    )
    return 0


def _print(as_json: bool, document: dict[str, object], prose: str) -> None:
    print(json.dumps(document) if as_json else prose)


def paths_of_lab(lab: Lab) -> LabPaths:
    """Return the paths of a lab; refuse one that does not run on this machine."""
    if lab.flavour not in lifecycle.KINDS:
        raise EmbeddedError(
            f"{lab.source} is not a lab on this machine (lab_flavour: {lab.flavour})",
            "power on its machines, then run ansible-playbook lab.yml",
        )
    return lab_paths(lab.name)


def paths_of_name(name: str) -> LabPaths:
    """Return the paths of the lab with a name; refuse a name that no lab of this checkout has."""
    if not HOSTNAME.fullmatch(name) or name in RESERVED_LAB_NAMES or not lifecycle.exists(lab_paths(name)):
        up = ", ".join(each.name for each in recorded.read_all(lab_paths())) or "none"
        raise EmbeddedError(
            f"no lab has the name {name!r} (up from this checkout: {up})", "./lab down --lab NAME"
        )
    return lab_paths(name)


def paths_to_take_down(inventory: str, progress: Progress) -> LabPaths:
    """Return the paths of an inventory's lab; for an invalid inventory, use the record that `up` wrote."""
    labs = recorded.read_all(lab_paths())
    try:
        source = resolve(inventory)
    except InventoryError as error:
        if labs:
            up = ", ".join(f"{each.name} ({each.source or 'from an unknown inventory'})" for each in labs)
            what = f"{inventory}: {error.problem}; labs that are up: {up}"
            raise EmbeddedError(what, "./lab down --lab NAME") from None
        raise
    try:
        return paths_of_lab(load(source))
    except InventoryError:
        names = recorded.find_by_source(lab_paths(), source)
        if len(names) != 1:
            raise
        progress(f"{source} is invalid; lab {names[0]} was brought up from it")
        return lab_paths(names[0])


def _check_ssh_config(lab: Lab) -> None:
    """Refuse an inventory whose lab_ssh_config is the path that older versions used."""
    for host in lab.hosts.values():
        path = str(host.variables.get("lab_ssh_config", ""))
        if "/.lab/{{" in path.replace(" ", ""):
            raise InventoryError(
                host.name,
                "lab_ssh_config",
                f"{path} is where older versions kept a lab's state",
                OPENS_LAB,
            )


if __name__ == "__main__":
    sys.exit(main())
