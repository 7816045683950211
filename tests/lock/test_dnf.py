"""The role lock with the real rpm and dnf, which write to a mount namespace of their own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mptcp_lab.paths import ROOT

NEEDED = {"dnf": "dnf", "rpmbuild": "rpm", "createrepo_c": "createrepo-c", "unshare": "util-linux"}
#: A mount namespace where what rpm and dnf write goes to memory, and is gone with it. Debian's rpm has its
#: database at home, where dnf does not look.
SCRATCH = """\
set -e
mount -t tmpfs tmpfs /mnt
for place in etc var opt; do
    mkdir -p /mnt/$place/upper /mnt/$place/work
    mount -t overlay overlay -o lowerdir=/$place,upperdir=/mnt/$place/upper,workdir=/mnt/$place/work /$place
done
mkdir -p /etc/yum.repos.d /etc/rpm
echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros
rpm --initdb
"""
SPEC = """\
Name: lab-tool
Version: {version}
Release: 1
{epoch}
Summary: a package of the tests
License: MIT
BuildArch: noarch
%description
A file.
%install
mkdir -p %{{buildroot}}/opt/lab %{{buildroot}}/etc
echo {version} >%{{buildroot}}/opt/lab/tool
echo default >%{{buildroot}}/etc/lab-tool.conf
%files
/opt/lab/tool
%config(noreplace) /etc/lab-tool.conf
"""
FRONT = """\
Name: their-front
Version: 1.0
Release: 1
Summary: a package of somebody else that needs the other
License: MIT
BuildArch: noarch
Requires: lab-tool
%description
No file.
%files
"""
INSTALL = "dnf --assumeyes --quiet install"
PLAY = """\
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: /usr/bin/python3
    lock_packages: {lab-tool.noarch: "{{ version }}"}
    lock_kernel: ""
    lock_packages_ok: true
  module_defaults: {ansible.builtin.dnf: {use_backend: dnf4}} # Ansible goes by the system's name: Debian
  environment: {PATH: "{{ path }}"} # a host where there is no dpkg-query
  tasks:
    - ansible.builtin.include_role: {name: lock}
    - ansible.builtin.include_role: {name: lock, tasks_from: install}
"""
#: What `./lab lock` reads of such a host's packages.
RECORDED = """\
import sys
sys.path.insert(0, "plugins/modules")
import host_record
print(host_record.read_packages())
"""


#: What restore does there about packages, and no more: network and units there are this machine's.
RESTORED = """\
import sys
sys.path.insert(0, "plugins/modules")
import host_record as restore
plan = restore.plan_packages(restore.read_manifest())
print("would go:", plan.names())
outcome = restore.Outcome(apply=True)
restore.restore_packages(plan, outcome)
print("left:", outcome.left)
"""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repository of three versions, a play, and the programs of a host with dnf."""
    lacking = [package for program, package in NEEDED.items() if not shutil.which(program)]
    if lacking or os.geteuid():
        pytest.skip(f"unsupported: {', '.join(lacking) or 'root'} is needed")
    folder = tmp_path_factory.mktemp("dnf")
    for number, (epoch, version) in enumerate((("", "1.0"), ("", "2.0"), ("Epoch: 1", "1.5"))):
        spec = folder / f"{number}.spec"
        spec.write_text(SPEC.format(epoch=epoch, version=version))
        macros = ["--define", f"_topdir {folder}/build{number}", "--define", f"_rpmdir {folder}/repo"]
        subprocess.run(["rpmbuild", "-bb", "--quiet", *macros, str(spec)], check=True, capture_output=True)
        # An epoch is in no file's name.
        (folder / f"repo/noarch/lab-tool-{version}-1.noarch.rpm").rename(folder / f"repo/{number}.rpm")
    spec = folder / "front.spec"
    spec.write_text(FRONT)
    macros = ["--define", f"_topdir {folder}/front", "--define", f"_rpmdir {folder}/repo"]
    subprocess.run(["rpmbuild", "-bb", "--quiet", *macros, str(spec)], check=True, capture_output=True)
    subprocess.run(["createrepo_c", "--quiet", str(folder / "repo")], check=True)
    (folder / "lab.repo").write_text(f"[lab]\nname=lab\nbaseurl=file://{folder}/repo\ngpgcheck=0\n")
    (folder / "play.yml").write_text(PLAY)
    (folder / "bin").mkdir()
    programs = {path.name: path for place in ("/usr/sbin", "/usr/bin") for path in Path(place).iterdir()}
    for name, program in programs.items():
        if not name.startswith(("dpkg", "apt")):
            (folder / "bin" / name).symlink_to(program)
    return folder


def host(
    folder: Path, *versions: str, then: str = RECORDED, first: str = "true", since: str = "true"
) -> subprocess.CompletedProcess[str]:
    """Hold a host to each of these versions of the package in turn; then print what is installed.

    `first` runs before the first, where nothing is installed, and `since` after the last.
    """
    ansible = Path(sys.executable).with_name("ansible-playbook")
    play = f"{ansible} -i localhost, {folder}/play.yml -e path={folder}/bin"
    script = [SCRATCH, f"cp {folder}/lab.repo /etc/yum.repos.d"]
    script += [f"PATH={folder}/bin {first}"]
    script += [f"{play} -e version={version}" for version in versions]
    script += [since]
    script += [f"PATH={folder}/bin python3 -B -c {shlex.quote(then)}"]
    script += ["rpm --query --queryformat 'has %{EPOCH} %{VERSION}\\n' lab-tool", "cat /opt/lab/tool"]
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", "\n".join(script)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")},
    )


def test_just_the_locked_version_is_installed_and_a_downgrade_is_one(scratch: Path) -> None:
    done = host(scratch, "2.0-1", "1.0-1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("{'lab-tool.noarch': '1.0-1'}\nhas (none) 1.0\n1.0\n"), done.stdout


def test_an_epoch_belongs_to_the_version(scratch: Path) -> None:
    done = host(scratch, "1:1.5-1", "1:1.5-1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("{'lab-tool.noarch': '1:1.5-1'}\nhas 1 1.5\n1.5\n"), done.stdout
    first, second = (line for line in done.stdout.splitlines() if "changed=" in line)
    assert "changed=1" in first
    assert (
        "changed=0" in second and "skipped=3" in second
    )  # neither apt nor dnf has anything to install, nor to note


def test_a_version_that_cannot_be_had_is_named_and_nothing_is_installed(scratch: Path) -> None:
    done = host(scratch, "3.0-1")
    told = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert "dnf cannot get: lab-tool.noarch=3.0-1 (there is 1.0-1, 1:1.5-1, 2.0-1)" in told, told
    assert "has " not in done.stdout


def test_restore_removes_what_the_lab_installed(scratch: Path) -> None:
    done = host(scratch, "1.0-1", then=RESTORED)
    assert "would go: ['lab-tool.noarch']\nleft: []\n" in done.stdout, done.stdout + done.stderr
    assert "package lab-tool is not installed" in done.stdout


def test_restore_goes_back_to_the_version_that_was(scratch: Path) -> None:
    done = host(scratch, "2.0-1", then=RESTORED, first=f"{INSTALL} lab-tool-1.0-1")
    assert "would go: ['lab-tool.noarch (1.0-1)']\nleft: []\n" in done.stdout, done.stdout + done.stderr
    assert done.stdout.endswith("has (none) 1.0\n1.0\n"), done.stdout


def test_an_update_since_is_named_and_left_alone(scratch: Path) -> None:
    done = host(
        scratch,
        "2.0-1",
        then=RESTORED,
        first=f"{INSTALL} lab-tool-1.0-1",
        since=f"{INSTALL} lab-tool-1:1.5-1",
    )
    assert "would go: []\n" in done.stdout, done.stdout + done.stderr
    assert "is 1:1.5-1, was 1.0-1 before the lab, which installed 2.0-1; changed since" in done.stdout
    assert done.stdout.endswith("has 1 1.5\n1.5\n"), done.stdout


def test_a_package_by_hand_and_what_it_needs_are_left_alone(scratch: Path) -> None:
    done = host(scratch, "1.0-1", then=RESTORED, since=f"{INSTALL} their-front")
    assert "would go: []\n" in done.stdout, done.stdout + done.stderr
    assert "lab-tool.noarch: needed by their-front.noarch; left alone" in done.stdout
    assert done.stdout.endswith("has (none) 1.0\n1.0\n"), done.stdout


def test_a_package_whose_configuration_was_edited_is_left_alone(scratch: Path) -> None:
    done = host(scratch, "1.0-1", then=RESTORED, since="echo edited >>/etc/lab-tool.conf")
    assert "would go: []\n" in done.stdout, done.stdout + done.stderr
    assert "lab-tool.noarch: /etc/lab-tool.conf is not as the package or the lab left it" in done.stdout
