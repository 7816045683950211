"""Test how `--kernel` is parsed, and that everything that is no kernel is refused in one sentence."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from mptcp_lab.labs.columns.spec import SUITES, parse_spec, read_release
from mptcp_lab.labs.errors import EmbeddedError


def write_bzimage(path: Path, release: str = "6.18.0-mine") -> Path:
    """Write a file with the boot header of a bzImage, whose release is at offset 0x3000."""
    image = bytearray(0x4000)
    image[0x202:0x206] = b"HdrS"
    image[0x20E:0x210] = struct.pack("<H", 0x3000 - 0x200)
    text = f"{release} (me@here) #1 SMP\0".encode()
    image[0x3000 : 0x3000 + len(text)] = text
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image)
    return path


def make_tree(folder: Path) -> Path:
    """Make a folder look like a kernel source tree that was built."""
    write_bzimage(folder / "arch/x86/boot/bzImage")
    (folder / "include/config").mkdir(parents=True)
    (folder / "include/config/kernel.release").write_text("6.18.0-mine\n")
    return folder


@pytest.mark.parametrize("word", SUITES)
def test_debians_kernels_have_names(word: str) -> None:
    spec = parse_spec(word)
    assert (spec.kind, spec.word, spec.is_host) == ("debian", word, False)


def test_the_default_is_this_machine() -> None:
    assert parse_spec("host").is_host


def test_a_bzimage_is_found_from_where_the_user_is(tmp_path: Path) -> None:
    image = write_bzimage(tmp_path / "boot/bzImage")
    (tmp_path / "mods").mkdir()
    spec = parse_spec("boot/bzImage", "mods", tmp_path)
    assert (spec.kind, spec.files, spec.modules) == ("bzimage", (image,), tmp_path / "mods")
    assert spec.word == str(image)
    assert read_release(image) == "6.18.0-mine"


def test_a_tree_and_packages_are_told_apart(tmp_path: Path) -> None:
    assert parse_spec(str(make_tree(tmp_path / "linux"))).kind == "tree"
    for name in ("linux-image-7.deb", "linux-modules-7.deb"):
        (tmp_path / name).write_bytes(b"")
    spec = parse_spec("linux-image-7.deb,linux-modules-7.deb", base=tmp_path)
    assert (spec.kind, len(spec.files)) == ("debs", 2)


def test_a_kernel_that_was_built_again_is_another(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "linux")
    before = parse_spec(str(tree)).fingerprint()
    assert parse_spec(str(tree)).fingerprint() == before
    (tree / "arch/x86/boot/bzImage").write_bytes(b"another")
    assert parse_spec(str(tree)).fingerprint() != before


def test_a_module_that_was_built_again_makes_another_kernel(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "linux")
    (tree / "modules.order").write_text("net/mptcp/mptcp_diag.o\n")
    image = write_bzimage(tmp_path / "bzImage")
    specs = [parse_spec(str(tree)), parse_spec(str(image), str(tree))]
    before = [spec.fingerprint() for spec in specs]
    (tree / "net/mptcp").mkdir(parents=True)
    (tree / "net/mptcp/mptcp_diag.ko").write_bytes(b"a module")
    after = [spec.fingerprint() for spec in specs]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, False]


def test_a_kernel_that_only_root_may_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_bzimage(tmp_path / "vmlinuz")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(image))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(EmbeddedError, match="vmlinuz: Permission denied; next: name a copy"):
        parse_spec(str(image))


@pytest.mark.parametrize(
    ("word", "modules", "sentence"),
    [
        ("debian-11", None, "neither the name of a kernel nor a file or folder"),
        ("", None, "neither the name of a kernel nor a file or folder"),
        ("./arch/x86/boot/bzImage", None, "neither the name of a kernel nor a file or folder"),
        ("text", None, "not a bzImage"),
        ("no-magic", None, "not a bzImage"),
        ("folder", None, "not a kernel source tree that was built (arch/x86/boot/bzImage is missing)"),
        ("text,folder", None, "only .deb files can be several"),
        ("bzImage", "nowhere", "no such folder; next: make modules_install"),
        ("debian-13", "folder", "--modules belongs to a bzImage"),
    ],
)
def test_what_is_no_kernel_is_one_sentence(
    tmp_path: Path, word: str, modules: str | None, sentence: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("not a kernel")
    image = write_bzimage(tmp_path / "bzImage").read_bytes()
    (tmp_path / "no-magic").write_bytes(image.replace(b"HdrS", b"none"))
    with pytest.raises(EmbeddedError) as caught:
        parse_spec(word, modules, tmp_path)
    assert sentence.partition("; next")[0] in str(caught.value)
    assert "; next: " in str(caught.value) and "\n" not in str(caught.value)
