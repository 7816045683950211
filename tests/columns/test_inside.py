"""The part of `up` that runs in the machine of a column: its answers, failures and interrupts."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mptcp_lab.inventory import Lab
from mptcp_lab.labs.columns import column, inside
from mptcp_lab.labs.columns.choice import Choice, choose_kernel
from mptcp_lab.labs.columns.record import Record, write_record
from mptcp_lab.labs.columns.spec import parse_spec
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.kernel import Lack
from mptcp_lab.labs.lab_paths import LabPaths
from mptcp_lab.probe import eventually


@pytest.fixture
def answers(paths: LabPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes a script stand in for ssh to the machine."""
    write_record(paths, Record("debian-12", "", "option", "/nowhere", ""))
    for name in ("id_ed25519", "id_ed25519.pub"):
        (paths.state / name).touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def stand_in(script: str) -> None:
        (tmp_path / "ssh").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "ssh").chmod(0o755)

    return stand_in


def test_progress_and_answer_come_out_of_the_machine(
    paths: LabPaths, lab: Lab, answers: Callable[[str], None]
) -> None:
    answers('cat >/dev/null; echo "client answers" >&2; echo \'{"changed": true}\'')
    heard: list[str] = []
    assert column.ask_inside(paths, lab, "up", heard.append, 60.0) == {"changed": True}
    assert heard == ["client answers"]


def test_a_failure_inside_is_one_sentence(paths: LabPaths, lab: Lab, answers: Callable[[str], None]) -> None:
    answers('cat >/dev/null; echo "no room" >&2; exit 4')
    with pytest.raises(EmbeddedError, match="in the machine: no room; next: "):
        column.ask_inside(paths, lab, "up", lambda _: None, 60.0)


def test_a_machine_that_hangs_up_before_it_reads_is_one_sentence(
    paths: LabPaths, lab: Lab, answers: Callable[[str], None]
) -> None:
    answers('exec <&-; echo "Connection refused" >&2; exit 255')
    longer = replace(lab, source="x" * 2**20)  # more than a pipe holds
    with pytest.raises(EmbeddedError, match="in the machine: Connection refused; next: "):
        column.ask_inside(paths, longer, "up", lambda _: None, 60.0)


def test_a_recorded_kernel_that_left_the_cache_is_one_sentence(
    paths: LabPaths, lab: Lab, answers: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers("exit 255")
    monkeypatch.setattr(column, "build_images", lambda *_: None)
    monkeypatch.setattr(column, "build_disks", lambda *_: None)
    chosen = choose_kernel(paths, lab, None)
    with pytest.raises(EmbeddedError, match=r"no longer has its kernel debian-12; next: \./lab down"):
        column._prepare_kernel(paths, lab, chosen, lambda _: None)


def test_labs_wait_for_the_hosts_images_only(
    paths: LabPaths, lab: Lab, answers: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_free() -> bool:
        with (paths.cache / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    answers("exit 255")
    seen: list[bool] = []
    for name in ("build_images", "build_disks", "prepare_kernel"):
        monkeypatch.setattr(column, name, lambda *_: seen.append(is_free()))
    column._prepare_kernel(paths, lab, Choice(parse_spec("sid"), "option"), lambda _: None)
    assert seen == [False, True, True]


def test_an_interrupt_does_not_wait_for_the_machine(
    paths: LabPaths, lab: Lab, answers: Callable[[str], None]
) -> None:
    def interrupt(_stage: str) -> None:
        raise KeyboardInterrupt

    answers('cat >/dev/null; echo "client answers" >&2; exec sleep 600')
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        column.ask_inside(paths, lab, "up", interrupt, 600.0)
    eventually(threading.active_count, until=lambda count: count <= before, within=30.0)


def test_what_every_lab_needs_stops_it_and_the_rest_is_reported() -> None:
    tbf = Lack("sch_tbf", "rate limits", "unknown", "CONFIG_NET_SCH_TBF", needed=False)
    veth = replace(tbf, name="veth", options="CONFIG_VETH", needed=True)
    heard: list[str] = []
    column._check_lacks([tbf], heard.append)
    assert heard == ["the kernel lacks sch_tbf (CONFIG_NET_SCH_TBF): rate limits: unknown"]
    with pytest.raises(EmbeddedError, match=r"lacks what every lab needs:\n    veth \(CONFIG_VETH\)"):
        column._check_lacks([tbf, veth], heard.append)


def test_the_cache_in_the_machine_is_the_disk_with_the_images(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    inside._link_images(cache)
    inside._link_images(cache)  # the next `up`
    assert cache.readlink() == inside.IMAGES


def test_a_folder_in_the_place_of_the_images_is_one_sentence(tmp_path: Path) -> None:
    """An image has it if the Python of an install script wrote its bytecode there."""
    (tmp_path / "cache/bytecode").mkdir(parents=True)
    with pytest.raises(
        EmbeddedError, match=r"cache exists in the machine and is no link .*; next: \./lab down"
    ):
        inside._link_images(tmp_path / "cache")
