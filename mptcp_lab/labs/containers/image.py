"""Build the containers' root filesystems and package pools: once, then all hosts share them read-only."""

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
    """Return the folder of a recipe's image, which may not exist yet: ``root/``, ``pool/``, ...."""
    return paths.cache / f"{KIND}-{recipe.fingerprint()}"


def recipe_of(host: Host) -> Recipe:
    """Return the recipe of a host's ``lab_image``; raise `EmbeddedError` if there is no such image."""
    name = str(host.variables.get("lab_image", "debian-13"))
    if name not in IMAGES:
        raise EmbeddedError(
            f"{host.name}: lab_image is {name!r}, and has to be one of {', '.join(IMAGES)}",
            "correct it in the inventory",
        )
    return IMAGES[name]


def present(paths: LabPaths, recipe: Recipe = CONTAINER) -> bool:
    """Return whether the image exists; it is complete then, as it is renamed into place when finished."""
    return (image(paths, recipe) / "manifest.json").is_file()


def all_present(paths: LabPaths, lab: Lab) -> bool:
    """Return whether the images of all hosts of the lab exist."""
    return all(present(paths, recipe_of(host)) for host in lab.hosts.values())


def build(paths: LabPaths, lab: Lab, say: Say) -> None:
    """Build the lab's missing images, passing each stage to `say`; remove images that no lab can use."""
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
    """Return mmdebstrap's options for an image with additional files from this folder."""
    files = Path(__file__).with_name(name)
    if not files.is_dir():
        return []
    enable = '--customize-hook=chroot "$1" systemctl enable --quiet lab-ssh.socket'
    return [f'--essential-hook=cp -RT {shlex.quote(str(files))} "$1"', enable]


@contextmanager
def one_build(paths: LabPaths, lock: str = "lock") -> Iterator[None]:
    """Hold a build lock: only one lab of this checkout builds such images at a time."""
    private_folder(paths.cache)
    with (paths.cache / lock).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def draft_of(paths: LabPaths, final: Path, *keep: Path) -> Iterator[Path]:
    """Yield a draft folder that is renamed to `final` at the end of the block.

    Other images of the same kind are removed then, except those in `keep`.
    """
    private_folder(paths.cache)
    draft = Path(tempfile.mkdtemp(prefix=f"draft-{os.getpid()}-", dir=paths.cache))
    try:
        draft.chmod(0o755)
        yield draft
        draft.rename(final)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)  # must not hide the error of the build; `down` tries again
        raise
    give_to_caller(final)
    if not any(paths.labs.glob("*/hosts")):  # another lab of this checkout may use an older image
        clean(paths, final, *keep)


def clean(paths: LabPaths, *keep: Path) -> None:
    """Remove images of the same kind from other recipes, and drafts of builds that died."""
    kind = keep[0].name.partition("-")[0]
    for folder in paths.cache.glob(f"{kind}-*"):
        if folder not in keep:
            shutil.rmtree(folder, ignore_errors=True)  # costs only disk space; the next build tries again
    clean_drafts(paths)


def clean_drafts(paths: LabPaths) -> None:
    """Remove drafts of builds that died, but not those of a build that is still in progress."""
    for draft in paths.cache.glob("draft-*"):
        if not Path("/proc", draft.name.split("-")[1]).exists():
            shutil.rmtree(draft, ignore_errors=True)  # as above, and `down` tries again
