"""The embedded hosts' root filesystems and package pools: built once, then shared read-only by hosts."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mptcp_lab.inventory.model import Host, Lab
from mptcp_lab.labs.containers import rootfs
from mptcp_lab.labs.containers.recipe import CONTAINER, IMAGES, Recipe
from mptcp_lab.labs.containers.rootfs import Say
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths, give_to_caller, private_folder

KIND = "image"


def image(paths: LabPaths, recipe: Recipe = CONTAINER) -> Path:
    """Return where the image of today's recipe is, or will be: ``root/``, ``pool/`` and ``manifest.json``."""
    return paths.cache / f"{KIND}-{recipe.fingerprint()}"


def recipe_of(host: Host) -> Recipe:
    """Return what a host is made from: its ``lab_image``; `EmbeddedError` names what there is."""
    name = str(host.variables.get("lab_image", "debian-13"))
    if name not in IMAGES:
        raise EmbeddedError(
            f"{host.name}: lab_image {name!r} is none of {', '.join(IMAGES)}", "correct it in the inventory"
        )
    return IMAGES[name]


def present(paths: LabPaths, recipe: Recipe = CONTAINER) -> bool:
    """Tell whether the image is there, whole (it is renamed into place when it is finished)."""
    return (image(paths, recipe) / "manifest.json").is_file()


def all_present(paths: LabPaths, lab: Lab) -> bool:
    """Tell whether the images of all of the lab's hosts are there."""
    return all(present(paths, recipe_of(host)) for host in lab.hosts.values())


def build(paths: LabPaths, lab: Lab, say: Say) -> None:
    """Build the images that the lab lacks, telling `say` each stage; remove ones that no lab can use."""
    for name, recipe in IMAGES.items():
        if any(recipe_of(host) is recipe for host in lab.hosts.values()) and not present(paths, recipe):
            say(f"building the hosts' root filesystem and package pool, {name} (once)")
            _build(paths, name, recipe, say)


def _build(paths: LabPaths, name: str, recipe: Recipe, say: Say) -> None:
    with draft_of(paths, image(paths, recipe), *(image(paths, each) for each in IMAGES.values())) as draft:
        root = draft / "root"
        rootfs.make(root, recipe, say, _guest(name))
        manifest = rootfs.manifest(root, recipe)
        (root / "srv/pool").rename(draft / "pool")
        (root / "srv/pool").mkdir()
        (draft / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def _guest(name: str) -> list[str]:
    """Return mmdebstrap's options for an image that comes with files of ours."""
    files = Path(__file__).with_name(name)
    if not files.is_dir():
        return []
    enable = '--customize-hook=chroot "$1" systemctl enable --quiet lab-ssh.socket'
    return [f'--essential-hook=cp -RT {shlex.quote(str(files))} "$1"', enable]


@contextmanager
def one_build(paths: LabPaths) -> Iterator[None]:
    """Wait until no other lab of this checkout builds an image."""
    private_folder(paths.cache)
    with (paths.cache / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def draft_of(paths: LabPaths, final: Path, *keep: Path) -> Iterator[Path]:
    """Build in a folder beside: it becomes `final`; others of its kind go then, but for those to `keep`."""
    private_folder(paths.cache)
    draft = Path(tempfile.mkdtemp(prefix=f"draft-{os.getpid()}-", dir=paths.cache))
    try:
        draft.chmod(0o755)
        yield draft
        draft.rename(final)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)  # what went wrong is the error to see; `down` tries again
        raise
    give_to_caller(final)
    if not any(paths.labs.glob("*/hosts")):  # another lab of this checkout may stand on an older one
        clean(paths, final, *keep)


def clean(paths: LabPaths, *keep: Path) -> None:
    """Remove images of the same kind by other recipes, and drafts of builds that died."""
    kind = keep[0].name.partition("-")[0]
    for folder in paths.cache.glob(f"{kind}-*"):
        if folder not in keep:
            shutil.rmtree(folder, ignore_errors=True)  # only room is lost; the next build tries again
    clean_drafts(paths)


def clean_drafts(paths: LabPaths) -> None:
    """Remove drafts of builds that died; a build of another lab of this checkout may be under way."""
    for draft in paths.cache.glob("draft-*"):
        if not Path("/proc", draft.name.split("-")[1]).exists():
            shutil.rmtree(draft, ignore_errors=True)  # as above, and `down` tries again
