"""Test how module `boot_kernel` reads boot menus and package files, and what it changes."""

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
    spec = importlib.util.spec_from_file_location("boot_kernel", ROOT / "plugins/modules/boot_kernel.py")
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
    assert kernel.choose_with_grub(wanted, check=True) is bool(choice)
    assert not dropped_in.exists()
    assert kernel.choose_with_grub(wanted, check=False) is bool(choice)
    assert (dropped_in.read_text() if dropped_in.exists() else None) == choice
    assert kernel.choose_with_grub(wanted, check=False) is False
    assert kernel.choose_with_grub("7.3.4+deb13-amd64", check=False) is bool(choice)
    assert not dropped_in.exists()


def test_boot_loader_entries_without_the_rescue_kernel(kernel: ModuleType) -> None:
    rescue = "title R\nversion 0-rescue-4e\nlinux /vmlinuz-0-rescue-4e\n"
    current = "title RHEL\nversion 5.14.0-503.el9.x86_64\nlinux /vmlinuz-5.14.0-503.el9.x86_64\n"
    assert kernel.loader_entries([rescue, current]) == ["5.14.0-503.el9.x86_64"]


def test_a_kernel_without_a_boot_entry_is_not_booted(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "boot_entries", lambda: ["6.12.107+deb13-amd64"])
    with pytest.raises(kernel.Refused, match=r"9.9 is to boot, but has no boot entry .*not rebooted"):
        kernel.boot_next("9.9", check=False)


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
    assert kernel.package_words([given, "linux-image-amd64=6.1"]) == [
        str(tmp_path / "linux.deb"),
        "linux-image-amd64=6.1",
    ]
    (tmp_path / "linux.deb").write_bytes(b"something else")
    with pytest.raises(kernel.Refused, match="nothing was installed"):
        kernel.package_words([given])


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


@pytest.fixture
def menu(kernel: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, ...]]:
    """Simulate a host that runs 6.12.107 and whose GRUB boots once; return the commands that run."""
    menu = tmp_path / "grub.cfg"
    menu.write_text('if [ "${next_entry}" ] ; then\n   save_env next_entry\nfi\n' + GRUB)
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(kernel, "GRUB_MENUS", (str(menu),))
    monkeypatch.setattr(kernel, "LOADER_ENTRIES", ())
    monkeypatch.setattr(kernel, "GRUB_CHOICE", tmp_path / "grub.d/90-mptcp-lab.cfg")
    monkeypatch.setattr(kernel, "STATE", tmp_path / "state/kernel.json")
    monkeypatch.setattr(kernel, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(kernel.platform, "release", lambda: "6.12.107+deb13-amd64")
    monkeypatch.setattr(kernel.shutil, "which", lambda name: None if name == "grubby" else f"/sbin/{name}")
    monkeypatch.setattr(kernel, "run", lambda *argv: commands.append(argv) or "")
    return commands


def test_a_kernel_boots_next_is_the_default_and_everything_is_restored(
    kernel: ModuleType, menu: list[tuple[str, ...]], tmp_path: Path
) -> None:
    new, old = "7.3.4+deb13-amd64", "6.12.107+deb13-amd64"
    steps = (
        lambda check: kernel.boot_next(new, check),
        lambda check: kernel.make_default(new, check),
        kernel.restore,
    )
    changes = [("update-grub",), ("grub-reboot", f"gnulinux-advanced-1f>gnulinux-{new}-advanced-1f")]
    for step, expected in zip(steps, (changes, [("update-grub",)], []), strict=True):
        before = sorted(tmp_path.rglob("*"))
        rehearsed = step(True)
        assert (sorted(tmp_path.rglob("*")), [each for each in menu if each[0] != "grub-probe"]) == (
            before,
            [],
        )
        assert step(False) == rehearsed
        assert [each for each in menu if each[0] != "grub-probe"] == expected
        assert rehearsed["changed"] is True
        assert rehearsed["diff"] != []
        menu.clear()
        if step is steps[0]:
            assert rehearsed["once"] is True
            assert kernel.restore(True)["wanted"] == old
    assert not kernel.STATE.exists()
    assert not kernel.GRUB_CHOICE.exists()
    assert [kernel.make_default(new, False)["changed"], kernel.restore(False)["changed"]] == [False, False]


def test_a_default_that_the_owner_has_set_stays(kernel: ModuleType, menu: list[tuple[str, ...]]) -> None:
    assert kernel.make_default("7.3.4+deb13-amd64", check=False)["changed"] is False
    assert menu == []


class Manager:
    """A package manager whose package is missing until it is installed."""

    packages = ("linux-image-amd64",)

    def __init__(self, *kernels: str) -> None:
        self.kernels, self.is_installed = kernels, False

    def missing_packages(self) -> list[str]:
        return [] if self.is_installed else ["linux-image-amd64 (7.3.4)"]

    def install(self) -> None:
        self.is_installed = True

    def contents(self) -> str:
        return "".join(f"/boot/vmlinuz-{kernel}\n" for kernel in self.kernels)


def test_check_mode_installs_nothing_and_names_what_is_missing(
    kernel: ModuleType, menu: list[tuple[str, ...]]
) -> None:
    manager = Manager("7.3.4+deb13-amd64")
    planned = kernel.install(manager, check=True)
    assert (planned["changed"], planned["wanted"]) == (True, "")
    assert planned["missing"] == manager.missing_packages()
    assert not manager.is_installed
    assert not kernel.STATE.exists()
    installed = kernel.install(manager, check=False)
    assert (installed["changed"], installed["wanted"]) == (True, "7.3.4+deb13-amd64")
    assert "7.3.4+deb13-amd64" in installed["entries"]
    assert json.loads(kernel.STATE.read_text())["before"] == "6.12.107+deb13-amd64"
    again = kernel.install(manager, check=False)
    assert (again["changed"], again["missing"], again["diff"]) == (False, [], [])


@pytest.mark.parametrize("kernels", [(), ("7.1", "7.2")])
def test_packages_that_do_not_hold_one_kernel_are_refused(
    kernel: ModuleType, menu: list[tuple[str, ...]], kernels: tuple[str, ...]
) -> None:
    with pytest.raises(kernel.Refused, match=r"they hold .*, and one is wanted"):
        kernel.install(Manager(*kernels), check=False)


@pytest.mark.parametrize("content", ["", '{"before": ', "[1]", '{"before": 1}', "[" * 100_000])
def test_a_record_of_no_use_is_one_sentence(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    monkeypatch.setattr(kernel, "STATE", tmp_path / "kernel.json")
    (tmp_path / "kernel.json").write_text(content)
    with pytest.raises(
        kernel.Refused, match=r"kernel\.json: cannot be read: [^\n]*; choose the kernel by hand"
    ):
        kernel.restore(check=True)


def test_the_record_is_written_whole_or_not_at_all(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kernel, "STATE", tmp_path / "kernel.json")
    kernel.write_state({"before": "6.12.1", "grub.d": True})
    assert kernel.read_state() == {"before": "6.12.1", "grub.d": True}

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernel.os, "fsync", full)
    with pytest.raises(kernel.Refused, match=r"cannot be written: No space left on device; make room"):
        kernel.write_state({"before": "7.0", "grub.d": True})
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["kernel.json"]
    assert json.loads((tmp_path / "kernel.json").read_text())["before"] == "6.12.1"
