"""Events of a path manager against expected lists: each once, in its place, with its fields."""

import pytest

from mptcp_lab.suite.direct.event_order import Expected, count, expect, find_difference

CREATED = {"event": "mptcp", "type": "created", "token": 7, "at": 1.0, "sport": 1, "server_side": 1}
JOINED = {"event": "mptcp", "type": "sub_established", "token": 7, "at": 2.0, "sport": 2}
ALSO_JOINED = {**JOINED, "sport": 3}
ORDER: list[Expected | list[Expected]] = [
    expect("created", sport=1, server_side=1),
    [expect("sub_established", sport=3, error=0), expect("sub_established", sport=2)],
]


def test_the_expected_events_may_change_places_within_their_group_only() -> None:
    assert count(ORDER) == 3
    assert find_difference(ORDER, [CREATED, JOINED, ALSO_JOINED]) == ""
    assert find_difference(ORDER, [CREATED, ALSO_JOINED, JOINED]) == ""
    assert find_difference(ORDER, [JOINED, CREATED, ALSO_JOINED]).startswith("expected created")


@pytest.mark.parametrize(
    ("came", "words"),
    [
        ([], "expected created sport=1 server_side=1 here, came nothing"),
        ([CREATED, JOINED], "expected sub_established sport=3 error=0 here"),
        ([CREATED, JOINED, JOINED], "expected sub_established sport=3"),
        ([CREATED, JOINED, ALSO_JOINED, JOINED], "nobody expects sub_established sport=2"),
        ([{**CREATED, "server_side": 0}, JOINED, ALSO_JOINED], "came created sport=1 server_side=0"),
        ([CREATED, JOINED, {**ALSO_JOINED, "error": 104}], "; sub_established sport=3 error=104"),
    ],
)
def test_a_difference_is_described(came: list[dict[str, object]], words: str) -> None:
    assert words in find_difference(ORDER, came)
