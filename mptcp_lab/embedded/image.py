"""The embedded hosts' root filesystem and package pool: built once, then shared read-only by every host."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mptcp_lab.embedded import rootfs
from mptcp_lab.embedded.place import Place, give_to_caller, private_folder
from mptcp_lab.embedded.recipe import CONTAINER
from mptcp_lab.embedded.rootfs import Say

KIND = "image"


def image(place: Place) -> Path:
    """Return where the image of today's recipe is, or will be: ``root/``, ``pool/`` and ``manifest.json``."""
    return place.cache / f"{KIND}-{CONTAINER.fingerprint()}"


def present(place: Place) -> bool:
    """Tell whether the image is there, whole (it is renamed into place when it is finished)."""
    return (image(place) / "manifest.json").is_file()


def build(place: Place, say: Say) -> None:
    """Build image and pool, telling `say` each stage; remove older images when no lab can be using them."""
    say("building the hosts' root filesystem and package pool (once)")
    with draft_of(place, image(place)) as draft:
        root = draft / "root"
        rootfs.make(root, CONTAINER, say)
        manifest = rootfs.manifest(root, CONTAINER)
        (root / "srv/pool").rename(draft / "pool")
        (root / "srv/pool").mkdir()
        (draft / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


@contextmanager
def one_build(place: Place) -> Iterator[None]:
    """Wait until no other lab of this checkout builds an image."""
    private_folder(place.cache)
    with (place.cache / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def draft_of(place: Place, final: Path) -> Iterator[Path]:
    """Build in a folder beside: it becomes `final`, and takes older ones' place, when all of it is done."""
    private_folder(place.cache)
    draft = Path(tempfile.mkdtemp(prefix=f"draft-{os.getpid()}-", dir=place.cache))
    try:
        draft.chmod(0o755)
        yield draft
        draft.rename(final)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)  # what went wrong is the error to see; `down` tries again
        raise
    give_to_caller(final)
    if not any(place.cache.parent.glob("*/hosts")):  # another lab of this checkout may stand on an older one
        clean(place, final)


def clean(place: Place, keep: Path) -> None:
    """Remove images of the same kind by other recipes, and drafts of builds that died."""
    kind = keep.name.partition("-")[0]
    for folder in place.cache.glob(f"{kind}-*"):
        if folder != keep:
            shutil.rmtree(folder, ignore_errors=True)  # only room is lost; the next build tries again
    clean_drafts(place)


def clean_drafts(place: Place) -> None:
    """Remove drafts of builds that died; a build of another lab of this checkout may be under way."""
    for draft in place.cache.glob("draft-*"):
        if not Path("/proc", draft.name.split("-")[1]).exists():
            shutil.rmtree(draft, ignore_errors=True)  # as above, and `down` tries again
