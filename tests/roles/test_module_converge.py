"""Test module `converge` on files of this machine: what it writes, refuses, and reports in check mode."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.golden import ROOT

MODULE = (ROOT / "plugins/modules/converge.py").read_text()
REFUSES = "sh -c 'echo it says no about $0; exit 1' %s"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unsupported: what it writes belongs to root")


def converge(*, check: bool = False, **wanted: Any) -> dict[str, Any]:
    """Run the module as Ansible does: its text with the arguments inserted, on Python's standard input."""
    arguments = json.dumps({**wanted, "_ansible_check_mode": check, "_ansible_diff": True})
    program = MODULE.replace("<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>", arguments)
    done = subprocess.run([sys.executable], input=program, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    result: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == result.get("failed", False)
    return result


def files_below(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Return content, mode and modification time of every file."""
    return {
        path.name: (path.read_text(), stat.S_IMODE(path.stat().st_mode), path.stat().st_mtime_ns)
        for path in folder.iterdir()
    }


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_content_mode_and_folder_then_nothing(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "new/file"
    files = [{"path": str(path), "content": "a\n", "mode": f"{mode:04o}", "validate": "grep -q a %s"}]
    assert converge(folders=[str(path.parent)], files=files)["changed"] is True
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("a\n", mode)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert converge(folders=[str(path.parent)], files=files) == {"changed": False, "units": {}, "diff": []}


TEXTS = ('"""', "\\", "'''\\\"", "\\u0041\n", "é\u2028\0", "<<X>>", "")


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_arrives_as_it_is(tmp_path: Path, text: str) -> None:
    converge(files=[{"path": str(tmp_path / "file"), "content": text}])
    assert (tmp_path / "file").read_bytes() == text.encode()


@pytest.mark.parametrize("pipelining", [True, False])
def test_ansible_hands_any_text_over(tmp_path: Path, pipelining: bool) -> None:
    """Check that Ansible passes any text unchanged; with pipelining, it copies no file to the host."""
    files = [{"path": str(tmp_path / str(n)), "content": text} for n, text in enumerate(TEXTS)]
    tool = Path(sys.executable).with_name("ansible")
    command = [str(tool), "-vvv", "-i", "here,", "here", "-m", "converge", "-a", json.dumps({"files": files})]
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "ansible_pipelining": pipelining,
    }
    command += ["-e", json.dumps(variables)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout
    assert [Path(file["path"]).read_bytes() for file in files] == [text.encode() for text in TEXTS]
    assert ("PUT" in done.stdout) is not pipelining


def test_wrong_mode_and_owner_are_set_right_without_touching_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("a")
    path.chmod(0o666)
    os.chown(path, 1, 1)
    before = path.stat().st_mtime_ns
    told = converge(files=[{"path": str(path), "content": "a"}])["diff"]
    assert [(d["before"]["mode"], d["after"]["mode"]) for d in told] == [("0666", "0644")]
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns) == (
        0o644,
        0,
        0,
        before,
    )


def test_a_file_that_is_refused_leaves_all_files_as_they_were(tmp_path: Path) -> None:
    files = [
        {"path": str(tmp_path / "first"), "content": "new", "validate": "true"},
        {"path": str(tmp_path / "second"), "content": "new", "validate": REFUSES},
    ]
    for file in files:
        Path(file["path"]).write_text("old")
    before = files_below(tmp_path)
    result = converge(folders=[str(tmp_path / "folder")], files=files)
    assert files_below(tmp_path) == before
    assert result["changed"] is False
    assert result["msg"].startswith(f"{tmp_path}/second: nothing was changed, for `sh -c ")
    assert result["msg"].endswith(f"refuses it: it says no about {tmp_path}/second")


def test_what_is_right_already_is_not_validated_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a")
    wanted = {"path": str(tmp_path / "file"), "content": "a", "validate": REFUSES}
    assert converge(files=[wanted]) == {"changed": False, "units": {}, "diff": []}


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    wanted = {"path": str(tmp_path / "file"), "content": "a", "validate": "no-such-program %s"}
    assert converge(files=[wanted])["msg"] == "no-such-program is not there"


def test_check_mode_shows_lines_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a\nb\n")
    (tmp_path / "gone").write_text("")
    before = files_below(tmp_path)
    wanted: dict[str, Any] = {
        "files": [{"path": str(tmp_path / "file"), "content": "a\nc\n"}],
        "absent": [str(tmp_path / "gone"), str(tmp_path / "never-was")],
    }
    foretold = converge(check=True, **wanted)
    assert foretold["changed"] is True
    assert files_below(tmp_path) == before
    name = str(tmp_path / "file")
    assert foretold["diff"][0] == {
        "before_header": name,
        "after_header": name,
        "before": "a\nb\n",
        "after": "a\nc\n",
    }
    assert converge(**wanted)["diff"] == foretold["diff"]
    assert {name: text for name, (text, _, _) in files_below(tmp_path).items()} == {"file": "a\nc\n"}


def test_a_link_is_replaced_and_what_it_points_at_stays(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("a")
    (tmp_path / "link").symlink_to("target")
    assert converge(files=[{"path": str(tmp_path / "link"), "content": "a"}])["changed"] is True
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "a"


def test_a_draft_of_a_killed_run_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".file.converge").write_text("half of a lo")
    converge(files=[{"path": str(tmp_path / "file"), "content": "a"}])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_in_a_file_s_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    result = converge(files=[{"path": str(tmp_path / "file"), "content": "a"}])
    assert f"{tmp_path}/file is in the way" in result["msg"]


def test_a_setting_that_the_kernel_has_not_is_named_unless_it_may_be_missing(tmp_path: Path) -> None:
    path = str(tmp_path / "x.conf")
    lines = "# no.comment = 1\n-net.no_such.thing = 1\n"
    assert converge(files=[{"path": path, "content": lines}], sysctls=[path]).get("msg") is None
    refused = converge(files=[{"path": path, "content": "net.no_such.thing = 1\n"}], sysctls=[path])
    assert "this kernel has no setting net.no_such.thing" in refused["msg"]


def test_live_settings_are_compared_with_what_would_be_written(tmp_path: Path) -> None:
    path, live = str(tmp_path / "x.conf"), Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()
    other = "0" if live == "1" else "1"
    same = [{"path": path, "content": f"net.ipv4.ip_forward = {live}\n"}]
    assert len(converge(check=True, files=same, sysctls=[path])["diff"]) == 1
    differs = [{"path": path, "content": f"net.ipv4.ip_forward = {other}\n"}]
    told = converge(check=True, files=differs, sysctls=[path])["diff"][1]
    assert (told["before"], told["after"]) == (
        f"net.ipv4.ip_forward = {live}\n",
        f"net.ipv4.ip_forward = {other}\n",
    )


def test_a_word_that_it_does_not_know_is_named() -> None:
    known = "folders, files, absent, sysctls, unnamed, units, notes, owner, manifest"
    assert converge(file=[])["msg"] == f"converge has no option file; it has {known}"


def noted(manifest: Path) -> list[dict[str, Any]]:
    """Return the entries of a manifest."""
    entries: list[dict[str, Any]] = json.loads(manifest.read_text())["entries"]
    return entries


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_change_is_noted_with_what_was_there_before(tmp_path: Path) -> None:
    path, manifest = tmp_path / "folder/file", tmp_path / "state/manifest.json"
    path.parent.mkdir(mode=0o755)
    path.write_text("before")
    path.chmod(0o640)
    given: dict[str, Any] = {"owner": "one", "manifest": str(manifest), "folders": [str(tmp_path / "new/er")]}
    converge(**given, files=[{"path": str(path), "content": "a"}])
    assert stat.S_IMODE(manifest.stat().st_mode) == 0o600
    assert stat.S_IMODE(manifest.parent.stat().st_mode) == 0o700
    before = {"content": base64.b64encode(b"before").decode(), "mode": 0o640, "uid": 0, "gid": 0}
    assert noted(manifest) == [
        {"kind": "folder", "name": str(name), "owners": ["one"], "before": None, "after": ["present"]}
        for name in (tmp_path / "new", tmp_path / "new/er")
    ] + [{"kind": "file", "name": str(path), "owners": ["one"], "before": before, "after": [digest("a")]}]


def test_the_first_value_from_before_is_kept_and_every_value_of_the_lab(tmp_path: Path) -> None:
    path, manifest = tmp_path / "file", tmp_path / "state/manifest.json"
    for owner, text in (("one", "a"), ("one", "b"), ("two", "a")):
        converge(owner=owner, manifest=str(manifest), files=[{"path": str(path), "content": text}])
    (entry,) = noted(manifest)
    assert entry["before"] is None
    assert entry["after"] == [digest("b"), digest("a")]
    assert entry["owners"] == ["one", "two"]


def test_a_change_that_fails_was_noted_before(tmp_path: Path) -> None:
    path, manifest = tmp_path / "no-such-folder/file", tmp_path / "state/manifest.json"
    result = converge(owner="one", manifest=str(manifest), files=[{"path": str(path), "content": "a"}])
    assert result["failed"]
    assert [(entry["name"], entry["before"]) for entry in noted(manifest)] == [(str(path), None)]


def test_nothing_is_noted_where_nothing_changes_or_in_check_mode(tmp_path: Path) -> None:
    manifest = tmp_path / "state/manifest.json"
    given: dict[str, Any] = {"owner": "one", "manifest": str(manifest)}
    files = [{"path": str(tmp_path / "file"), "content": "a"}]
    converge(check=True, **given, files=files)
    assert not manifest.exists()
    converge(files=files)  # without an owner
    converge(**given, files=files)
    assert not manifest.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "nonsense", "[" * 100_000])
def test_a_damaged_manifest_is_named_and_nothing_is_changed(tmp_path: Path, text: str) -> None:
    path, manifest = tmp_path / "file", tmp_path / "manifest.json"
    manifest.write_text(text)
    result = converge(owner="one", manifest=str(manifest), files=[{"path": str(path), "content": "a"}])
    assert result["msg"].startswith(f"{manifest} cannot be read, so nothing was changed: ")
    assert not path.exists()


def test_what_is_removed_is_kept(tmp_path: Path) -> None:
    folder, manifest = tmp_path / "folder", tmp_path / "state/manifest.json"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/file").write_text("precious")
    converge(owner="one", manifest=str(manifest), absent=[str(folder)])
    assert not folder.exists()
    assert [(entry["kind"], Path(entry["name"]).name, entry["after"]) for entry in noted(manifest)] == [
        ("folder", "folder", ["absent"]),
        ("folder", "inner", ["absent"]),
        ("file", "file", ["absent"]),
    ]
    assert base64.b64decode(noted(manifest)[2]["before"]["content"]) == b"precious"


def test_a_setting_that_nobody_names_is_noted_before_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, record, manifest = (
        tmp_path / "proc/net/some",
        tmp_path / "record.json",
        tmp_path / "manifest.json",
    )
    folder.mkdir(parents=True)
    values = {"named": "1", "same": "2", "strange": "3"}
    for name, value in values.items():
        (folder / name).write_text(f"{value}\n")
    before = {f"net/some/{name}": "2" for name in values}
    record.write_text(json.dumps({"was": {"sysctls": before}}))
    text = MODULE.replace('Path("/proc/sys")', f'Path("{tmp_path}/proc")')
    monkeypatch.setitem(globals(), "MODULE", text.replace("/var/lib/mptcp-lab/record.json", str(record)))
    named = [{"path": str(tmp_path / "conf"), "content": "net.some.named = 1\n"}]
    converge(files=named)
    told = converge(
        owner="one", manifest=str(manifest), sysctls=[str(tmp_path / "conf")], unnamed=[str(folder)]
    )
    assert [each["before"] for each in told["diff"]] == ["net.some.strange = 3\n"]
    assert [(folder / name).read_text().strip() for name in values] == ["1", "2", "2"]
    assert noted(manifest) == [
        {"kind": "sysctl", "name": "net/some/strange", "owners": ["one"], "before": "3", "after": ["2"]}
    ]


def _tasks(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every task of a tasks file, including those in blocks."""
    for task in node or []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from _tasks(task.get(part))


def test_every_task_of_a_role_says_on_whose_behalf_it_changes_the_host() -> None:
    found = {}
    for path in sorted(ROOT.glob("roles/*/tasks/*.yml")):
        for task in _tasks(yaml.safe_load(path.read_text())):
            if "converge" in task:
                found[f"{path.relative_to(ROOT)}: {task['name']}"] = "owner" in task["converge"]
    assert len(found) > 8
    assert [name for name, owned in found.items() if not owned] == []
