"""Download packages from Debian while a test runs: by apt, which checks signatures, with separate state."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from mptcp_lab.labs.command import run
from mptcp_lab.labs.containers import recipe
from mptcp_lab.labs.containers.rootfs import index

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Debian:
    """apt for the hosts' suite in a folder; the machine's own apt is left alone."""

    folder: Path

    def apt(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run apt-get with this folder's lists, status and cache; return what it printed."""
        own = {
            "Dir::State": "state",
            "Dir::State::status": "status",
            "Dir::Cache": "cache",
            "Dir::Etc": "etc",
        }
        options = [f"-o{name}={self.folder / path}" for name, path in own.items()]
        command = ["apt-get", "-qq", "--yes", "--no-install-recommends", *options, *arguments]
        done = subprocess.run(command, check=True, cwd=cwd, capture_output=True, text=True, timeout=300)
        return done.stdout

    def prepare(self, status: str) -> None:
        """Lay down the lists for a host whose packages are these (a dpkg status file)."""
        for name in ("state/lists/partial", "cache/archives/partial", "etc/preferences.d"):
            (self.folder / name).mkdir(parents=True)
        mirror = recipe.mirror() or machines_mirror()
        (self.folder / "status").write_text(status)
        (self.folder / "etc/sources.list").write_text(
            "".join(
                f"{kind} [signed-by={KEYRING}] {mirror} {recipe.SUITE} main\n" for kind in ("deb", "deb-src")
            )
        )
        self.apt("update")

    def source(self, package: str) -> tuple[Path, str]:
        """Return upstream's tarball of a source package, and the SHA-256 that the signed list gives it."""
        place = self.folder / "source"
        place.mkdir()
        only = ("--tar-only", "source", package)
        # 'ADDRESS' NAME SIZE SHA256:DIGEST
        _, name, _, digest = self.apt("--print-uris", *only, cwd=place).split()
        self.apt("--download-only", *only, cwd=place)
        return place / name, digest.removeprefix("SHA256:")

    def repository(self, *packages: str) -> Path:
        """Return a flat repository of packages and what the host lacks for them."""
        self.apt("--download-only", "install", *packages)
        place = self.folder / "cache/archives"
        index(place, recipe.SUITE)
        return place


def machines_mirror() -> str:
    """Return the mirror of Debian that this machine's own apt uses."""
    wanted = ("--format", "$(REPO_URI)", "Origin: Debian", "Label: Debian")
    found = run("apt-get", "indextargets", *wanted).split()
    assert found, "this machine's apt has no Debian mirror; name one in MPTCP_LAB_MIRROR"
    return found[0]


def offer(ssh_config: Path, host: str, repository: Path) -> None:
    """Give a host's apt a repository."""
    packed = subprocess.Popen(
        ["tar", "-C", str(repository), "-c", "--exclude=partial", "."], stdout=subprocess.PIPE
    )
    unpack = (
        "mkdir -p /srv/offered && tar -C /srv/offered -x && "
        "echo 'deb [trusted=yes] file:/srv/offered ./' >/etc/apt/sources.list.d/offered.list"
    )
    with packed:
        subprocess.run(["ssh", "-F", str(ssh_config), host, unpack], stdin=packed.stdout, check=True)


def take_back(ssh_config: Path, host: str) -> None:
    """Take the repository from the host's apt."""
    run(
        "ssh",
        "-F",
        str(ssh_config),
        host,
        "rm -rf /srv/offered /etc/apt/sources.list.d/offered.list; apt-get -qq update",
    )
