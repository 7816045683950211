"""Build a root filesystem from a recipe: Debian packages, no identity, a package pool as only apt source.

The pool is a local repository in the image's apt configuration, so that the install step of a role really
installs, without network, the same versions every time. apt verified the signatures of its packages when it
downloaded them, so that the local index is not signed.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mptcp_lab.labs.command import run, tool_environment
from mptcp_lab.labs.containers.recipe import Recipe, mirror, part
from mptcp_lab.labs.errors import EmbeddedError

Say = Callable[[str], None]


def make(root: Path, recipe: Recipe, say: Say, options: Iterable[str] = ()) -> None:
    """Build a root filesystem with its pool below ``srv/pool``; pass `options` to mmdebstrap."""
    _bootstrap(root, recipe, say, options)
    say("indexing the package pool")
    _settle(root, recipe)


def _bootstrap(root: Path, recipe: Recipe, say: Say, options: Iterable[str]) -> None:
    """Run mmdebstrap, and download the pool in the same run while its apt lists exist."""
    parts = [part(suite, packages) for suite, packages in recipe.pool.items()]
    choices = ["--variant=minbase", f"--include={','.join(recipe.base)}"]
    choices += [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("man", "doc", "locale")]
    _run_mmdebstrap(root, recipe.suite, parts, [*choices, *options], say)


def download(root: Path, base: str, wanted: str, say: Say) -> None:
    """Download a part of a pool to ``srv/pool`` below `root`, as mmdebstrap uses apt."""
    _run_mmdebstrap(root, base, [wanted], ["--variant=custom"], say)


def _run_mmdebstrap(root: Path, suite: str, parts: Iterable[str], choices: Iterable[str], say: Say) -> None:
    """Run mmdebstrap with the pool's hook, passing each stage to `say`."""
    hook = Path(__file__).with_name("pool.sh")
    command = ["mmdebstrap", *choices]
    command += [f'--customize-hook=sh {shlex.quote(str(hook))} "$1" {suite} {" ".join(parts)}', suite]
    command += [str(root), *([source] if (source := mirror()) else [])]
    last: list[str] = []
    for line in _lines(command):
        last = [*last[-7:], line]
        if line.startswith("I: "):
            say(line[3:].rstrip("."))
    if last and last[-1].startswith("exit "):
        raise EmbeddedError(
            "building the hosts' image failed:\n    " + "\n    ".join(last),
            "check that apt-get update works here, or set MPTCP_LAB_MIRROR=<mirror>, then run ./lab up",
        )


def _lines(command: list[str]) -> Iterator[str]:
    """Yield the lines that a command prints, then ``exit N`` if it failed."""
    try:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=tool_environment(),
        )
    except FileNotFoundError:
        raise EmbeddedError("mmdebstrap is not installed", "./lab doctor names the package") from None
    assert process.stdout is not None
    try:
        for line in process.stdout:
            yield line.rstrip()
    finally:
        if process.poll() is None:
            process.terminate()
        code = process.wait()
    if code:
        yield f"exit {code}"


def _settle(root: Path, recipe: Recipe) -> None:
    """Remove identity and external apt sources, so that any number of hosts can start from the image."""
    for path in (root / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    for name in ("hostname", "resolv.conf", "apt/sources.list"):
        (root / "etc" / name).unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("")
    for unit in recipe.masked:
        link = root / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    for stamp in ("etc/.updated", "var/.updated"):
        (root / stamp).touch()
    _apt_sources(root, recipe)
    run("chroot", str(root), "apt-get", "-qq", "update", within=120)
    shutil.rmtree(root / "var/cache/apt", ignore_errors=True)  # only saves disk space


def _apt_sources(root: Path, recipe: Recipe) -> None:
    """Index the pool and point apt at it; packages of later suites are installed only on request."""
    sources, pins = [], []
    for suite in recipe.pool:
        index(root / "srv/pool" / suite, suite)
        sources.append(f"deb [trusted=yes] file:/srv/pool/{suite} ./\n")
        if suite != recipe.suite:
            pins.append(f"Package: *\nPin: release n={suite}\nPin-Priority: 100\n")
    (root / "etc/apt/sources.list.d/pool.list").write_text("".join(sources))
    (root / "etc/apt/preferences.d/pool").write_text("\n".join(pins))


def index(folder: Path, suite: str) -> None:
    """Write the Packages and Release files of a flat repository (deb822, see Debian's RepositoryFormat)."""
    entries = []
    for deb in sorted(folder.glob("*.deb")):
        control = run("dpkg-deb", "--field", str(deb)).rstrip("\n")
        data = deb.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        entries.append(f"{control}\nFilename: ./{deb.name}\nSize: {len(data)}\nSHA256: {digest}\n")
    packages = "\n".join(entries).encode()
    (folder / "Packages").write_bytes(packages)
    digest = hashlib.sha256(packages).hexdigest()
    (folder / "Release").write_text(
        f"Origin: mptcp-lab\nSuite: {suite}\nCodename: {suite}\nSHA256:\n {digest} {len(packages)} Packages\n"
    )


def manifest(root: Path, recipe: Recipe) -> dict[str, object]:
    """Return the exact contents of a root filesystem and its pool."""
    query = run("chroot", str(root), "dpkg-query", "-W", "-f", "${Package} ${Version}\n")
    base = dict(line.split(" ", 1) for line in query.splitlines())
    pool = {
        suite: sorted(deb.name for deb in (root / "srv/pool" / suite).glob("*.deb")) for suite in recipe.pool
    }
    return {"fingerprint": recipe.fingerprint(), "suite": recipe.suite, "base": base, "pool": pool}
