"""Test how the kernel role reads boot menus and lists of package files."""

import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.roles.golden import ROOT

# A grub.cfg as Debian 13's update-grub writes it, reduced to the relevant lines.
GRUB = """
set default="0"
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1f' {
	linux	/boot/vmlinuz-7.3.4+deb13-amd64 root=UUID=1f ro  quiet
}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-1f' {
	menuentry 'Linux 7.3.4+deb13-amd64' --class debian $menuentry_id_option 'gnulinux-7.3.4+deb13-amd64-advanced-1f' {
		linux	/boot/vmlinuz-7.3.4+deb13-amd64 root=UUID=1f ro  quiet
	}
	menuentry 'Linux 6.12.107+deb13-amd64' --class debian $menuentry_id_option 'gnulinux-6.12.107+deb13-amd64-advanced-1f' {
		linux	/boot/vmlinuz-6.12.107+deb13-amd64 root=UUID=1f ro  quiet
	}
	menuentry '6.12.107 (recovery)' --class debian $menuentry_id_option 'gnulinux-6.12.107+deb13-amd64-recovery-1f' {
		linux	/boot/vmlinuz-6.12.107+deb13-amd64 root=UUID=1f ro single
	}
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def kernel() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lab_kernel", ROOT / "roles/kernel/files/kernel.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_grub_entries_by_kernel_the_first_boots_by_itself(kernel: ModuleType) -> None:
    assert list(kernel.grub_entries(GRUB).items()) == [
        ("7.3.4+deb13-amd64", "gnulinux-advanced-1f>gnulinux-7.3.4+deb13-amd64-advanced-1f"),
        ("6.12.107+deb13-amd64", "gnulinux-advanced-1f>gnulinux-6.12.107+deb13-amd64-advanced-1f"),
    ]


@pytest.mark.parametrize(
    ("wanted", "choice"),
    [
        ("7.3.4+deb13-amd64", None),
        (
            "6.12.107+deb13-amd64",
            'GRUB_DEFAULT="gnulinux-advanced-1f>gnulinux-6.12.107+deb13-amd64-advanced-1f"\n',
        ),
    ],
)
def test_only_a_kernel_that_does_not_come_first_is_pinned(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: str, choice: str | None
) -> None:
    menu, dropped_in = tmp_path / "grub.cfg", tmp_path / "grub.d/90-mptcp-lab.cfg"
    menu.write_text(GRUB)
    monkeypatch.setattr(kernel, "GRUB_MENUS", (str(menu),))
    monkeypatch.setattr(kernel, "GRUB_CHOICE", dropped_in)
    monkeypatch.setattr(kernel, "run", lambda *argv: "")
    assert kernel.choose_with_grub(wanted, apply=True).startswith("changed" if choice else "unchanged")
    assert (dropped_in.read_text() if dropped_in.exists() else None) == choice
    assert kernel.choose_with_grub(wanted, apply=True) == "unchanged"
    assert kernel.choose_with_grub("7.3.4+deb13-amd64", apply=True).startswith(
        "changed" if choice else "unchanged"
    )
    assert not dropped_in.exists()


def test_boot_loader_entries_without_the_rescue_kernel(kernel: ModuleType) -> None:
    rescue = "title R\nversion 0-rescue-4e\nlinux /vmlinuz-0-rescue-4e\n"
    current = "title RHEL\nversion 5.14.0-503.el9.x86_64\nlinux /vmlinuz-5.14.0-503.el9.x86_64\n"
    assert kernel.loader_entries([rescue, current]) == ["5.14.0-503.el9.x86_64"]


def test_a_kernel_without_a_boot_entry_is_not_booted(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "boot_entries", lambda: ["6.12.107+deb13-amd64"])
    with pytest.raises(SystemExit, match=r"9.9 is to boot, but has no boot entry .*not rebooted"):
        kernel.select("9.9")


def test_the_kernel_is_found_among_the_files_of_packages(kernel: ModuleType) -> None:
    listed = "/boot/vmlinuz-6.1.0-50-amd64\n/lib/modules/6.1.0-50-amd64/kernel/net/mptcp/mptcp_diag.ko\n"
    assert kernel.IMAGE.findall(listed) == ["6.1.0-50-amd64"]
    assert kernel.IMAGE.findall("/lib/modules/5.14.0-503.el9.x86_64/vmlinuz\n") == ["5.14.0-503.el9.x86_64"]
    split = "/usr/lib/modules/7.3.4+deb13-amd64\n/usr/lib/modules/7.3.4+deb13-amd64/vmlinuz\n/usr/share/bug\n"
    assert kernel.IMAGE.findall(split) == ["7.3.4+deb13-amd64"]


def test_a_file_with_another_digest_is_refused(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kernel, "CACHE", tmp_path)
    (tmp_path / "linux.deb").write_bytes(b"a kernel")
    given = {
        "url": "https://kernels.example.net/linux.deb",
        "sha256": hashlib.sha256(b"a kernel").hexdigest(),
    }
    assert kernel.given([json.dumps(given), "linux-image-amd64=6.1"]) == [
        str(tmp_path / "linux.deb"),
        "linux-image-amd64=6.1",
    ]
    (tmp_path / "linux.deb").write_bytes(b"something else")
    with pytest.raises(SystemExit, match="nothing was installed"):
        kernel.given([json.dumps(given)])


@pytest.mark.parametrize(
    ("filesystem", "abstraction", "once"),
    [("ext2", "", True), ("xfs", "", True), ("ext2", "lvm", False), ("btrfs", "", False)],
)
def test_a_kernel_boots_once_only_where_grub_can_take_that_back(
    kernel: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    filesystem: str,
    abstraction: str,
    once: bool,
) -> None:
    menu = tmp_path / "grub.cfg"
    menu.write_text('if [ "${next_entry}" ] ; then\n   save_env next_entry\nfi\n' + GRUB)
    monkeypatch.setattr(kernel, "GRUB_MENUS", (str(menu),))
    monkeypatch.setattr(kernel.shutil, "which", lambda name: None if name == "grubby" else f"/sbin/{name}")
    monkeypatch.setattr(kernel, "run", lambda *argv: filesystem if argv[2] == "fs" else abstraction)
    assert kernel.boots_once() is once
    menu.write_text(GRUB)
    assert kernel.boots_once() is False  # the menu does not read the variable next_entry


def test_a_proved_kernel_boots_from_now_on_where_the_lab_has_said_which_one_does(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    menu, choice = tmp_path / "grub.cfg", tmp_path / "90-mptcp-lab.cfg"
    menu.write_text(GRUB)
    monkeypatch.setattr(kernel, "GRUB_MENUS", (str(menu),))
    monkeypatch.setattr(kernel, "GRUB_CHOICE", choice)
    monkeypatch.setattr(kernel, "run", lambda *argv: "")
    kernel.confirm("7.3.4+deb13-amd64", apply=True)
    assert capsys.readouterr().out == "unchanged\n"  # a default that the owner has set stays
    kernel.pin("6.12.107+deb13-amd64")
    kernel.confirm("7.3.4+deb13-amd64", apply=True)
    assert capsys.readouterr().out.startswith("changed") and not choice.exists()


@pytest.mark.parametrize("content", ["", '{"before": ', "[1]", '{"before": 1}', "[" * 100_000])
def test_a_record_of_no_use_is_one_sentence(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    monkeypatch.setattr(kernel, "STATE", tmp_path / "kernel.json")
    (tmp_path / "kernel.json").write_text(content)
    with pytest.raises(SystemExit, match=r"kernel\.json: cannot be read: [^\n]*; choose the kernel by hand"):
        kernel.before()


def test_the_record_is_written_whole_or_not_at_all(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kernel, "STATE", tmp_path / "kernel.json")
    kernel.write_state({"before": "6.12.1", "grub.d": True})
    assert kernel.read_state() == {"before": "6.12.1", "grub.d": True}

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernel.os, "fsync", full)
    with pytest.raises(SystemExit, match=r"cannot be written: No space left on device; make room"):
        kernel.write_state({"before": "7.0", "grub.d": True})
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["kernel.json"]
    assert json.loads((tmp_path / "kernel.json").read_text())["before"] == "6.12.1"
