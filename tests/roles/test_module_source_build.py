"""Test when module `source_build` builds a program, and what is left when a build fails."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.roles.test_modules import load


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    found = load("source_build")
    monkeypatch.setattr(found, "INSTALLED", tmp_path / "compiler-packages")
    monkeypatch.setattr(found.shutil, "which", lambda name: f"/usr/bin/{name}")
    return found


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """Return options for a program of one line, and write its source."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as stream:
        info, content = tarfile.TarInfo("proxy-1.0/proxy.sh"), b"echo 1.0 $options\n"
        info.size = len(content)
        stream.addfile(info, io.BytesIO(content))
    archive = tmp_path / "source.tar.gz"
    archive.write_bytes(packed.getvalue())
    return {
        "program": str(tmp_path / "local/sbin/proxy"),
        "prefix": str(tmp_path / "local"),
        "archive": str(archive),
        "sha256": hashlib.sha256(packed.getvalue()).hexdigest(),
        "commands": 'sed "s/[$]options/$*/" proxy.sh >built; echo a message of the compiler',
        "product": "built",
        "options": ["fast"],
        "packages": ["gcc"],
    }


class Apt:
    """The package manager and the sandbox of a host, as far as the module calls them."""

    def __init__(self, module: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.listed = "Inst gcc (12 Debian) \nInst libc6 [2.36] (2.37)\n"
        self.folder, self.start = folder, subprocess.run
        monkeypatch.setattr(module, "run", self.run)
        monkeypatch.setattr(module.subprocess, "run", self.sandbox)

    def run(self, *argv: str) -> str:
        """Answer as apt-get does."""
        self.calls.append(tuple(word for word in argv[1:] if not word.startswith("-")))
        return self.listed if "--simulate" in argv else ""

    def sandbox(self, argv: list[str], **settings: Any) -> Any:
        """Run what systemd-run would run, in a folder of its own."""
        if argv[0] == "systemctl":
            return subprocess.CompletedProcess(argv, 0)
        self.folder.mkdir()
        return self.start(argv[argv.index("sh") :], cwd=self.folder, **settings)


@pytest.fixture
def apt(module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apt:
    return Apt(module, tmp_path / "sandbox", monkeypatch)


def test_a_program_is_built_and_the_compiler_purged(
    module: ModuleType, apt: Apt, given: dict[str, Any]
) -> None:
    build = module.options(given)
    assert not build.is_built()
    module.build_program(build)
    assert Path(build.program).read_text() == "echo 1.0 fast\n"
    assert Path(build.program).stat().st_mode & 0o777 == 0o755
    assert build.is_built()
    assert apt.calls == [("install", "gcc"), ("install", "gcc"), ("purge", "gcc")]  # not libc6: it was there
    assert not module.INSTALLED.exists()
    assert not Path(build.archive).exists()


@pytest.mark.parametrize(
    "change", [{"sha256": 64 * "0"}, {"options": ["slow"]}, {"commands": "true"}, {"product": "other"}]
)
def test_another_source_or_other_options_build_anew(
    module: ModuleType, apt: Apt, given: dict[str, Any], change: dict[str, Any]
) -> None:
    module.build_program(module.options(given))
    assert module.options(given).is_built()
    assert not module.options({**given, **change}).is_built()


def test_a_program_that_is_gone_is_built_anew(module: ModuleType, apt: Apt, given: dict[str, Any]) -> None:
    module.build_program(module.options(given))
    Path(given["program"]).unlink()
    assert not module.options(given).is_built()


def test_a_build_that_fails_shows_its_last_lines_and_leaves_no_compiler(
    module: ModuleType, apt: Apt, given: dict[str, Any]
) -> None:
    build = module.options({**given, "commands": "seq 30; echo proxy.c:1: error; false; echo unreachable"})
    with pytest.raises(module.Refused) as refused:
        module.build_program(build)
    assert str(refused.value).startswith("proxy cannot be built. The last lines of the build:\n12\n")
    assert str(refused.value).endswith("\nproxy.c:1: error")
    assert apt.calls[-1] == ("purge", "gcc")
    assert not Path(build.program).exists()
    assert not Path(f"{build.program}.new").exists()
    assert not build.is_built()


def test_packages_of_a_killed_build_are_purged(module: ModuleType, apt: Apt, given: dict[str, Any]) -> None:
    module.build_program(module.options(given))
    module.INSTALLED.write_text("gcc\ncpp\n")
    apt.calls.clear()
    module.build_program(module.options(given))
    assert apt.calls == [("purge", "cpp", "gcc")]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"packages_ok": "no"}, "gcc would be installed, and the host is marked lab_owned: false; set"),
        ({"sha256": 64 * "0"}, "not 0000"),
    ],
)
def test_a_host_is_left_as_it_is_where_a_build_is_refused(
    module: ModuleType, apt: Apt, given: dict[str, Any], change: dict[str, Any], error: str
) -> None:
    with pytest.raises(module.Refused, match=error):
        module.build_program(module.options({**given, **change}))
    assert ("purge", "gcc") not in apt.calls
    assert not Path(given["program"]).exists()


def test_a_folder_that_is_not_the_labs_is_refused(
    module: ModuleType, apt: Apt, given: dict[str, Any]
) -> None:
    Path(given["prefix"]).mkdir()
    with pytest.raises(module.Refused, match="local is there and not the lab's; move it away"):
        module.build_program(module.options(given))


def test_packages_that_are_to_stay_stay(module: ModuleType, apt: Apt, given: dict[str, Any]) -> None:
    module.build_program(module.options({**given, "keep_packages": True}))
    assert apt.calls == [("install", "gcc"), ("install", "gcc")]
    assert not module.INSTALLED.exists()


def test_a_sandbox_that_does_not_start_is_a_failure(
    module: ModuleType, apt: Apt, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = subprocess.CompletedProcess[bytes]([], 0, b"", b"")
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: nothing)
    with pytest.raises(module.Refused, match="see `journalctl -u mptcp-lab-build"):
        module.build_program(module.options(given))
    assert not module.options(given).is_built()
