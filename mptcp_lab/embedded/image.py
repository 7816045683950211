"""The hosts' root filesystem and the package pool: built once, then shared read-only by every host.

The pool is a local repository in the image's own apt configuration, so that a role's install step really
installs, without network, the same versions every time. Its packages came through apt, which checked their
signatures; the local index needs none.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from mptcp_lab.embedded import recipe
from mptcp_lab.embedded.command import run
from mptcp_lab.embedded.errors import EmbeddedError
from mptcp_lab.embedded.place import Place, give_to_caller, private_folder

Say = Callable[[str], None]


def image(place: Place) -> Path:
    """Return where the image of today's recipe is, or will be: ``root/``, ``pool/`` and ``manifest.json``."""
    return place.cache / f"image-{recipe.fingerprint()}"


def present(place: Place) -> bool:
    """Tell whether the image is there, whole (it is renamed into place when it is finished)."""
    return (image(place) / "manifest.json").is_file()


def build(place: Place, say: Say) -> None:
    """Build image and pool, telling `say` each stage; remove older images when no lab can be using them."""
    private_folder(place.cache)
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=place.cache))
    try:
        draft.chmod(0o755)
        _bootstrap(draft / "root", say)
        say("indexing the package pool")
        _settle(draft / "root", draft / "pool")
        (draft / "manifest.json").write_text(json.dumps(_manifest(draft), indent=1, sort_keys=True) + "\n")
        draft.rename(image(place))
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    give_to_caller(image(place))
    if not any(place.cache.parent.glob("*/hosts")):  # another lab of this checkout may stand on an older one
        clean(place, keep=image(place))


def clean(place: Place, keep: Path | None = None) -> None:
    """Remove images of other recipes and drafts of builds that died."""
    for folder in place.cache.glob("*-*"):
        if folder != keep:
            shutil.rmtree(folder, ignore_errors=True)


def _bootstrap(root: Path, say: Say) -> None:
    """Run mmdebstrap, with the pool fetched in the same go while its apt lists are there."""
    hook = Path(__file__).with_name("pool.sh")
    parts = " ".join(f"{suite}:{','.join(packages)}" for suite, packages in recipe.POOL.items())
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(recipe.BASE)}"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("man", "doc", "locale")]
    command += [f'--customize-hook=sh {hook} "$1" {recipe.SUITE} {parts}', recipe.SUITE, str(root)]
    if mirror := recipe.mirror():
        command.append(mirror)
    last: list[str] = []
    for line in _lines(command):
        last = [*last[-7:], line]
        if line.startswith("I: "):
            say(line[3:].rstrip("."))
    if last and last[-1].startswith("exit "):
        raise EmbeddedError(
            "building the hosts' image failed:\n    " + "\n    ".join(last),
            "check that apt-get update works here, or set MPTCP_LAB_MIRROR=<mirror>, then ./lab up",
        )


def _lines(command: list[str]) -> Iterator[str]:
    """Yield what a command prints, then ``exit N`` if it failed."""
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
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


def _settle(root: Path, pool: Path) -> None:
    """Make the image one that any number of hosts can start from: no identity, no outside sources."""
    for path in (root / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    for name in ("hostname", "resolv.conf", "apt/sources.list"):
        (root / "etc" / name).unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("")
    for unit in recipe.MASKED:
        link = root / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    for stamp in ("etc/.updated", "var/.updated"):
        (root / stamp).touch()
    _apt_sources(root)
    run("chroot", str(root), "apt-get", "-qq", "update", within=120)
    shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
    (root / "srv/pool").rename(pool)
    (root / "srv/pool").mkdir()


def _apt_sources(root: Path) -> None:
    """Index the pool and point apt at it; packages of later suites are taken only where asked for."""
    sources, pins = [], []
    for suite in recipe.POOL:
        index(root / "srv/pool" / suite, suite)
        sources.append(f"deb [trusted=yes] file:/srv/pool/{suite} ./\n")
        if suite != recipe.SUITE:
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


def _manifest(draft: Path) -> dict[str, object]:
    """List exactly what the image and the pool hold."""
    query = run("chroot", str(draft / "root"), "dpkg-query", "-W", "-f", "${Package} ${Version}\n")
    base = dict(line.split(" ", 1) for line in query.splitlines())
    pool = {
        suite: sorted(deb.name for deb in (draft / "pool" / suite).glob("*.deb")) for suite in recipe.POOL
    }
    return {"fingerprint": recipe.fingerprint(), "suite": recipe.SUITE, "base": base, "pool": pool}
