"""Whatever a lock file holds, it is one sentence, or the lock that was written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mptcp_lab.lock import LockError, parse, read
from mptcp_lab.lock.document import _digest
from tests.lock.test_document import LOCK, TEXT
from tests.mutations import spoilt, spoilt_text

SENTENCE = re.compile(
    r"[^\n\x00-\x1f\x7f-\x9f]*: it [^\n\x00-\x1f\x7f-\x9f]*; next: [^\n\x00-\x1f\x7f-\x9f]*"
)


def sealed(document: Any) -> str:
    """Return a document with the digest that fits it, as whoever edits a lock by hand could write it."""
    if isinstance(document, dict):
        document.pop("digest", None)
        document = {**document, "digest": _digest(document)}
    return yaml.safe_dump(document)


def refusal(text: str) -> str:
    with pytest.raises(LockError) as refused:
        parse(text, "here")
    return str(refused.value)


def test_documents_with_values_that_are_others() -> None:
    sound = yaml.safe_load(TEXT)
    accepted = 0
    for document in spoilt(sound, seed=15, count=400):
        try:
            text = sealed(document)
        except (TypeError, ValueError):
            continue
        try:
            lock = parse(text, "here")
        except LockError as error:
            assert SENTENCE.fullmatch(str(error)), str(error)
            assert len(str(error)) < 600
        else:
            accepted += 1
            assert all(isinstance(each, str) for each in lock.hosts["client"].packages.values())
    assert accepted > 10  # other texts, with a digest that fits


def test_texts_that_were_cut_or_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "lab.lock.yml"
    for content in spoilt_text(TEXT, seed=16, count=150):
        path.write_bytes(content)
        try:
            assert read(path) == LOCK
        except LockError as error:
            assert SENTENCE.fullmatch(str(error)), str(error)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("x: 2026-13-45", "month must be in 1..12"),
        ("a: &a [1]\nb: *a", "alias"),
        ("a: 1\na: 2", "line 2: key 'a' is given twice"),
        (f"x: {'[' * 2000}", "nested deeper than 40 levels"),
        (f"x: {'[' * 50}{']' * 50}", "nested deeper than 40 levels"),
        ("? [1]\n: 2", "not YAML"),
        ("x: !!python/object:os.system {}", "not YAML"),
        ("x: !!int 'one'", "not YAML"),
    ],
)
def test_yaml_that_no_lock_has_is_refused(text: str, word: str) -> None:
    assert word in refusal(text)


def test_a_sealed_lock_without_hosts_is_refused() -> None:
    document = {"format": 1, "lab": "l", "revision": "r", "tools": {}, "packages": {}}
    assert "no 'hosts'" in refusal(sealed(document))
    assert "it has no hosts" in refusal(sealed({**document, "hosts": {}}))


def test_what_is_no_file_of_text_is_one_sentence(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(LockError) as refused:
            read(path)
        assert SENTENCE.fullmatch(str(refused.value))
