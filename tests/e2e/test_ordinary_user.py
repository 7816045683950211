"""An ordinary user with sudo instead of root: the playbooks, with and without a password, and the suite."""

from __future__ import annotations

import os
import pty
import secrets
import select
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from mptcp_lab.labs.command import run
from mptcp_lab.paths import ROOT
from tests.e2e.conftest import BIN, Configured, environment, run_tool
from tests.labs import OwnLab

pytestmark = pytest.mark.long

USER = "lab-user"
PROMPT = "BECOME password:"
#: The user, on every host, with root's SSH key; the password comes by standard input.
ADD = f"""
useradd --create-home --shell /bin/sh {USER}
chpasswd
cp -r /root/.ssh /home/{USER}/ && chown -R {USER}: /home/{USER}/.ssh
"""
FREE = f"echo '{USER} ALL=(root) NOPASSWD: ALL' >/etc/sudoers.d/{USER}"
ASKED = f"echo '{USER} ALL=(root) ALL' >/etc/sudoers.d/{USER}"
#: Ansible keeps its connections, and so processes of the user, for a minute: they end first.
REMOVE = f"""
rm -f /etc/sudoers.d/{USER}
id {USER} >/dev/null 2>&1 || exit 0
timeout 20 sh -c 'while pkill -KILL -u {USER}; do sleep 0.1; done'
userdel --remove {USER}
"""


class AsUser(Configured):
    """The configured lab, reached as the ordinary user."""

    def everywhere(self, command: str, text: str = "") -> None:
        """Run a command as root on every host."""
        config = str(self.own.paths.state / "ssh_config")
        for host in self.own.lab.hosts:
            run("ssh", "-F", config, host, command, text=text)


@pytest.fixture
def password() -> str:
    return secrets.token_urlsafe(16)


@pytest.fixture
def as_user(configured: Configured, tmp_path: Path, password: str) -> Iterator[AsUser]:
    """The same lab under an inventory that logs in as the user, who must give the password."""
    folder = tmp_path / "as-user"
    run("cp", "-r", str(configured.own.folder), str(folder))
    variables = folder / "group_vars/all.yml"
    document = yaml.safe_load(variables.read_text())
    variables.write_text(yaml.safe_dump({**document, "ansible_user": USER, "ansible_become": True}))
    lab = AsUser(OwnLab(folder, configured.own.paths), configured.results, numbers=configured.numbers)
    try:
        lab.everywhere(f"set -e; {ADD}", f"{USER}:{password}\n")
        lab.everywhere(ASKED)
        yield lab
    finally:
        lab.everywhere(REMOVE)


@contextmanager
def watched(secret: str) -> Iterator[list[str]]:
    """Look, again and again, for a secret in what `ps` shows of all processes, the hosts' too."""
    seen: list[str] = []
    over = threading.Event()

    def snapshot() -> None:
        while not over.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes()
                except OSError:  # ended meanwhile
                    continue
                if secret.encode() in line:
                    seen.append(line.decode(errors="replace"))

    watcher = threading.Thread(target=snapshot)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def typed(command: list[str], answer: str) -> tuple[int, str]:
    """Run a command on a terminal, answer its prompt, and return its exit code and what it printed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(command[0], command, environment())
    printed = b""
    answered = False
    while select.select([terminal], [], [], 600)[0]:
        try:
            printed += os.read(terminal, 65536)
        except OSError:  # its end is closed: it has ended
            break
        if not answered and PROMPT.encode() in printed:
            os.write(terminal, f"{answer}\n".encode())
            answered = True
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), printed.decode()


def files_with(secret: str, *folders: Path) -> list[str]:
    """Return the files below folders that hold a secret."""
    done = run_tool(["grep", "-rlF", secret, *map(str, folders)])
    return done.stdout.split()


def test_playbooks_take_a_password_and_keep_it_nowhere(
    configured: Configured, as_user: AsUser, password: str
) -> None:
    """One host is taken back and configured again by who has to say a password for it."""
    playbook = [str(BIN / "ansible-playbook"), "-i", str(as_user.own.folder), "playbooks/restore.yml"]
    with watched(password) as seen:
        code, restored = typed([*playbook, "--limit=server2", "--ask-become-pass", "-v"], password)
        assert code == 0, restored
        assert "differences, named above" in restored  # the user came since the record
        again, configured_again = typed(as_user.command("--ask-become-pass", "-v"), password)
    assert again == 0, configured_again
    assert "changed=0" in configured_again
    assert configured.own.ssh("server2", "systemctl is-active mptcp-lab-origin@origin").strip() == "active"
    assert seen == []
    assert password not in restored + configured_again
    places = (ROOT / ".lab", as_user.results, as_user.own.folder, Path.home() / ".ansible")
    assert files_with(password, *(paths for paths in places if paths.exists())) == []


def test_playbooks_and_suite_run_as_a_user_with_sudo(as_user: AsUser) -> None:
    as_user.everywhere(FREE)
    as_user.play("--limit=server2,localhost")
    run = as_user.suite("--claim=DIRECT-3", "--claim=DIRECT-7", "--claim=STATE-2")
    assert run.code == 0, run.output
    assert {run.verdicts()["DIRECT-3"], run.verdicts()["DIRECT-7"]} == {"pass"}, run.output


def test_a_password_that_nobody_gives_is_one_sentence_of_advice(as_user: AsUser) -> None:
    run = as_user.suite("--claim=DIRECT-3")
    assert run.code == 4
    assert f"{USER} cannot become root (a password is required)" in run.output
    assert "NOPASSWD" in run.output
    assert "Traceback" not in run.output
    done = subprocess.run(
        as_user.command(), capture_output=True, text=True, cwd=ROOT, env=environment(), check=False
    )
    assert done.returncode != 0
    assert "Missing sudo password" in done.stdout
