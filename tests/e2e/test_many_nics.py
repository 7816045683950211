"""More pairs of addresses than a connection may have subflows: a correct kernel fails no check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import Configured
from tests.labs import own_lab

CLAIMS = ("DIRECT-3", "DIRECT-4", "DIRECT-7", "DIRECT-11", "DIRECT-13", "DIRECT-27", "SPLIT-1")


def nic(path: int, number: int, device: int) -> dict[str, str]:
    return {
        "segment": f"path{path}",
        "device": f"eth{device}",
        "ipv4": f"198.18.{path}.{number}/24",
        "ipv6": f"2001:db8:{path}::{number}/64",
    }


@pytest.fixture(params=[3, 4], ids=["three", "four"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Configured]:
    """A lab whose client and server have so many dual-stack NICs on paths."""
    own = own_lab(tmp_path / "inventory", f"test-{request.param}-nics")
    variables = own.folder / "group_vars/all.yml"
    document = yaml.safe_load(variables.read_text())
    document["lab_segments"]["path4"] = {"kind": "path", "ipv4": "198.18.4.0/24", "ipv6": "2001:db8:4::/64"}
    variables.write_text(yaml.safe_dump(document))

    def plug_in(groups: dict) -> None:
        client, server = groups["clients"]["hosts"]["client"], groups["origins"]["hosts"]["server1"]
        del client["lab_nics"][2]["state"]
        if request.param == 4:
            client["lab_nics"].append(nic(4, 10, 4))
            server["lab_nics"].append(nic(4, 31, 5))

    own.edit(plug_in)
    found = Configured(own, tmp_path / "results")
    try:
        own.up()
        found.play()
        yield found
    finally:
        own.down()


@pytest.mark.long
def test_what_a_connection_has_no_room_for_is_not_expected(lab: Configured) -> None:
    run = lab.suite(*(f"--claim={claim}" for claim in CLAIMS))
    assert set(run.verdicts().values()) == {"pass"}, run.output
    assert "left out by the limit of 8 joins" in run.output
