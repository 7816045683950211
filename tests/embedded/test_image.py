"""Test which image a host is created from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mptcp_lab.inventory import Host, load, resolve
from mptcp_lab.labs.containers import image
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
