"""Test that the checkout builds as a collection, which works without the checkout and without network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

import mptcp_lab
from mptcp_lab.paths import ROOT
from tests.roles.golden import lab_filters
from tests.roles.test_examples import check
from tests.roles.test_specs import ROLES

BIN = Path(sys.executable).parent
#: The name of the collection, which roles and templates put before the names of the lab's filters.
COLLECTION = "mptcp.lab"
#: The top folders and files of the collection, without the two lists that Ansible writes.
CONTENT = {"CHANGELOG.md", "LICENSE", "README.md", "meta", "mptcp_lab", "plugins", "roles", "templates"}
FILTER = re.compile(r"(?:\||map\(')\s*([a-z_.]+)")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the collection from the checkout, and return the archive."""
    folder = tmp_path_factory.mktemp("build")
    galaxy("build", str(ROOT), "--output-path", str(folder))
    (built,) = folder.glob("*.tar.gz")
    return built


@pytest.fixture(scope="module")
def collections(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the collection to an empty folder, and return the folder."""
    folder = tmp_path_factory.mktemp("collections")
    galaxy("install", "--offline", "--collections-path", str(folder), str(archive))
    return folder


def galaxy(*arguments: str) -> None:
    """Run ansible-galaxy in a folder without an ansible.cfg."""
    command = [str(BIN / "ansible-galaxy"), "collection", *arguments]
    subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")


def by_full_name(example: str) -> str:
    """Return example plays that name each of the lab's roles by its full name."""
    names = "|".join(role.name for role in ROLES)
    return re.sub(rf"(?m)^( *(?:- role|name): )({names})$", rf"\1{COLLECTION}.\2", example)


def short_names(text: str, defined: set[str]) -> set[str]:
    """Return the lab's filters that a text does not name as the collection needs it."""
    return {name for name in FILTER.findall(text) if name in defined}


def test_the_collection_has_the_roles_and_what_they_need_and_nothing_else(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert {name.partition("/")[0] for name in names} == {*CONTENT, "MANIFEST.json", "FILES.json"}
    below = {"/".join(name.split("/")[:2]) for name in names if name.startswith(("mptcp_lab/", "plugins/"))}
    assert below == {"mptcp_lab/agent", "plugins/modules", "plugins/filter"}
    assert [name for name in names if "__pycache__" in name] == []
    for role in ROLES:
        assert f"roles/{role.name}/tasks/main.yml" in names


def test_the_collection_has_the_version_of_the_project() -> None:
    assert yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"] == mptcp_lab.__version__


def test_the_examples_run_by_full_name_without_the_checkout(collections: Path, tmp_path: Path) -> None:
    playbooks = []
    for role in ROLES:
        example = by_full_name((role / "examples.yml").read_text())
        assert f"{COLLECTION}.{role.name}" in example
        playbooks.append(tmp_path / f"{role.name}.yml")
        playbooks[-1].write_text(example)
    settings = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections)}
    assert not check(tmp_path, *playbooks, cwd=tmp_path, environment=settings)


def test_a_collection_without_its_filters_is_found(archive: Path, tmp_path: Path) -> None:
    galaxy("install", "--offline", "--collections-path", str(tmp_path / "collections"), str(archive))
    (tmp_path / "collections/ansible_collections/mptcp/lab/plugins/filter/lab.py").unlink()
    playbook = tmp_path / "gateway.yml"
    playbook.write_text(by_full_name((ROOT / "roles/gateway/examples.yml").read_text()))
    settings = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections")}
    assert "mptcp.lab.one_word" in check(tmp_path, playbook, cwd=tmp_path, environment=settings)


def test_roles_and_templates_name_filters_in_full() -> None:
    files = [*ROOT.glob("roles/*/*/*.yml"), *ROOT.glob("templates/*.j2")]
    short = {str(path.relative_to(ROOT)): short_names(path.read_text(), set(lab_filters())) for path in files}
    assert {path: names for path, names in short.items() if names} == {}
    assert short_names("{{ a | one_word }} {{ b | map('one_word') }}", {"one_word"}) == {"one_word"}
