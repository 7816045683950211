"""Rules by counters, where neither a capture nor a setting shows the cause: each gives its finding alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mptcp_lab.doctor.counters import RESET_COUNTERS, RULES
from mptcp_lab.doctor.finding import find_all
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules import gather
from mptcp_lab.doctor.rules.by_counters import name_of, name_of_reset
from mptcp_lab.doctor.unreadable import Unreadable
from tests.doctor.edits import A2, B2, HEALTHY, captured, chain, fall_back, lose, moved, must, on, tried

ALL = gather()
NO_CAPTURE = tried(client_capture=Unreadable("needs root"), server_capture=Unreadable("needs root"))
#: A subflow is missing, and both ends count it; each situation adds what its rule is about.
LACKING = chain(lose((A2, B2)), NO_CAPTURE)
SYNTX = {"MPCapableSYNTX": 1}


def counted(client: dict[str, int], server: dict[str, int] | None = None) -> object:
    """Return an edit after which the connection is TCP, and just these counters have moved."""
    groups = ({"MPTcpExt": client}, {"MPTcpExt": server or {}})
    return chain(fall_back, NO_CAPTURE, tried(client_counters=groups[0], server_counters=groups[1]))


SITUATIONS = {
    "counters-syns-with-options-dropped": counted({**SYNTX, "MPCapableSYNTXDrop": 1}),
    "counters-mptcp-is-off-after-a-blackhole": counted({"MPCapableSYNTXDisabled": 1}),
    "counters-server-without-mptcp": chain(
        counted({**SYNTX, "MPCapableFallbackSYNACK": 1}), on("server", mptcp_socket="EACCES")
    ),
    "counters-options-stripped-from-syn-acks": counted(
        {**SYNTX, "MPCapableFallbackSYNACK": 1}, {"MPCapableSYNRX": 1}
    ),
    "counters-options-stripped-from-syns": counted({**SYNTX, "MPCapableFallbackSYNACK": 1}),
    "counters-joins-refused-by-the-server": chain(LACKING, moved("server", MPJoinRejected=1)),
    "counters-joins-could-not-be-bound-to-their-address": chain(
        LACKING, moved("client", MPJoinSynTxBindErr=1)
    ),
    "counters-joins-have-no-route": chain(LACKING, moved("client", MPJoinSynTxConnectErr=1)),
    "counters-joins-got-no-socket": chain(LACKING, moved("client", MPJoinSynTxCreatSkErr=1)),
    "counters-joins-came-to-a-host-without-the-connection": chain(
        LACKING, moved("server", MPJoinNoTokenFound=1)
    ),
    "counters-joins-with-a-wrong-hmac": chain(LACKING, moved("server", MPJoinAckHMacFailure=1)),
    "counters-joins-do-not-arrive": chain(LACKING, moved("server", MPJoinSynRx=0)),
    "counters-some-joins-are-not-answered": LACKING,
    "counters-third-packets-of-joins-are-lost": chain(lose((A2, B2), at="third"), NO_CAPTURE),
    "counters-no-join-was-tried": chain(LACKING, moved("client", MPJoinSynTx=0, MPJoinSynAckRx=0)),
}
#: The finding that says the same from other readings, and folds the counters' one.
SAME = {
    "counters-syns-with-options-dropped": "mptcp-syn-dropped",
    "counters-mptcp-is-off-after-a-blackhole": "blackhole-pause",
}


def names(reading: PairReading) -> list[str]:
    return [each.rule for each in find_all(ALL, reading)]


def test_every_rule_has_a_situation() -> None:
    assert {name_of(rule.diagnosis) for rule in RULES} == set(SITUATIONS)


@pytest.mark.parametrize("rule", SITUATIONS)
def test_counters_give_their_finding_alone(rule: str) -> None:
    found = find_all(ALL, SITUATIONS[rule](HEALTHY))  # type: ignore[operator]
    assert [each.rule for each in found] == [SAME.get(rule, rule)]
    if rule in SAME:
        assert [each.rule for each in found[0].folded] == [rule]


@pytest.mark.parametrize("counter", RESET_COUNTERS)
def test_a_counter_of_resets_names_the_cause(counter: str) -> None:
    (finding,) = find_all(ALL, chain(LACKING, moved("server", **{counter: 2}))(HEALTHY))
    assert (finding.rule, finding.host) == (name_of_reset(counter), "server1")
    assert finding.evidence == (f"{counter} moved by 2",)
    assert [each.rule for each in finding.folded] == ["counters-some-joins-are-not-answered"]


def test_errors_of_other_connections_are_no_finding() -> None:
    """The doctor's own connection has all its subflows: what else the counters show is not about it."""
    edit = chain(moved("server", MPJoinNoTokenFound=7, MPJoinRejected=7), moved("client", MPJoinSynTx=9))
    assert names(edit(HEALTHY)) == []


def test_a_counter_that_a_kernel_lacks_is_no_finding() -> None:
    old = {"MPTcpExt": {"MPCapableSYNTX": 0}}
    client = replace(HEALTHY.client, counters=old)
    server = replace(must(HEALTHY.server), counters=old)
    assert names(replace(HEALTHY, client=client, server=server)) == []


def test_a_join_that_the_server_never_took_is_missing() -> None:
    """The client has the subflow established, and the server's filter drops the third packet."""
    edit = chain(
        captured(lambda j: replace(j, fourth=0) if (j.client, j.server) == (A2, B2) else j, ["server"]),
        moved("server", MPJoinAckRx=2),
        moved("server", "Conntrack", invalid=2),
        on("server", nft="table inet t {\n\tchain c {\n\t\tct state invalid drop\n\t}\n}\n"),
    )
    assert names(edit(HEALTHY)) == ["tracker-calls-joins-invalid"]
