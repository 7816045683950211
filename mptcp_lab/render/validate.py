"""Let the real programs (haproxy, nginx, nft, systemd) read what was rendered, in a scratch root.

The programs are those of the embedded lab's image and package pool, in each host's own versions; where no
image was built, those of this machine.
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
from mptcp_lab.inventory.model import Lab
from mptcp_lab.labs.containers import image, recipe
from mptcp_lab.labs.lab_paths import lab_paths
from mptcp_lab.render import File

#: Pattern of a path to the program that reads such a file; ``{}`` is the path, or the unit of a drop-in.
READERS = {
    "/etc/haproxy/haproxy.cfg": "haproxy -c -f {}",
    "/etc/nginx/nginx.conf": "nginx -t -q -c {}",
    "*.nft": "nft --check --file {}",
    "*.json": "python3 -m json.tool {}",
    "*.py": "python3 -m py_compile {}",
    "/usr/local/sbin/*": "sh -n {}",
    "*.service": "systemd-analyze verify --man=no --recursive-errors=no {}",
    "*.service.d/*.conf": "systemd-analyze verify --man=no --recursive-errors=no {}",
}
#: Runs in the scratch root: is told the programs by path of the file, answers what each complained of.
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
    """What became of one file: `program` read it, and `complaint` is empty, or what it said.

    `program` is empty where none could; `why` says why.
    """

    file: File
    program: str = ""
    complaint: str = ""
    why: str = ""


def validate(lab: Lab, files: Iterable[File], tree: Path) -> list[Reading]:
    """Have every file read that a program is there for; `tree` holds what was rendered, a folder per host.

    Raises `LabError` where this machine allows no namespaces, in which alone that is safe.
    """
    keyed = sorted(((file.host, _suite(lab, file)), file) for file in files)
    readings: list[Reading] = []
    for (host, suite), group in groupby(keyed, key=lambda pair: pair[0]):
        readings += _read(tree / host, suite, [file for _, file in group])
    return sorted(readings, key=lambda reading: reading.file)


def _suite(lab: Lab, file: File) -> str:
    """Return the suite that a file's engine comes from on its host."""
    for engine, variable in (("haproxy", "haproxy_suite"), ("nginx", "nginx_stream_suite")):
        if engine in file.path:
            return str(lab.hosts[file.host].variables.get(variable) or recipe.SUITE)
    return recipe.SUITE


def command(path: str) -> list[str]:
    """Return the command that reads such a file, empty for none."""
    for pattern, words in READERS.items():
        if fnmatch(path, pattern):
            subject = Path(path).parent.name.removesuffix(".d") if ".service.d/" in path else path
            return words.format(subject).split()
    return []


def _read(tree: Path, suite: str, files: list[File]) -> Iterator[Reading]:
    """Read one host's files of one suite, in one scratch root."""
    commands = {file.path: argv for file in files if (argv := command(file.path))}
    answers = _in_scratch(tree, suite, commands) if commands else {}
    for file in files:
        argv, answer = commands.get(file.path, []), answers.get(file.path, {})
        if not argv:
            yield Reading(file, why="no program reads it without applying it")
        elif "missing" in answer:
            yield Reading(file, why=f"{answer['missing']} is not there")
        else:
            # systemd-analyze shrugs at a key that it does not know, and says so.
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
            f"nothing could be validated: {done.stderr.strip()}",
            str(root),
            "try again as root, or --unvalidated",
        )
    answers: dict[str, dict[str, object]] = json.loads(done.stdout)
    return answers
