"""Test the doctor's report about a kernel: readiness for it, or the column that is up on it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mptcp_lab.inventory import Lab
from mptcp_lab.labs.columns import choice, column, kernels, readiness
from mptcp_lab.labs.columns.choice import Choice
from mptcp_lab.labs.columns.record import Record, write_record
from mptcp_lab.labs.columns.spec import parse_spec
from mptcp_lab.labs.kernel import Lack
from mptcp_lab.labs.lab_paths import LabPaths
from mptcp_lab.labs.machine_check import Finding
from mptcp_lab.labs.vms import qemu
from tests.columns.test_spec import write_bzimage

LACK = Lack("sch_netem", "delay and loss", "Specified qdisc kind is unknown.", "CONFIG_NET_SCH_NETEM", False)


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    own = LabPaths(tmp_path, "embedded")
    own.state.mkdir(parents=True)
    own.cache.mkdir(parents=True, exist_ok=True)
    return own


def named(found: list[Finding], what: str) -> Finding:
    (finding,) = (each for each in found if each.what == what)
    return finding


def test_a_kernel_that_up_prepares_is_not_called_missing(paths: LabPaths, lab: Lab) -> None:
    found = readiness.examine_column(paths, lab, Choice(parse_spec("debian-12"), choice.OPTION))
    assert named(found, "kernel debian-12").there is None
    assert named(found, "machine and host images").there is None
    assert not list(paths.cache.iterdir())


def test_a_prepared_kernel_is_named_with_its_release(paths: LabPaths) -> None:
    spec = parse_spec("debian-12")
    folder = kernels.kernel_folder(paths, spec)
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps({"release": "6.1.0-40-amd64"}))
    finding = readiness.find_kernel(paths, spec)
    assert finding.there and "Linux 6.1.0-40-amd64" in finding.detail
    (folder / "kernel.json").write_text("{")
    assert "damaged" in readiness.find_kernel(paths, spec).detail


def test_modules_of_another_release_are_missing(paths: LabPaths, tmp_path: Path) -> None:
    image = write_bzimage(tmp_path / "bzImage", "6.18.0-own")
    (tmp_path / "tree" / "lib/modules/6.17.0/kernel").mkdir(parents=True)
    finding = readiness.find_kernel(paths, parse_spec(str(image), str(tmp_path / "tree")))
    assert finding.there is False and "no modules of the kernel 6.18.0-own" in finding.detail
    (tmp_path / "tree" / "lib/modules/6.18.0-own/kernel").mkdir(parents=True)
    assert readiness.find_kernel(paths, parse_spec(str(image), str(tmp_path / "tree"))).there


def test_a_kernel_without_modules_is_listed_with_what_it_needs_built_in(
    paths: LabPaths, tmp_path: Path
) -> None:
    finding = readiness.find_kernel(paths, parse_spec(str(write_bzimage(tmp_path / "bzImage", "6.18.0-own"))))
    assert finding.there is None
    assert all(option in finding.detail for option in kernels.BUILT_IN)


def test_too_little_disk_is_missing_only_before_the_images_are_there(
    paths: LabPaths, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "DISK_MIB", 1 << 40)
    spec = parse_spec("debian-12")
    assert readiness.find_disk(paths, lab, spec).there is False
    monkeypatch.setattr(readiness, "_are_images_there", lambda *_: True)
    folder = kernels.kernel_folder(paths, spec)
    folder.mkdir(parents=True)
    (folder / "kernel.json").touch()
    assert readiness.find_disk(paths, lab, spec).there


@pytest.mark.parametrize(("available", "is_enough"), [(3072, True), (3071, False)])
def test_memory_is_compared_with_what_the_machine_takes(
    available: int, is_enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"MemTotal: 1 kB\nMemAvailable:   {available << 10} kB\n"
    monkeypatch.setattr(Path, "read_text", lambda _: text)
    assert readiness.find_memory().there is is_enough


def test_the_accelerator_is_the_noted_one(paths: LabPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert readiness.find_accelerator(paths).there is None
    assert qemu.remember_accelerator(paths, lambda: True) == "kvm"
    assert readiness.find_accelerator(paths).there
    (paths.cache / qemu.ACCELERATOR_NOTE).unlink()
    assert qemu.remember_accelerator(paths, lambda: False) == "tcg"
    finding = readiness.find_accelerator(paths)
    assert finding.there is False and not finding.needed and "emulated" in finding.detail


@pytest.fixture
def running(paths: LabPaths, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Choice:
    """A lab that is up on Debian 12's kernel."""
    write_record(paths, Record("debian-12", "", choice.OPTION, "/nowhere", ""))
    monkeypatch.setattr(column, "status", lambda *_: dict.fromkeys(lab.hosts, "up"))
    monkeypatch.setattr(column, "find_lacks", lambda *_: [])
    return choice.choose_kernel(paths, lab, parse_spec("debian-12"))


def test_a_column_that_is_up_is_examined_itself(paths: LabPaths, lab: Lab, running: Choice) -> None:
    found = readiness.examine_column(paths, lab, running)
    assert [(each.what, each.there) for each in found] == [
        ("lab on debian-12", True),
        ("kernel features", True),
    ]


def test_what_the_column_s_kernel_lacks_is_named_with_its_option(
    paths: LabPaths, lab: Lab, running: Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(column, "find_lacks", lambda *_: [LACK])
    finding = named(readiness.examine_column(paths, lab, running), "sch_netem")
    assert finding.there is False and not finding.needed and "(CONFIG_NET_SCH_NETEM)" in finding.detail


def test_hosts_of_the_column_that_are_down_are_named(
    paths: LabPaths, lab: Lab, running: Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {**dict.fromkeys(lab.hosts, "up"), "client": "down"}
    monkeypatch.setattr(column, "status", lambda *_: states)
    (finding,) = readiness.examine_column(paths, lab, running)
    assert finding.there is False and finding.needed and "client down" in finding.detail
