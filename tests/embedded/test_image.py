"""Test which image a host is created from, and what images are built with."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mptcp_lab.inventory import Host, load, resolve
from mptcp_lab.labs.command import run
from mptcp_lab.labs.containers import image, rootfs
from mptcp_lab.labs.containers.recipe import CONTAINER, OLDER
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import lab_paths


@pytest.fixture(scope="module")
def client() -> Host:
    return load(resolve("embedded")).hosts["client"]


def test_a_host_is_debian_13_unless_it_says_debian_12(client: Host) -> None:
    assert image.recipe_of(client) is CONTAINER
    assert image.recipe_of(replace(client, variables={"lab_image": "debian-12"})) is OLDER
    assert image.image(lab_paths(), OLDER) != image.image(lab_paths())


def test_an_image_that_there_is_not_is_refused(client: Host) -> None:
    other = replace(client, variables={"lab_image": "debian-11"})
    with pytest.raises(
        EmbeddedError, match="client: lab_image is 'debian-11', and has to be one of debian-13, debian-12"
    ):
        image.recipe_of(other)


def test_pythons_in_an_image_do_not_follow_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With this process's variables, install scripts would write bytecode below a path of this machine."""
    program = tmp_path / "mmdebstrap"
    program.write_text("#!/bin/sh\nexec python3 -c 'import sys; print(\"I: prefix\", sys.pycache_prefix)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "/nowhere")
    heard: list[str] = []
    rootfs.download(tmp_path / "root", "trixie", "trixie:nginx", heard.append)
    assert heard == ["prefix None"]
    assert run("sh", str(program)) == "I: prefix None\n"


def test_hosts_watch_for_no_passwords() -> None:
    """Each of these units takes one of the inotify instances that a user has."""
    for recipe in (CONTAINER, OLDER):
        assert {"systemd-ask-password-console.path", "systemd-ask-password-wall.path"} <= set(recipe.masked)
