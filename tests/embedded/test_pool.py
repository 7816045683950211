"""Test which signed indexes the package pool is built from, with a fake apt that "fetches" a given one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mptcp_lab.labs.containers.recipe import SIGNED_SINCE, part
from mptcp_lab.paths import ROOT

#: Writes an index where apt would, and notes how it was called.
APT = """#!/bin/sh
echo "$*" >>"$LOG"
case "$*" in
*update) echo "Date: $DATE" >"$LISTS/mirror_dists_sid_InRelease"; cp "$LISTS/mirror_dists_sid_InRelease" \\
    "$LISTS/mirror_dists_trixie-backports_InRelease" ;;
esac
"""


def build(tmp_path: Path, part_of_pool: str, date: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run pool.sh for one part of the pool, and return its result and the calls of apt."""
    root, programs = tmp_path / "root", tmp_path / "bin"
    lists = root / "var/lib/apt/lists"
    for folder in (lists, root / "etc/apt/sources.list.d", programs):
        folder.mkdir(parents=True)
    (root / "etc/apt/sources.list").write_text("deb http://mirror/debian trixie main\n")
    (programs / "apt-get").write_text(APT)
    (programs / "apt-get").chmod(0o755)
    done = subprocess.run(
        ["sh", str(ROOT / "mptcp_lab/labs/containers/pool.sh"), str(root), "trixie", part_of_pool],
        env={
            "PATH": f"{programs}:{os.environ['PATH']}",
            "MMDEBSTRAP_APT_CONFIG": "/dev/null",
            "DATE": date,
            "LOG": str(tmp_path / "log"),
            "LISTS": str(lists),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done, (tmp_path / "log").read_text()


def test_an_index_from_before_the_pinned_day_is_refused(tmp_path: Path) -> None:
    done, called = build(tmp_path, "sid@2026-10-30:nginx", "Thu, 29 Oct 2026 20:08:01 UTC")
    assert done.returncode == 1
    assert "the index of sid was signed on Thu, 29 Oct 2026" in done.stderr
    assert "one from before 2026-10-30 is refused" in done.stderr
    assert "install" not in called


@pytest.mark.parametrize("date", ["Fri, 30 Oct 2026 08:08:01 UTC", "Mon, 04 Jan 2027 00:00:00 UTC"])
def test_a_later_one_is_accepted_although_it_may_have_expired(tmp_path: Path, date: str) -> None:
    done, called = build(tmp_path, "sid@2026-10-30:nginx", date)
    assert done.returncode == 0, done.stderr
    assert "-o Acquire::Check-Valid-Until=false update" in called
    assert "-t sid install nginx" in called


def test_any_other_suite_has_to_be_valid_today(tmp_path: Path) -> None:
    done, called = build(tmp_path, "trixie-backports:linux-image", "Fri, 27 Nov 2026 02:10:32 UTC")
    assert done.returncode == 0, done.stderr
    assert "-o Acquire::Check-Valid-Until=true update" in called


def test_the_pool_s_sid_is_pinned() -> None:
    assert part("sid", ["nginx", "haproxy"]) == f"sid@{SIGNED_SINCE['sid']}:nginx,haproxy"
