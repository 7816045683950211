"""Known deviations of kernels: recognised on the kernels that a correction names, and on no other."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mptcp_lab.catalogue import corrections
from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.inventory import load, resolve
from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.deviations import (
    IPV6_ON_IPV4,
    NO_ROOM,
    ONE_FAMILY,
    SELF_JOINS,
    check_not_lacking,
    find_correction,
    is_self_join,
    known_self_joins,
    own_addresses,
)
from mptcp_lab.suite.direct.fullmesh import keep_joins_by_route
from mptcp_lab.suite.matrix import expected_matrix

OWN = {"198.18.1.10", "198.18.2.10", "2001:db8:1::10"}
#: As Linux 6.1 was seen to do it (DIRECT-3, captured on eth1).
SEEN = {("198.18.2.10", "198.18.1.10"), ("198.18.1.10", "198.18.2.31"), ("198.18.1.10", "198.18.1.31")}
OLD = ["5.15.0-91-generic", "6.1.0-56-amd64", "6.2.16"]
NEW = ["6.3.0", "6.12.43+deb13-amd64", "6.18.44", "7.3.1"]
#: Releases without these path managers, and what is no release at all.
NEITHER = ["5.10.0-30-amd64", "", "unknown"]


@pytest.mark.parametrize("kernel", OLD)
def test_a_join_to_an_own_address_is_known_of_an_old_kernel(kernel: str) -> None:
    assert known_self_joins(SEEN, OWN, kernel) == {("198.18.2.10", "198.18.1.10")}


@pytest.mark.parametrize("kernel", NEW + NEITHER)
def test_a_join_to_an_own_address_stays_unexpected_on_any_other(kernel: str) -> None:
    assert known_self_joins(SEEN, OWN, kernel) == set()


@pytest.mark.parametrize(
    ("pair", "is_one"),
    [
        (("198.18.2.10", "198.18.1.10"), True),
        (("198.18.1.10", "198.18.1.10"), True),
        (("198.18.2.10", "198.18.1.31"), False),
        (("198.18.1.31", "198.18.1.10"), False),
        (("198.18.9.10", "198.18.1.10"), False),
    ],
)
def test_both_ends_of_a_self_join_are_own_addresses(pair: tuple[str, str], is_one: bool) -> None:
    assert is_self_join(pair, OWN) is is_one


def test_an_old_kernel_excuses_nothing_else() -> None:
    stranger = ("198.18.2.10", "198.18.9.9")
    assert known_self_joins({*SEEN, stranger}, OWN, "6.1.0-56-amd64") == {("198.18.2.10", "198.18.1.10")}


@pytest.mark.parametrize("name", [SELF_JOINS, NO_ROOM, ONE_FAMILY, IPV6_ON_IPV4])
def test_each_name_is_a_correction_with_its_kernels(name: str) -> None:
    correction = find_correction(name, "6.1.0-56-amd64")
    assert correction is not None
    assert correction.sentence and correction.first_without == "6.3"
    assert find_correction(name, "6.18.44") is None


def test_an_engines_behaviour_is_about_no_kernel() -> None:
    engine = next(each for each in corrections() if each.kernels == "any")
    assert not engine.is_about("6.18.44")


def test_the_clients_own_addresses_include_those_of_nics_that_are_down() -> None:
    client = load(resolve("embedded")).hosts["client"]
    assert {"198.18.1.10", "198.18.3.10", "2001:db8:2::10"} <= own_addresses(client)


def test_a_matrix_can_be_narrowed_to_what_is_announced() -> None:
    lab = load(resolve("embedded"))
    filters = {"eth1": 2, "eth2": 2}
    matrix = expected_matrix(lab, lab.hosts["client"], lab.hosts["server1"], 4, {}, filters)
    narrowed = matrix.pairs_towards({"198.18.1.31", "198.18.3.31"})
    assert narrowed.addresses == {("198.18.1.10", "198.18.1.31"), ("198.18.2.10", "198.18.1.31")}
    assert {str(pair.remote) for pair in narrowed.absent} == {"198.18.3.31"}
    assert narrowed.room == matrix.room


def test_what_an_old_kernel_lacks_is_unsupported_there_and_a_failure_elsewhere() -> None:
    with pytest.raises(Unsupported, match=r"client: .*Linux 6\.1\.0-56-amd64: the kernel's path manager"):
        check_not_lacking(ONE_FAMILY, "6.1.0-56-amd64", "client", "both families in one connection")
    check_not_lacking(ONE_FAMILY, "6.18.44", "client", "both families in one connection")


@pytest.mark.parametrize(
    ("kernel", "known"), [("6.1.0-50-amd64", True), ("6.12.117", False), ("6.18.44", False)]
)
def test_a_join_of_the_first_address_may_leave_by_another_nic_on_an_old_kernel(
    kernel: str, known: bool, tmp_path: Path
) -> None:
    lab = load(resolve("embedded"))
    client = Machine(lab, lab.hosts["client"], cast(Any, SimpleNamespace(kernel=kernel)))
    first, second = client.paths[:2]
    elsewhere = ("198.18.1.10", "198.18.2.31")
    syns = {first: {("198.18.1.10", "198.18.1.31"), ("198.18.2.10", "198.18.1.31")}, second: {elsewhere}}
    found = keep_joins_by_route(client, syns, 4, EvidenceBox(tmp_path, tmp_path))
    assert found == ({elsewhere} if known else set())
