"""How machines are called: secrets in files, NICs in order, KVM only where it boots. None boots here."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mptcp_lab.inventory import Host, load, resolve
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths
from mptcp_lab.labs.vms import disk, machines, qemu
from mptcp_lab.labs.vms import snapshots as states


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    paths = LabPaths(tmp_path, "vm")
    paths.cache.mkdir(parents=True)
    return paths


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"[" * 100_000, b'{"boot_id": 1}', b"\xff", b'{"accelerator": "; rm"}']
)
def test_a_note_of_no_use_is_written_anew(
    paths: LabPaths, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(qemu, "first_boot", lambda _image, _accelerator: False)
    (paths.cache / "accelerator.json").write_bytes(content)
    assert qemu.accelerator(paths, Path("image")) == "tcg"
    assert json.loads((paths.cache / "accelerator.json").read_text())["accelerator"] == "tcg"


@pytest.fixture(scope="module")
def host() -> Host:
    return load(resolve("vm")).hosts["client"]


def test_no_accelerator_is_trusted_that_was_not_seen_to_boot(
    paths: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    monkeypatch.setattr(qemu, "first_boot", lambda _image, accelerator: tried.append(accelerator))
    monkeypatch.setattr(qemu.os, "access", lambda *_: True)
    assert qemu.accelerator(paths, Path("image")) == "tcg"
    assert qemu.accelerator(paths, Path("image")) == "tcg"
    assert tried == ["kvm"]  # once for as long as this machine runs
    note = paths.cache / "accelerator.json"
    note.write_text(json.dumps({"boot_id": "another machine's", "accelerator": "kvm"}))
    assert qemu.accelerator(paths, Path("image")) == "tcg"
    monkeypatch.setattr(qemu, "first_boot", lambda *_: True)
    note.unlink()
    assert qemu.accelerator(paths, Path("image")) == "kvm"


@pytest.mark.parametrize(
    ("said", "worked"),
    [(qemu.FIRST_BOOT_DONE, True), ("a kernel's panic", False), ("KVM internal error. Suberror: 1", False)],
)
def test_only_what_the_guest_itself_says_counts(said: str, worked: bool) -> None:
    assert qemu.prints([sys.executable, "-c", f"print({said!r})"], qemu.FIRST_BOOT_DONE, 60.0) is worked


def test_a_machine_that_hangs_is_ended() -> None:
    hangs = [sys.executable, "-c", "import signal; signal.pause()"]
    assert not qemu.prints(hangs, qemu.FIRST_BOOT_DONE, 0.5)


def test_secrets_are_on_no_command_line(paths: LabPaths, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "accelerator", lambda *_: "tcg")
    own = paths.host(host.name)
    own.mkdir(parents=True)
    (own / "disk.qcow2").touch()
    machines.prepare(paths, host, "ssh-ed25519 AAAA user")
    private = (own / "host_key").read_text().splitlines()[1]
    words = machines.command(paths, host)
    assert not [word for word in words if private in word or "BEGIN" in word]
    for file in ("host_key", "tmpfiles.extra"):
        assert (own / file).stat().st_mode & 0o777 == 0o600


def test_nics_that_the_guest_would_name_otherwise_are_refused(paths: LabPaths, host: Host) -> None:
    wrong = replace(host, nics=tuple(reversed(host.nics)))
    with pytest.raises(
        EmbeddedError, match=r"client: a virtual machine's NICs are eth1, eth2, in this order"
    ):
        machines.prepare(paths, wrong, "key")


def test_the_image_s_name_changes_with_the_guest_s_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = disk.fingerprint()
    subprocess.run(["cp", "-R", str(disk.GUEST), str(tmp_path / "guest")], check=True)
    monkeypatch.setattr(disk, "GUEST", tmp_path / "guest")
    assert disk.fingerprint() == before
    (tmp_path / "guest/etc/fstab").write_text("other\n")
    assert disk.fingerprint() != before


@pytest.fixture
def kept(paths: LabPaths, host: Host, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A booted state as the cache has it, but for what QEMU puts in its disk."""
    monkeypatch.setattr(qemu, "accelerator", lambda *_: "tcg")
    monkeypatch.setattr(qemu, "identity", lambda: "QEMU 7.2")
    folder = machines.kept_state(paths, host)
    folder.mkdir(parents=True)
    (folder / "disk.qcow2").write_text("memory and disk")
    (folder / "known_host").write_text("client ssh-ed25519 AAAA")
    return folder


def test_a_state_is_kept_for_one_qemu_and_one_shape_of_machine_and_for_any_lab(
    paths: LabPaths, host: Host, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machines.kept_state(replace(paths, name="another"), host) == kept
    others = {
        machines.kept_state(paths, replace(host, nics=host.nics[:1])),
        machines.kept_state(paths, replace(host, name="other")),
        machines.kept_state(paths, host, "configured"),
    }
    monkeypatch.setattr(qemu, "identity", lambda: "QEMU 10.0")
    others.add(machines.kept_state(paths, host))
    assert len(others | {kept}) == 5


def test_only_a_fresh_machine_is_woken_from_a_kept_state(paths: LabPaths, host: Host, kept: Path) -> None:
    machines.prepare(paths, host, "key")
    disk_of_host = paths.host(host.name) / "disk.qcow2"
    assert disk_of_host.read_text() == "memory and disk" and states.find_pending(paths, host) == kept
    (paths.host(host.name) / states.MARK).unlink()  # what its introduction ends with
    disk_of_host.write_text("used")
    machines.prepare(paths, host, "key")
    assert disk_of_host.read_text() == "used" and states.find_pending(paths, host) is None


def test_a_state_that_did_not_wake_is_not_tried_again(paths: LabPaths, host: Host, kept: Path) -> None:
    machines.prepare(paths, host, "key")
    states.discard(paths, host)
    assert not kept.exists()
