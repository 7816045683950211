"""``python -m mptcp_lab.render [FOLDER] [--inventory NAME]``: write every configuration to a folder."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mptcp_lab.errors import LabError
from mptcp_lab.folders import private_folder
from mptcp_lab.inventory import load, resolve
from mptcp_lab.paths import ROOT
from mptcp_lab.render import File, render
from mptcp_lab.render.validate import Reading, validate
from mptcp_lab.text import make_printable

#: Marker file: only folders that contain it are ever cleared.
MARK = ".mptcp-lab-render"


def main(words: list[str] | None = None) -> int:
    """Render, write and validate; return 0, 1 if a program refuses a file, or 4 after any other error."""
    parser = argparse.ArgumentParser(
        prog="mptcp_lab.render",
        description="Write every configuration of an inventory to FOLDER/HOST/, without using a host.",
    )
    parser.add_argument("folder", nargs="?", type=Path, help="default: .lab/render/NAME")
    parser.add_argument("--inventory", default="inventory", help="a path, or a name under inventories/")
    parser.add_argument(
        "--unvalidated", action="store_true", help="do not validate the files with the real programs"
    )
    arguments = parser.parse_args(words)
    try:
        lab = load(resolve(arguments.inventory))
        folder = arguments.folder or private_folder(ROOT / ".lab/render") / lab.name
        check_folder(folder)
        files = render(lab)
        write(folder, files)
        print(f"{folder}: {len(files)} files for {len(lab.hosts)} hosts")
        return 0 if arguments.unvalidated else print_readings(validate(lab, files, folder))
    except LabError as error:
        print(error, file=sys.stderr)
        return 4
    except OSError as error:
        sentence = f"{error.filename}: cannot be written: {error.strerror}"
        print(make_printable(f"{sentence}; next: free some space, or choose another folder"), file=sys.stderr)
        return 4


def check_folder(folder: Path) -> None:
    """Raise `LabError` for a folder that is not empty and that no earlier rendering wrote."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MARK).exists())):
        raise LabError(
            "has files that are not from an earlier render", str(folder), "name a new or empty folder"
        )


def write(folder: Path, files: Iterable[File]) -> None:
    """Write files below ``folder/HOST/``; the whole folder is deleted first."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    for file in files:
        path = folder / file.host / file.path.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.content)
        path.chmod(int(file.mode, 8))


def print_readings(readings: Iterable[Reading]) -> int:
    """Print which files were validated and which were not; return 1 if a program refused a file, else 0."""
    readings = list(readings)
    for program, count in sorted(Counter(r.program for r in readings if r.program).items()):
        print(f"  read by {program}: {count}")
    for why, count in sorted(Counter(r.why for r in readings if r.why).items()):
        names = sorted({Path(r.file.path).name for r in readings if r.why == why})
        print(f"  not validated, {why}: {count} ({', '.join(names)})")
    refused = [r for r in readings if r.complaint]
    for reading in refused:
        print(f"{reading.file.host}: {reading.file.path}: {reading.complaint}", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
