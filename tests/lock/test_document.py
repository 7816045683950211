"""The lock as text: whole or refused, and compared thing by thing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mptcp_lab.inventory import load, resolve
from mptcp_lab.lock import (
    Host,
    Lock,
    LockError,
    differences,
    dump,
    find_lock_file,
    kernel_differences,
    parse,
)
from mptcp_lab.lock import __main__ as lock_command
from mptcp_lab.lock.__main__ import main

CLIENT = Host(
    kernel="6.18.1",
    system="debian-13",
    tools={"ip": "ip utility, iproute2-6.15.0"},
    packages={"iproute2": "6.15.0-1", "libc6:amd64": "2.41-12"},
    files={"/etc/sysctl.d/90-mptcp-lab.conf": "-rw-r--r-- 0:0 aa"},
    settings={"limits": "add_addr_accepted 8 subflows 8", "sysctl net/mptcp/enabled": "1"},
)
PROXY = replace(CLIENT, packages={**CLIENT.packages, "haproxy": "3.0.11-1"})
LOCK = Lock("embedded", "abc", {"python": "3.13"}, {"client": CLIENT, "proxy1": PROXY})
TEXT = dump(LOCK)


def test_what_was_written_is_read_again() -> None:
    assert parse(TEXT, "here") == LOCK
    assert dump(parse(TEXT, "here")) == TEXT


def test_shared_packages_are_told_once() -> None:
    assert TEXT.count("libc6:amd64") == 1


@pytest.mark.parametrize("length", range(0, len(TEXT) - 1, 40))
def test_a_lock_cut_short_is_refused(length: int) -> None:
    with pytest.raises(LockError, match=r"^here: it .*; next: "):
        parse(TEXT[:length], "here")


@pytest.mark.parametrize("text", ["[]", "- 1", "digest: x", "hosts: {}\nformat: 1", "format: one", "\0"])
def test_what_is_no_lock_is_refused(text: str) -> None:
    with pytest.raises(LockError, match="here: it "):
        parse(text, "here")


def test_an_edited_lock_is_refused() -> None:
    with pytest.raises(LockError, match="edited"):
        parse(TEXT.replace("3.0.11-1", "3.0.12-1"), "here")


def test_a_newer_format_is_named_with_the_revision_that_wrote_it() -> None:
    with pytest.raises(
        LockError, match=r"format 2, .* up to 1; next: use the revision that wrote it \(abc\)"
    ):
        parse(TEXT.replace("format: 1", "format: 2"), "here")


def test_another_inventory_is_named_by_its_hosts() -> None:
    LOCK.check_inventory(["proxy1", "client"], "here")
    with pytest.raises(LockError, match=r"another inventory.*it does not have server9 and also has proxy1"):
        LOCK.check_inventory(["client", "server9"], "here")


def test_every_difference_is_named_with_both_values() -> None:
    found = replace(
        CLIENT,
        kernel="6.18.2",
        packages={"iproute2": "6.16.0-1", "vim": "9"},
        files={},
        settings={**CLIENT.settings, "endpoint 198.18.1.9 id 9 signal": "present"},
    )
    assert [str(each) for each in differences({"client": CLIENT}, {"client": found})] == [
        "client: endpoint 198.18.1.9 id 9 signal: expected absent, found present",
        "client: file /etc/sysctl.d/90-mptcp-lab.conf: expected -rw-r--r-- 0:0 aa, found absent",
        "client: kernel: expected 6.18.1, found 6.18.2",
        "client: package iproute2: expected 6.15.0-1, found 6.16.0-1",
        "client: package libc6:amd64: expected 2.41-12, found absent",
        "client: package vim: expected absent, found 9",
    ]


def test_no_difference() -> None:
    assert list(differences(LOCK.hosts, parse(TEXT, "here").hosts)) == []


KERNEL = {"kernel linux-image.deb": "sha256:aa", "jinja2": "3.1"}


def test_the_files_of_a_kernel_are_compared_and_no_other_tool() -> None:
    other = {"kernel linux-image.deb": "sha256:bb", "jinja2": "3.2"}
    assert [str(each) for each in kernel_differences(KERNEL, other)] == [
        "column: kernel linux-image.deb: expected sha256:aa, found sha256:bb"
    ]
    assert [str(each) for each in kernel_differences(KERNEL, {"kernel bzImage": "sha256:aa"})] == [
        "column: kernel bzImage: expected absent, found sha256:aa",
        "column: kernel linux-image.deb: expected sha256:aa, found absent",
    ]


@pytest.mark.parametrize("found", [KERNEL, {**KERNEL, "jinja2": "3.2"}, {}, {"jinja2": "3.1"}])
def test_the_same_kernel_and_a_lab_that_is_no_column_do_not_differ(found: dict[str, str]) -> None:
    assert list(kernel_differences(KERNEL, found)) == []
    assert list(kernel_differences(found, KERNEL)) == []


def test_a_lab_on_another_kernel_than_the_locked_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The release may be the same: a kernel is built again with another configuration."""
    hosts = dict.fromkeys(load(resolve("embedded")).hosts, CLIENT)
    path = tmp_path / "lab.lock.yml"
    path.write_text(dump(Lock("embedded", "revision", KERNEL, hosts)))
    monkeypatch.setattr(lock_command, "read_kernel_files", lambda _: {"kernel linux-image.deb": "sha256:bb"})
    assert lock_command.main(["expect", "--inventory", "embedded", "--lock", str(path)]) == 4
    told = capsys.readouterr().err
    assert "another kernel than the locked one" in told
    assert "column: kernel linux-image.deb: expected sha256:aa, found sha256:bb" in told
    assert "-e lab_lock=" in told


def test_a_lock_lies_beside_a_folder_or_a_file(tmp_path: Path) -> None:
    assert find_lock_file(str(tmp_path)) is None
    (tmp_path / "lab.lock.yml").write_text(TEXT)
    assert (
        find_lock_file(str(tmp_path))
        == find_lock_file(str(tmp_path / "hosts.yml"))
        == tmp_path / "lab.lock.yml"
    )


def test_a_missing_lock_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["expect", "--inventory", "hardware.example", "--lock", "/nowhere/lab.lock.yml"]) == 4
    assert "/nowhere/lab.lock.yml: it cannot be read" in capsys.readouterr().err
