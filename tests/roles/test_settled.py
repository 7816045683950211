"""Module `settled` on files of this machine: what it writes, what it refuses, what it says it would do."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.roles.golden import ROOT

MODULE = (ROOT / "playbooks/library/settled.py").read_text()
REFUSES = "sh -c 'echo it says no about $0; exit 1' %s"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unsupported: what it writes belongs to root")


def settle(*, check: bool = False, **wanted: Any) -> dict[str, Any]:
    """Run the module as Ansible does: its text, with the arguments in it, on Python's standard input."""
    arguments = json.dumps({**wanted, "_ansible_check_mode": check, "_ansible_diff": True})
    program = MODULE.replace("<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>", arguments)
    done = subprocess.run([sys.executable], input=program, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    result: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == result.get("failed", False)
    return result


def look(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Return content, mode and time of every file."""
    return {
        path.name: (path.read_text(), stat.S_IMODE(path.stat().st_mode), path.stat().st_mtime_ns)
        for path in folder.iterdir()
    }


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_content_mode_and_folder_then_nothing(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "new/file"
    files = [{"path": str(path), "content": "a\n", "mode": f"{mode:04o}", "validate": "grep -q a %s"}]
    assert settle(folders=[str(path.parent)], files=files)["changed"] is True
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("a\n", mode)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert settle(folders=[str(path.parent)], files=files) == {"changed": False, "units": {}, "diff": []}


TEXTS = ('"""', "\\", "'''\\\"", "\\u0041\n", "é\u2028\0", "<<X>>", "")


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_arrives_as_it_is(tmp_path: Path, text: str) -> None:
    settle(files=[{"path": str(tmp_path / "file"), "content": text}])
    assert (tmp_path / "file").read_bytes() == text.encode()


@pytest.mark.parametrize("pipelining", [True, False])
def test_ansible_hands_any_text_over(tmp_path: Path, pipelining: bool) -> None:
    """So that Python reads what it was; and in one go, without a file on the host, where pipelining is on."""
    files = [{"path": str(tmp_path / str(n)), "content": text} for n, text in enumerate(TEXTS)]
    tool = Path(sys.executable).with_name("ansible")
    command = [str(tool), "-vvv", "-i", "here,", "here", "-m", "settled", "-a", json.dumps({"files": files})]
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
    told = settle(files=[{"path": str(path), "content": "a"}])["diff"]
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
    before = look(tmp_path)
    result = settle(folders=[str(tmp_path / "folder")], files=files)
    assert look(tmp_path) == before
    assert result["changed"] is False
    assert result["msg"].startswith(f"{tmp_path}/second: nothing was changed, for `sh -c ")
    assert result["msg"].endswith(f"refuses it: it says no about {tmp_path}/second")


def test_what_is_right_already_is_not_validated_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a")
    wanted = {"path": str(tmp_path / "file"), "content": "a", "validate": REFUSES}
    assert settle(files=[wanted]) == {"changed": False, "units": {}, "diff": []}


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    wanted = {"path": str(tmp_path / "file"), "content": "a", "validate": "no-such-program %s"}
    assert settle(files=[wanted])["msg"] == "no-such-program is not there"


def test_check_mode_shows_lines_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a\nb\n")
    (tmp_path / "gone").write_text("")
    before = look(tmp_path)
    wanted: dict[str, Any] = {
        "files": [{"path": str(tmp_path / "file"), "content": "a\nc\n"}],
        "absent": [str(tmp_path / "gone"), str(tmp_path / "never-was")],
    }
    foretold = settle(check=True, **wanted)
    assert foretold["changed"] is True
    assert look(tmp_path) == before
    name = str(tmp_path / "file")
    assert foretold["diff"][0] == {
        "before_header": name,
        "after_header": name,
        "before": "a\nb\n",
        "after": "a\nc\n",
    }
    assert settle(**wanted)["diff"] == foretold["diff"]
    assert {name: text for name, (text, _, _) in look(tmp_path).items()} == {"file": "a\nc\n"}


def test_a_link_is_replaced_and_what_it_points_at_stays(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("a")
    (tmp_path / "link").symlink_to("target")
    assert settle(files=[{"path": str(tmp_path / "link"), "content": "a"}])["changed"] is True
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "a"


def test_a_draft_of_a_killed_run_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".file.settled").write_text("half of a lo")
    settle(files=[{"path": str(tmp_path / "file"), "content": "a"}])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_in_a_file_s_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    result = settle(files=[{"path": str(tmp_path / "file"), "content": "a"}])
    assert f"{tmp_path}/file is in the way" in result["msg"]


def test_a_setting_that_the_kernel_has_not_is_named_unless_it_may_be_missing(tmp_path: Path) -> None:
    path = str(tmp_path / "x.conf")
    lines = "# no.comment = 1\n-net.no_such.thing = 1\n"
    assert settle(files=[{"path": path, "content": lines}], sysctls=[path]).get("msg") is None
    refused = settle(files=[{"path": path, "content": "net.no_such.thing = 1\n"}], sysctls=[path])
    assert "this kernel has no setting net.no_such.thing" in refused["msg"]


def test_live_settings_are_compared_with_what_would_be_written(tmp_path: Path) -> None:
    path, live = str(tmp_path / "x.conf"), Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()
    other = "0" if live == "1" else "1"
    same = [{"path": path, "content": f"net.ipv4.ip_forward = {live}\n"}]
    assert len(settle(check=True, files=same, sysctls=[path])["diff"]) == 1
    differs = [{"path": path, "content": f"net.ipv4.ip_forward = {other}\n"}]
    told = settle(check=True, files=differs, sysctls=[path])["diff"][1]
    assert (told["before"], told["after"]) == (
        f"net.ipv4.ip_forward = {live}\n",
        f"net.ipv4.ip_forward = {other}\n",
    )


def test_a_word_that_it_does_not_know_is_named() -> None:
    assert (
        settle(file=[])["msg"]
        == "settled knows no file; it knows folders, files, absent, sysctls, unnamed, units"
    )
