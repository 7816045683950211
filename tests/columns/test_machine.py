"""The machine of a column: QEMU's arguments, the record, and where commands of the fabric run."""

from __future__ import annotations

import json
import os
import shlex
import sys
import zipfile
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest

from mptcp_lab import patience
from mptcp_lab.inventory import Lab
from mptcp_lab.inventory.document import document_of
from mptcp_lab.inventory.validate import lab_from
from mptcp_lab.labs import fabric, lifecycle
from mptcp_lab.labs.columns import choice, code, column, kernels, machine
from mptcp_lab.labs.columns.choice import Choice, check_given, choose_kernel
from mptcp_lab.labs.columns.record import Record, read_record, write_record
from mptcp_lab.labs.columns.spec import parse_spec
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.executor import LOCAL, executor_of
from mptcp_lab.labs.lab_paths import LabPaths
from mptcp_lab.labs.vms import qemu
from mptcp_lab.machines import kernel_files
from mptcp_lab.machines.kernel_files import is_column, read_kernel_files
from tests.columns.test_spec import write_bzimage

UP_ON_DEBIAN_12 = Record("debian-12", "", "option", "/nowhere", "")


@pytest.fixture
def command(paths: LabPaths, lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The command line of a kernel with modules, emulated."""
    monkeypatch.setattr(qemu, "user_arguments", lambda name: ["-runas", name])
    kernel = tmp_path / "kernel"
    kernel.mkdir()
    for name in ("vmlinuz", "initrd.img", "modules.img"):
        (kernel / name).touch()
    return machine.command(paths, lab, kernel, "tcg")


def disks(words: list[str]) -> list[str]:
    """Return the files of QEMU's disks, in order."""
    values = [word for before, word in pairwise(words) if before == "-drive"]
    return [Path(value.rpartition("file=")[2]).name for value in values]


def test_nothing_listens_on_this_machine_and_the_guest_reaches_nobody(command: list[str]) -> None:
    networks = [word for word in command if word.startswith("user,")]
    assert len(networks) == 1
    assert "restrict=on" in networks[0] and "ipv6=off" in networks[0]
    forwards = [part for part in networks[0].split(",") if part.startswith("hostfwd=")]
    assert len(forwards) == 1 and forwards[0].startswith("hostfwd=tcp:127.")  # in the fabric's namespace
    assert not [word for word in command if word.startswith(("tap,", "bridge,"))]


def test_disks_are_in_the_order_that_column_init_expects(command: list[str]) -> None:
    assert disks(command) == ["disk.qcow2", "disk.img", "identity.img", "modules.img"]
    writable = [word for word in command if word.startswith("if=virtio") and "readonly=on" not in word]
    assert len(writable) == 1 and "disk.qcow2" in writable[0]


def test_the_kernel_is_booted_directly(command: list[str]) -> None:
    assert command[command.index("-kernel") + 1].endswith("kernel/vmlinuz")
    assert "root=/dev/vda" in command[command.index("-append") + 1]
    assert "-no-reboot" in command  # a panic ends the machine instead of looping


def test_a_kernel_without_modules_has_no_initramfs(
    paths: LabPaths, lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(qemu, "user_arguments", lambda name: ["-runas", name])
    words = machine.command(paths, lab, tmp_path, "kvm")
    assert "-initrd" not in words
    assert disks(words) == ["disk.qcow2", "disk.img", "identity.img"]
    assert words[words.index("-accel") + 1] == "kvm"


def test_commands_run_where_the_fabric_is(paths: LabPaths) -> None:
    assert executor_of(paths) == LOCAL
    write_record(paths, UP_ON_DEBIAN_12)
    remote = executor_of(paths)
    words = remote.command("ip", "-n", paths.fabric, "link", "set", "a port", "down")
    assert words[:3] == ["ssh", "-F", str(paths.state / "ssh_config")]
    assert words[-2] == "column"
    assert shlex.split(words[-1]) == ["ip", "-n", paths.fabric, "link", "set", "a port", "down"]


def test_the_executor_asks_the_fabric_of_the_column(
    paths: LabPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stand in for ssh: it prints what `ip` prints for one port of the machine's fabric."""
    link = {
        "ifname": "client.eth1",
        "linkinfo": {"info_kind": "veth", "info_slave_data": {"state": "forwarding"}},
    }
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ssh").write_text(f"#!/bin/sh\necho '{json.dumps([link])}'\n")
    (tools / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    write_record(paths, UP_ON_DEBIAN_12)
    assert fabric.port_states(paths) == {"client.eth1": "forwarding"}


def test_the_lab_is_the_same_inside(lab: Lab) -> None:
    document = json.loads(json.dumps(document_of(lab)))
    assert lab_from(document, lab.source) == lab


def test_the_code_for_the_machine_imports_nothing_that_is_not_in_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(BytesIO(code.pack())) as archive:
        archive.extractall(tmp_path)
    program = "import mptcp_lab.labs.columns.inside as inside; print(inside.__file__)"
    printed = LOCAL.run("env", "-C", str(tmp_path), sys.executable, "-B", "-c", program)
    assert printed.strip().startswith(str(tmp_path))
    assert code.pack() == code.pack()


def test_the_kernel_of_a_lab_is_chosen_by_option_then_record_then_inventory(
    paths: LabPaths, lab: Lab
) -> None:
    own = LabPaths(paths.root, "not-up")
    assert choose_kernel(own, lab, None).spec.is_host
    lab_12 = replace(
        lab,
        hosts={
            n: replace(h, variables={**h.variables, "lab_kernel": "debian-12"}) for n, h in lab.hosts.items()
        },
    )
    assert choose_kernel(own, lab_12, None) == Choice(parse_spec("debian-12"), choice.INVENTORY)
    given = parse_spec("sid")
    assert choose_kernel(own, lab_12, given) == Choice(given, choice.OPTION)
    write_record(paths, UP_ON_DEBIAN_12)
    assert choose_kernel(paths, lab, None).spec.word == "debian-12"  # so lab.yml needs no option


def test_an_unknown_kernel_of_the_inventory_names_the_inventory(paths: LabPaths, lab: Lab) -> None:
    hosts = {
        n: replace(h, variables={**h.variables, "lab_kernel": "debian-11"}) for n, h in lab.hosts.items()
    }
    own = LabPaths(paths.root, "not-up")
    with pytest.raises(EmbeddedError, match="embedded: lab_kernel: debian-11: neither the name of a kernel"):
        choose_kernel(own, replace(lab, hosts=hosts), None)


def test_a_lab_that_is_up_on_another_kernel_is_left_alone(paths: LabPaths, lab: Lab) -> None:
    write_record(paths, UP_ON_DEBIAN_12)
    with pytest.raises(EmbeddedError, match=r"is up on debian-12, not on sid; next: \./lab down"):
        choose_kernel(paths, lab, parse_spec("sid"))
    check_given(paths, parse_spec("debian-12"))
    paths.column.unlink()
    with pytest.raises(EmbeddedError, match="is up on this machine's kernel, not on sid"):
        check_given(paths, parse_spec("sid"))


def test_a_kernel_that_was_built_again_is_not_taken_for_the_one_that_runs(
    paths: LabPaths, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_to_start(*_: object) -> None:
        raise AssertionError("a machine would start")

    monkeypatch.setattr(column, "_start_machine", refuse_to_start)
    monkeypatch.setattr(lifecycle, "require_root", lambda: None)
    image = write_bzimage(tmp_path / "bzImage", "7.3.0")
    chosen = Choice(parse_spec(str(image)), choice.OPTION)
    write_record(paths, chosen.record(kernels.kernel_folder(paths, chosen.spec)))
    column.check_build(paths, chosen)
    os.utime(image, (1, 1))
    with pytest.raises(EmbeddedError, match=r"is up on an earlier build of .*bzImage; next: \./lab down"):
        column.bring_up(paths, lab, chosen, lambda _: None)
    column.check_build(paths, choose_kernel(paths, lab, None))  # without the option: the one that runs


def test_a_damaged_record_is_none(paths: LabPaths) -> None:
    write_record(paths, UP_ON_DEBIAN_12)
    assert read_record(paths) == UP_ON_DEBIAN_12
    paths.column.write_text('{"spec": 7}')
    assert read_record(paths) is None


def test_modules_of_another_release_are_refused(tmp_path: Path) -> None:
    image = write_bzimage(tmp_path / "bzImage", "7.3.0")
    (tmp_path / "mods/lib/modules/6.1.0/kernel").mkdir(parents=True)
    (tmp_path / "mods/kernel").mkdir()  # the modules of a release that nothing names
    spec = parse_spec(str(image), str(tmp_path / "mods"))
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(EmbeddedError, match=r"has no modules of the kernel 7\.3\.0"):
        kernels._collect(spec, work, lambda _: None)


def test_packages_of_several_kernels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(_command: str, _option: str, package: str, tree: str, **_: object) -> None:
        release = Path(package).stem
        write_bzimage(Path(tree, f"boot/vmlinuz-{release}"), release)

    monkeypatch.setattr(kernels, "run", unpack)
    for name in ("6.1.0.deb", "7.3.0.deb"):
        (tmp_path / name).touch()
    spec = parse_spec(f"{tmp_path}/6.1.0.deb,{tmp_path}/7.3.0.deb")
    with pytest.raises(EmbeddedError, match=r"several kernels are in these packages: 6\.1\.0, 7\.3\.0"):
        kernels._collect(spec, tmp_path, lambda _: None)


@pytest.mark.parametrize("place", ["lib/modules/7.3.0", "7.3.0", ""])
def test_modules_are_found_as_they_are_installed(tmp_path: Path, place: str) -> None:
    image = write_bzimage(tmp_path / "bzImage", "7.3.0")
    folder = tmp_path / ("7.3.0" if not place else "mods")
    (folder / place / "kernel/net").mkdir(parents=True)
    spec = parse_spec(str(image), str(folder))
    work = tmp_path / "work"
    work.mkdir()
    kernels._collect(spec, work, lambda _: None)
    assert (work / "modules/7.3.0/kernel/net").is_dir()


def test_the_lock_names_the_files_of_the_kernel_of_a_column(
    lab: Lab, paths: LabPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_files, "lab_paths", lambda _: paths)
    assert read_kernel_files(lab) == {}
    assert not is_column(lab)
    write_record(paths, replace(UP_ON_DEBIAN_12, kernel=str(tmp_path)))
    assert is_column(lab)
    assert read_kernel_files(lab) == {}
    (tmp_path / "kernel.json").write_text('{"sha256": {"linux-image.deb": "12ab"}}')
    assert read_kernel_files(lab) == {"kernel linux-image.deb": "sha256:12ab"}


@pytest.mark.parametrize(
    ("accelerator", "measured", "factor"), [("tcg", 1.0, 5.0), ("tcg", 14.0, 14.0), ("kvm", 1.0, 1.0)]
)
def test_an_emulated_machine_has_a_factor_even_if_it_was_measured_at_rest(
    paths: LabPaths, monkeypatch: pytest.MonkeyPatch, accelerator: str, measured: float, factor: float
) -> None:
    monkeypatch.setattr(patience, "measure_hosts", lambda *_: measured)
    assert machine.measure(paths, accelerator) == factor
