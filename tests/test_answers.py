"""Test that the output of tools is validated before its fields are used."""

from __future__ import annotations

import pytest

from mptcp_lab.answers import member, parse, records
from mptcp_lab.errors import LabError

TOOL = "ip -json link show"


@pytest.mark.parametrize("text", ["", "\n", "[]", "[{}]", "[{},{}]", " [ { } ] "])
def test_empty_objects_are_no_records(text: str) -> None:
    assert records(text, TOOL, "ifname") == []


def test_records_have_the_required_fields() -> None:
    assert records('[{},{"ifname":"br0","mtu":1500}]', TOOL, "ifname") == [{"ifname": "br0", "mtu": 1500}]
    with pytest.raises(LabError, match="`ip -json link show` printed an entry without ifname, mtu"):
        records('[{"name":"br0"}]', TOOL, "ifname", "mtu")


@pytest.mark.parametrize("text", ["{", "Error: x", "[" * 100_000, '{"a":1}', "[1]", "null", "NaN", '"x"'])
def test_what_is_no_list_of_objects_is_one_sentence(text: str) -> None:
    with pytest.raises(LabError, match="`ip -json link show` printed no") as caught:
        records(text, TOOL)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_missing_member_is_named_by_its_path() -> None:
    document = parse('{"error": {"desc": "no such device"}}', "QMP")
    assert member(document, "QMP", "error", "desc") == "no such device"
    for path in (("error", "class"), ("error", "desc", "text"), ("return",)):
        with pytest.raises(LabError, match=f"`QMP` answered without {'.'.join(path)}"):
            member(document, "QMP", *path)
