"""Manage the lab in the machine of a column: the part of ``up`` that runs there.

Usage: ``python3 -m mptcp_lab.labs.columns.inside up|lacks < REQUEST``. The request is a JSON object; progress
is printed to standard error, the answer as a JSON object to standard output.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mptcp_lab.errors import LabError
from mptcp_lab.inventory.validate import lab_from
from mptcp_lab.labs import kernel, lifecycle
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths, private_folder, write_private

IMAGES = Path("/srv/images")


def bring_up(request: dict[str, Any]) -> dict[str, Any]:
    """Bring the lab up with the user key of the request; return whether it changed, and the host keys."""
    paths = LabPaths(Path(request["root"]), request["name"])
    lab = lab_from(request["inventory"], request["source"])
    private_folder(paths.state)
    _link_images(paths.cache)
    for name, text in request["user_key"].items():
        write_private(paths.state / name, text)
    changed = lifecycle.bring_up(paths, lab, _say)
    return {"changed": changed, "known_hosts": (paths.state / "known_hosts").read_text()}


def _link_images(cache: Path) -> None:
    """Make the disk with the hosts' images the cache of the lab in the machine."""
    with suppress(FileExistsError):
        cache.symlink_to(IMAGES)
    if not cache.is_symlink():
        raise EmbeddedError(
            f"{cache} exists in the machine and is no link to {IMAGES}, where the hosts' images are",
            "./lab down, remove .lab/cache/machine-*, then ./lab up builds the machine's image again",
        )


def find_lacks(request: dict[str, Any]) -> dict[str, Any]:
    """Return what the kernel lacks, by use: `mptcp_lab.labs.kernel`."""
    lab = lab_from(request["inventory"], request["source"])
    return {"lacks": [asdict(each) for each in kernel.find_lacks(lab)]}


def _say(stage: str) -> None:
    print(stage, file=sys.stderr, flush=True)


def main() -> int:
    """Run one action; exit 4 with one error message if it fails."""
    request = json.load(sys.stdin)
    try:
        answer = {"up": bring_up, "lacks": find_lacks}[sys.argv[1]](request)
    except LabError as error:
        print(error, file=sys.stderr)
        return 4
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
