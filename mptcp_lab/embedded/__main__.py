"""``python -m mptcp_lab.embedded up|down|status|doctor``: the door of labs that live on this machine."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from types import FrameType

from mptcp_lab.embedded import doctor, lifecycle
from mptcp_lab.embedded.errors import EmbeddedError
from mptcp_lab.embedded.place import Place, here
from mptcp_lab.inventory import InventoryError, Lab, load, resolve
from mptcp_lab.inventory.load import ROOT


class Progress:
    """Stages with the time since the start: one changing line on a terminal, plain lines elsewhere."""

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
    """Run one action; exit 0 when done, 4 with one clear error when not, 1 for a status not all up."""
    parser = argparse.ArgumentParser(
        prog="mptcp_lab.embedded",
        description="Labs on this machine: up, down, status.",
    )
    parser.add_argument("action", choices=["up", "down", "status", "doctor"])
    parser.add_argument(
        "--inventory",
        default="inventory",
        help="a path, or a name under inventories/ (default: ansible.cfg's)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON line instead of progress and prose"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)  # so that a terminated build cleans up after itself
    if arguments.action in ("up", "down") and os.geteuid() != 0:
        become_root()
    progress = Progress(arguments.json)
    try:
        return _act(arguments.action, arguments.inventory, arguments.json, progress)
    except (EmbeddedError, InventoryError) as error:
        progress.close()
        print(error, file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        progress.close()
        print("interrupted; ./lab down takes away what is there", file=sys.stderr)
        return 130


def become_root() -> None:
    """Run this very command again through sudo; files it makes are handed back to the calling user."""
    sudo = ["sudo", "--preserve-env=MPTCP_LAB_MIRROR", *([] if sys.stdin.isatty() else ["-n"])]
    os.chdir(ROOT)
    with contextlib.suppress(FileNotFoundError):  # without sudo, the action itself says that root is needed
        os.execvp("sudo", [*sudo, sys.executable, "-B", "-m", "mptcp_lab.embedded", *sys.argv[1:]])  # noqa: S606 - no shell


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _act(action: str, inventory: str, as_json: bool, progress: Progress) -> int:
    if action == "doctor":
        return 0 if doctor.report(doctor.examine()) else 1
    if action == "down":  # by name alone: the inventory may have been edited, or be wrong
        changed = lifecycle.down(_place_by_name(inventory), progress)
        progress.close()
        _tell(as_json, {"changed": changed}, "the lab is down" if changed else "there was no lab")
        return 0
    lab = load(resolve(inventory))
    place = _place(lab)
    if action == "up":
        changed = lifecycle.up(place, lab, progress)
        progress.close()
        seconds = time.monotonic() - progress.begun
        word = "is up" if changed else "was up and right"
        _tell(
            as_json,
            {"changed": changed, "seconds": round(seconds, 3)},
            f"{lab.name}: {len(lab.hosts)} hosts, lab {word} ({seconds:.1f} s)",
        )
        return 0
    states = lifecycle.status(place, lab)
    _tell(as_json, {"hosts": states}, "\n".join(f"{name:<16} {state}" for name, state in states.items()))
    return 0 if set(states.values()) == {"up"} else 1


def _tell(as_json: bool, document: dict[str, object], prose: str) -> None:
    print(json.dumps(document) if as_json else prose)


def _place(lab: Lab) -> Place:
    if lab.flavour not in lifecycle.KINDS:
        raise EmbeddedError(
            f"{lab.source} is not a lab on this machine (lab_flavour: {lab.flavour})",
            "power its machines on yourself",
        )
    return here(lab.name)


def _place_by_name(inventory: str) -> Place:
    """Find the lab to take down even when its inventory no longer reads."""
    try:
        return here(load(resolve(inventory)).name)
    except InventoryError:
        return here()


if __name__ == "__main__":
    sys.exit(main())
