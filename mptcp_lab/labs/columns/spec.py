"""Parse what ``--kernel`` and ``lab_kernel`` name: this machine's kernel, a Debian package, or files.

Pure but for looking whether files exist.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from mptcp_lab.labs.errors import EmbeddedError

HOST = "host"
#: The kind of a kernel that a lab is up on, whose files may be gone or built again meanwhile.
RECORDED = "recorded"
#: Debian's kernels by name: the suite that has them. Their package is `PACKAGE`.
SUITES: Mapping[str, str] = MappingProxyType(
    {"debian-12": "bookworm", "debian-13": "trixie", "backports": "trixie-backports", "sid": "sid"}
)
PACKAGE = "linux-image-amd64"
#: Where a kernel's source tree has what a build leaves; the last file lists the modules.
BZIMAGE, RELEASE = Path("arch/x86/boot/bzImage"), Path("include/config/kernel.release")
MODULES = Path("modules.order")
FORMS = (
    f"{HOST}, {', '.join(SUITES)}, a bzImage, a source tree that was built, or .deb files with commas between"
)


@dataclass(frozen=True)
class KernelSpec:
    """A kernel that a lab runs on. ``kind`` is host, debian, bzimage, tree, debs or recorded.

    ``word`` is what the user wrote, with absolute paths. ``modules`` is the folder that belongs to a
    bzImage, or None if it has no modules.
    """

    kind: str
    word: str
    files: tuple[Path, ...] = ()
    modules: Path | None = None

    @property
    def is_host(self) -> bool:
        """Return whether it is this machine's kernel, so that no virtual machine is needed."""
        return self.kind == HOST

    @property
    def label(self) -> str:
        """Return a short name for messages."""
        return self.word if not self.modules else f"{self.word} with the modules in {self.modules}"

    def fingerprint(self) -> str:
        """Return a hash of the files' paths, sizes and times, so that a kernel built again is a new one.

        Modules count too: a build after an edit of a module leaves the bzImage as it was.
        """
        digest = hashlib.sha256(self.kind.encode())
        for path in (*self._images(), *self._module_files()):
            stat = path.stat()
            digest.update(f"\0{path}\0{stat.st_size}\0{stat.st_mtime_ns}".encode(errors="surrogateescape"))
        return digest.hexdigest()[:12]

    def _images(self) -> Iterator[Path]:
        """Yield the files that have the kernel."""
        return (path / BZIMAGE if self.kind == "tree" else path for path in self.files)

    def _module_files(self) -> Iterator[Path]:
        """Yield the modules that belong to the kernel."""
        if self.kind == "tree":
            order = self.files[0] / MODULES
            names = order.read_text().split() if order.is_file() else []
            found = [(self.files[0] / name).with_suffix(".ko") for name in names]
        else:
            found = sorted(self.modules.rglob("*.ko*")) if self.modules else []
        return (path for path in found if path.is_file())


def parse_spec(word: str, modules: str | None = None, base: Path | None = None) -> KernelSpec:
    """Return the kernel that `word` names; relative paths are below `base`.

    Raises:
        EmbeddedError: it is no known name and no such file, or the files are not what they have to be.
    """
    spec = _named_spec(word) or _file_spec(word, base or Path.cwd())
    if modules is None:
        return spec
    if spec.kind != "bzimage":
        raise EmbeddedError(f"--modules belongs to a bzImage, and {word} is none", f"--kernel {word} alone")
    folder = ((base or Path.cwd()) / modules).resolve()
    if not folder.is_dir():
        raise EmbeddedError(
            f"--modules {folder}: no such folder",
            f"make modules_install INSTALL_MOD_PATH={folder} in the kernel's source tree",
        )
    return KernelSpec("bzimage", spec.word, spec.files, folder)


def _named_spec(word: str) -> KernelSpec | None:
    if word == HOST:
        return KernelSpec(HOST, HOST)
    return KernelSpec("debian", word) if word in SUITES else None


def _file_spec(word: str, base: Path) -> KernelSpec:
    paths = tuple((base / part).resolve() for part in word.split(",") if part)
    gone = [path for path in paths if not path.exists()]
    if gone or not paths:
        place = f" ({gone[0]})" if gone else ""
        raise EmbeddedError(
            f"--kernel {word}: neither the name of a kernel nor a file or folder{place}",
            f"name one of {FORMS}",
        )
    text = ",".join(map(str, paths))
    if all(path.suffix == ".deb" and path.is_file() for path in paths):
        return KernelSpec("debs", text, paths)
    if len(paths) > 1:
        raise EmbeddedError(f"--kernel {word}: only .deb files can be several", f"name one of {FORMS}")
    if paths[0].is_file():
        read_release(paths[0])
        return KernelSpec("bzimage", text, paths)
    return _tree_spec(text, paths[0])


def _tree_spec(text: str, tree: Path) -> KernelSpec:
    for part in (BZIMAGE, RELEASE):
        if not (tree / part).is_file():
            raise EmbeddedError(
                f"--kernel {tree}: not a kernel source tree that was built ({part} is missing)",
                f"run make bzImage modules in {tree}",
            )
    return KernelSpec("tree", text, (tree,))


def read_release(path: Path) -> str:
    """Return the release of a bzImage, as ``uname -r`` prints it (Documentation/arch/x86/boot.rst).

    Raises:
        EmbeddedError: the file is not a bzImage, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(0x8000)
    except OSError as error:
        raise EmbeddedError(
            f"--kernel {path}: {error.strerror}", "name a copy of the file that you may read"
        ) from None
    if head[0x202:0x206] == b"HdrS":
        offset = int.from_bytes(head[0x20E:0x210], "little") + 0x200
        release = head[offset : offset + 128].split(b"\0")[0].split(b" ")[0].decode(errors="replace")
        if release and offset < len(head):
            return release
    raise EmbeddedError(
        f"--kernel {path}: not a bzImage (it has no x86 boot header)",
        "name the file arch/x86/boot/bzImage of the build, not vmlinux",
    )
