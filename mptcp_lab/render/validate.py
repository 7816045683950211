"""Validate rendered files with the real programs (proxies, nft, systemd) in a scratch root.

The programs come from the embedded lab's image and package pool, in the versions of each host. If no image
was built, the programs of this machine are used.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path

from mptcp_lab.errors import LabError
from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.inventory.model import Lab
from mptcp_lab.labs.containers import image, recipe
from mptcp_lab.labs.lab_paths import lab_paths
from mptcp_lab.render import File

#: From the pattern of a path to the command that validates such a file; ``{}`` is replaced by the path, or by
#: the unit of a drop-in.
READERS = {
    **{proxy.program.configuration: proxy.program.validation for proxy in PROXIES.values()},
    "*.nft": "nft --check --file {}",
    "*.json": "python3 -m json.tool {}",
    "*.py": "python3 -m py_compile {}",
    "/usr/local/sbin/*": "sh -n {}",
    "*.service": "systemd-analyze verify --man=no --recursive-errors=no {}",
    "*.service.d/*.conf": "systemd-analyze verify --man=no --recursive-errors=no {}",
}
#: Program that runs in the scratch root. It reads commands by file path as JSON, runs them, and prints their
#: results as JSON.
PROGRAM = """
import json, subprocess, sys
from shutil import which
def read(argv):
    if not which(argv[0]):
        return {"missing": argv[0]}
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return {"refused": done.returncode != 0, "said": done.stderr.strip()}
print(json.dumps({path: read(argv) for path, argv in json.load(sys.stdin).items()}))
"""


@dataclass(frozen=True)
class Reading:
    """The validation of one file: `complaint` is the error message of `program`, or empty if there is none.

    `program` is empty if no program could read the file; `why` is then the reason.
    """

    file: File
    program: str = ""
    complaint: str = ""
    why: str = ""


def validate(lab: Lab, files: Iterable[File], tree: Path) -> list[Reading]:
    """Validate each file for which a program exists; `tree` has the rendered files, in one folder per host.

    Raises:
        LabError: the scratch root cannot be set up, for example because namespaces are not permitted here.
    """
    keyed = sorted(((file.host, _suite(lab, file)), file) for file in files)
    readings: list[Reading] = []
    for (host, suite), group in groupby(keyed, key=lambda pair: pair[0]):
        readings += _read(tree / host, suite, [file for _, file in group])
    return sorted(readings, key=lambda reading: reading.file)


def _suite(lab: Lab, file: File) -> str:
    """Return the Debian suite from which a host installs the engine that reads a file."""
    for engine, proxy in PROXIES.items():
        if engine in file.path:
            return str(lab.hosts[file.host].variables.get(proxy.program.suite_variable) or recipe.SUITE)
    return recipe.SUITE


def command(path: str) -> list[str]:
    """Return the command that validates the file at a path; empty if there is none."""
    for pattern, words in READERS.items():
        if fnmatch(path, pattern):
            subject = Path(path).parent.name.removesuffix(".d") if ".service.d/" in path else path
            return words.format(subject).split()
    return []


def _read(tree: Path, suite: str, files: list[File]) -> Iterator[Reading]:
    """Validate the files of one host and one suite in one scratch root."""
    commands = {file.path: argv for file in files if (argv := command(file.path))}
    answers = _in_scratch(tree, suite, commands) if commands else {}
    for file in files:
        argv, answer = commands.get(file.path, []), answers.get(file.path, {})
        if not argv:
            yield Reading(file, why="no program can validate it without applying it")
        elif "missing" in answer:
            yield Reading(file, why=f"{answer['missing']} is not installed")
        else:
            # systemd-analyze exits 0 for an unknown key and only prints a message about the file.
            complains = answer["refused"] or (
                argv[0] == "systemd-analyze" and file.path in str(answer["said"])
            )
            yield Reading(file, argv[0], str(answer["said"]) or "refused" if complains else "")


def _in_scratch(tree: Path, suite: str, commands: dict[str, list[str]]) -> dict[str, dict[str, object]]:
    root, debs = Path("/"), list[Path]()
    if image.present(lab_paths()):
        built = image.image(lab_paths())
        root = built / "root"
        for each in dict.fromkeys((recipe.SUITE, suite)):
            debs += sorted((built / "pool" / each).glob("*.deb"))
    script = ["sh", str(Path(__file__).with_name("scratch.sh")), str(root), str(tree.resolve()), PROGRAM]
    done = subprocess.run(
        [*script, *map(str, debs)], input=json.dumps(commands), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LabError(
            f"no file could be validated: {done.stderr.strip()}",
            str(root),
            "run the command as root, or with --unvalidated",
        )
    answers: dict[str, dict[str, object]] = json.loads(done.stdout)
    return answers
