"""Several hundred mutations of a sound inventory (fixed seed): each is refused clearly, or is harmless."""

import copy
import dataclasses
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from mptcp_lab.inventory import InventoryError, Lab
from mptcp_lab.inventory.sources import read
from mptcp_lab.inventory.validate import lab_from
from mptcp_lab.paths import ROOT

FOLDER = ROOT / "inventories/embedded"
MUTATIONS, CUTS = 700, 150
#: What a value may become, in every place.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.0, 10**30, float("nan"), float("inf"), "", " ", "'", "';id;'", "a b", "a\nb",
    "$(id)", "`id`", "a;b", "a\x00b", "a\x1b[2J", "é", "x" * 300, "../x", "%s", "{{ 1 }}", "false", "0",
    "1e3", "off",
    "0.0.0.0/0", "::/0", "127.0.0.1/8", "224.0.0.1/24", "255.255.255.255/32", "fe80::1/64", "ff02::1/64",
    "198.18.1.0/24", "198.18.1.255/24", "198.18.1.10/255.255.255.0", "2001:db8:1::10%eth1/64", "lo", "all",
    [], {}, ["x"], {"x": 1}, [[]],
)  # fmt: skip
#: What may stand in the strings of an accepted lab: nothing that a shell or a configuration would read.
HARMLESS = re.compile(r"[A-Za-z0-9_.:/-]*")


def flattened() -> dict[str, Any]:
    """Return the embedded inventory as ``ansible-inventory --list`` would, without a process per mutation."""
    groups = yaml.safe_load((FOLDER / "hosts.yml").read_text())["all"]["children"]
    shared = yaml.safe_load((FOLDER / "group_vars/all.yml").read_text())
    hostvars = {
        host: {**shared, **entry} for group in groups.values() for host, entry in group["hosts"].items()
    }
    document = {name: {"hosts": list(group["hosts"])} for name, group in groups.items()}
    return {"all": {"children": list(groups)}, **document, "_meta": {"hostvars": copy.deepcopy(hostvars)}}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value below, containers included."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        yield (*path, key)
        yield from leaves(below, (*path, key))


def changed(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return the document with one value of a host replaced; of a variable of the whole lab, everywhere."""
    document = copy.deepcopy(document)
    host, *rest = path
    is_shared = rest[0] in ("lab_segments", "lab_name", "lab_flavour")
    for name in document["_meta"]["hostvars"] if is_shared else [host]:
        place = document["_meta"]["hostvars"][name]
        for key in rest[:-1]:
            place = place[key]
        place[rest[-1]] = value
    return document


def strings(value: Any) -> Iterator[str]:
    """Yield the strings of a Lab that reach configurations."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if field.name not in ("variables", "source", "unplug", "plug"):
                yield from strings(getattr(value, field.name))
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from strings(key)
            yield from strings(below)
    elif isinstance(value, tuple | list | frozenset):
        for below in value:
            yield from strings(below)
    elif value is not None:
        yield str(value)


def check_outcome(document: dict[str, Any]) -> InventoryError | Lab:
    """Validate: one clear error that names host and variable, or a lab without a harmful string."""
    try:
        lab = lab_from(document, "mutated")
    except InventoryError as error:
        assert error.host
        assert error.variable
        assert error.problem
        assert "\n" not in str(error)
        assert "\x1b" not in str(error)
        return error
    assert all(HARMLESS.fullmatch(text) for text in strings(lab))
    return lab


def test_values_are_refused_clearly_or_are_harmless() -> None:
    document = flattened()
    assert isinstance(check_outcome(document), Lab)
    paths = [
        (host, *path)
        for host, entry in document["_meta"]["hostvars"].items()
        for path in leaves(entry)
        if str(path[0]).startswith("lab_")
    ]
    chosen = random.Random(8684).sample([(path, value) for path in paths for value in VALUES], MUTATIONS)
    outcomes = [check_outcome(changed(document, path, value)) for path, value in chosen]
    refused = sum(isinstance(outcome, InventoryError) for outcome in outcomes)
    # None and an empty list are right in places where a value is optional; hardly anything else is.
    assert refused > 0.85 * MUTATIONS


@pytest.mark.parametrize("twist", ["swapped", "doubled", "capital"])
def test_misspelt_names_are_refused_everywhere(twist: str) -> None:
    twists = {
        "swapped": lambda word: word[:-2] + word[-1] + word[-2],
        "doubled": lambda word: word + word[-1],
        "capital": lambda word: word.capitalize(),
    }
    document = flattened()
    for host, entry in document["_meta"]["hostvars"].items():
        for path in leaves(entry):
            key = path[-1]
            if not str(path[0]).startswith("lab_") or not isinstance(key, str) or twists[twist](key) == key:
                continue
            if len(path) > 1 and path[:-1] == ("lab_segments",):
                continue  # free text: refused where a NIC uses the segment
            spoilt = copy.deepcopy(document)
            place = spoilt["_meta"]["hostvars"][host]
            for step in path[:-1]:
                place = place[step]
            place[twists[twist](key)] = place.pop(key)
            assert isinstance(check_outcome(spoilt), InventoryError), f"{host} {path}"


def test_a_file_that_is_cut_or_has_bytes_changed_is_refused_with_its_place_or_is_yaml(tmp_path) -> None:
    text = (FOLDER / "hosts.yml").read_bytes()
    chance = random.Random(1)
    for _ in range(CUTS):
        place = chance.randrange(len(text))
        noise = bytes(chance.choices(b"\t\x00\xff{}[]:&*!|>'\"%@`\n ", k=chance.randint(0, 3)))
        spoilt = text[:place] + noise + (text[place + 1 :] if chance.random() < 0.7 else b"")
        file = tmp_path / "hosts.yml"
        file.write_bytes(spoilt)
        try:
            read(tmp_path)
        except InventoryError as error:
            assert error.location.startswith(str(file))
            assert error.problem
