"""What the agent finds of a boot: what sets endpoints and limits then, and which kernels are installed."""

from __future__ import annotations

from pathlib import Path

from mptcp_lab.agent.lab_agent.examine import offloads, system
from mptcp_lab.agent.lab_agent.examine.boot_files import TEXT_MAX, read_boot_files

ADD, LIMITS = "ip mptcp endpoint add 192.0.2.1 dev eth1 subflow", "ip mptcp limits set subflows 8"
INSTALL = "[Install]\nWantedBy=multi-user.target\n"
UNITS = "etc/systemd/system"


def write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def enable(root: Path, name: str) -> None:
    link = root / UNITS / "multi-user.target.wants" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(root / UNITS / name)


def test_an_enabled_unit_counts_and_another_does_not(tmp_path: Path) -> None:
    path = write(
        tmp_path, f"{UNITS}/paths.service", f"[Service]\nExecStart={ADD}\nExecStop=-{LIMITS}\n{INSTALL}"
    )
    assert read_boot_files(tmp_path) == {}
    enable(tmp_path, "paths.service")
    assert read_boot_files(tmp_path) == {str(path): f"ExecStart={ADD}"}


def test_a_unit_that_others_start_counts(tmp_path: Path) -> None:
    path = write(tmp_path, "usr/lib/systemd/system/paths.service", f"[Service]\nExecStart={ADD}\n")
    assert read_boot_files(tmp_path) == {str(path): f"ExecStart={ADD}"}


def test_a_unit_hides_the_one_of_its_package(tmp_path: Path) -> None:
    write(tmp_path, "usr/lib/systemd/system/paths.service", f"[Service]\nExecStart={ADD}\n")
    write(tmp_path, f"{UNITS}/paths.service", "[Service]\nExecStart=/bin/true\n")
    assert read_boot_files(tmp_path) == {}


def test_the_script_of_a_unit_is_read_and_a_program_is_not(tmp_path: Path) -> None:
    unit = write(tmp_path, f"{UNITS}/paths.service", "[Service]\nExecStart=/usr/local/sbin/paths up\n")
    script = write(tmp_path, "usr/local/sbin/paths", f"#!/bin/sh\n# {ADD}\n{LIMITS}\n")
    assert read_boot_files(tmp_path) == {str(unit): LIMITS}
    script.write_bytes(b"\x7fELF" + LIMITS.encode())
    assert read_boot_files(tmp_path) == {}


def test_scripts_of_network_managers_and_drop_ins_count(tmp_path: Path) -> None:
    names = (
        "etc/network/interfaces.d/eth1",
        "etc/NetworkManager/dispatcher.d/pre-up.d/paths",
        "etc/rc.local",
        f"{UNITS}/web.service.d/paths.conf",
    )
    paths = [write(tmp_path, name, f"ExecStartPost={ADD}\n") for name in names]
    assert read_boot_files(tmp_path).keys() == {str(path) for path in paths}


def test_what_only_shows_or_flushes_does_not_count(tmp_path: Path) -> None:
    write(
        tmp_path, "etc/rc.local", "ip mptcp endpoint show\nip mptcp endpoint flush\nip mptcp limits\n#" + ADD
    )
    write(tmp_path, "etc/cron.d/huge", "\0" * TEXT_MAX + ADD)
    assert read_boot_files(tmp_path) == {}


def test_a_kernel_is_installed_if_its_image_is_there(tmp_path: Path) -> None:
    for name in ("6.12.9-amd64", "6.12.10-amd64", "6.1.0-gone"):
        (tmp_path / "usr/lib/modules" / name).mkdir(parents=True)
    write(tmp_path, "boot/vmlinuz-6.12.9-amd64", "")
    write(tmp_path, "usr/lib/modules/6.12.10-amd64/vmlinuz", "")
    assert system.read_installed_kernels(tmp_path) == ["6.12.10-amd64", "6.12.9-amd64"]
    assert system.read_installed_kernels(tmp_path / "nothing") == []


def test_offloads_of_a_device_are_read_and_a_missing_one_has_none() -> None:
    assert offloads.read_offloads("lo").keys() == set(offloads.OFFLOADS)
    assert offloads.read_offloads("lo")["gso"] is True
    assert offloads.read_offloads("nothing0") == {}
    assert (offloads.read_missed("nothing0"), offloads.read_received("nothing0")) == (0, 0)
