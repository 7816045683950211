"""lab.yml on real hosts: converges, predicts its changes in check mode, survives reboots."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from mptcp_lab.labs.containers import hosts
from mptcp_lab.paths import ROOT
from mptcp_lab.probe import eventually
from tests.e2e.conftest import BIN, Configured, environment, run_tool, suite_run
from tests.labs import own_lab

#: In the recap, of every host but this machine.
CHANGED = re.compile(r"^(?!localhost ).*changed=(\d+)", re.MULTILINE)


def changes(printed: str) -> set[str]:
    return set(CHANGED.findall(printed))


def changed_tasks(printed: str) -> list[str]:
    """Return the tasks that changed something on a host, in order."""
    task, found = "", []
    for line in printed.splitlines():
        if line.startswith("TASK ["):
            task = line.removeprefix("TASK [").rstrip("* ").rstrip("]")
        elif line.startswith("changed: "):
            found.append(task)
    return found


def test_first_run_changes_every_host(configured: Configured) -> None:
    assert "0" not in changes(configured.first_play)


def test_second_run_changes_nothing(configured: Configured) -> None:
    """The first run brings back what earlier tests left: units that were restarted by hand."""
    configured.play()
    assert changes(configured.play()) == {"0"}


def test_check_mode_is_silent_on_a_converged_lab(configured: Configured) -> None:
    assert changes(configured.play("--check", "--diff")) == {"0"}


def test_check_mode_says_what_a_run_would_do_and_touches_nothing(configured: Configured) -> None:
    """One setting of one template changed: that line, the reload that follows from it, and no more."""
    read = "sha256sum /etc/haproxy/haproxy.cfg; systemctl show --property=StateChangeTimestamp haproxy"
    before = configured.own.ssh("proxy1", read)
    printed = configured.play("--check", "--diff", "--limit=proxy1", "-e", "haproxy_timeout_connect=6000")
    assert [line for line in printed.splitlines() if re.match(r"[+-]\s", line)] == [
        "-\ttimeout connect 5000",
        "+\ttimeout connect 6000",
    ]
    assert [task.rsplit(" : ")[-1] for task in changed_tasks(printed)] == [
        "Write drop-in and configuration, and run the service with them",
    ]
    assert "haproxy.service: reload\n" in printed
    assert configured.own.ssh("proxy1", read) == before


def test_nothing_is_installed_on_hosts_of_others_without_consent(configured: Configured) -> None:
    """Refused in one sentence, in check mode too; where nothing is missing, nothing needs consent."""
    command = [str(BIN / "ansible-playbook"), "-i", str(configured.own.folder), "playbooks/proxies.yml"]
    command += ["--check", "--limit=proxy1", "-e"]
    present = run_tool([*command, '{"lab_owned": false}'])
    assert (present.returncode, changes(present.stdout)) == (0, {"0"}), present.stdout
    missing = run_tool([*command, '{"lab_owned": false, "haproxy_packages": ["haproxy", "mptcpd"]}'])
    assert missing.returncode != 0
    said = " ".join(missing.stdout.split())
    assert (
        "proxy1: haproxy, mptcpd, mptcpize would be installed, and the host is marked lab_owned: false"
        in said
    )
    assert "set lab_packages_ok: true to allow it" in said


def test_a_broken_configuration_is_refused_and_the_old_one_stays(
    configured: Configured, tmp_path: Path
) -> None:
    """The real binary validates a rendered file before it replaces the old one."""
    before = configured.own.ssh("proxy1", "cat /etc/haproxy/haproxy.cfg")
    template = tmp_path / "haproxy.cfg.j2"
    right = (ROOT / "templates/haproxy.cfg.j2").read_text()
    template.write_text(right.replace("{{ haproxy_timeout_connect | mptcp.lab.one_word }}", "soon"))
    done = run_tool(configured.command("--limit=proxy1", "-e", f"haproxy_template={template}"))
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert "/etc/haproxy/haproxy.cfg: nothing was changed, for `haproxy -c -f haproxy.cfg` refuses it" in said
    assert "unexpected character" in said
    assert configured.own.ssh("proxy1", "cat /etc/haproxy/haproxy.cfg") == before
    assert configured.own.ssh("proxy1", "systemctl is-active haproxy").strip() == "active"


def test_every_setting_survives_a_reboot(configured: Configured) -> None:
    for host in ("client", "server1"):
        before = configured.own.ssh(host, "cat /proc/sys/kernel/random/boot_id")
        configured.own.ssh_may_fail(host, "reboot")
        eventually(
            lambda host=host: configured.own.ssh_may_fail(host, "cat /proc/sys/kernel/random/boot_id"),
            until=lambda now, before=before: now not in ("", before),
            within=30,
            what=f"{host} back with a new boot id",
        )
        configured.own.ssh_may_fail(host, "systemctl is-system-running --wait")
    run = configured.suite("--claim=DIRECT-3", "--claim=STATE-2")
    assert run.verdicts() == {"DIRECT-3": "pass", "STATE-2": "pass"}, run.output


def test_a_host_that_vanishes_in_a_call_is_named_inconclusive(configured: Configured) -> None:
    """Killed while a check has a connection to it: inconclusive, exit code 4, the host named."""
    folder = configured.results_folder()
    command = configured.suite_command(folder, "--claim=PROXY-5*preload*", "--claim=GATEWAY-1")
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        connections = "ss -Htn state established sport = :7000"
        eventually(lambda: configured.own.ssh_may_fail("server2", connections), until=bool, within=60)
        hosts.stop(configured.own.paths, ["server2"])
        output, _ = process.communicate(timeout=120)
    run = suite_run(process.returncode, output, folder)
    configured.own.up()
    configured.play("--limit=server2")  # so that a later test finds nothing to change there
    assert run.code == 4, output
    assert set(run.verdicts().values()) == {"inconclusive"}
    assert "server2" in output
    assert "Traceback" not in output


def test_a_lab_that_is_down_ends_with_4_and_the_next_command(tmp_path: Path) -> None:
    """A lab that was never up leaves as little as one that was taken down: tests/embedded/ proves that."""
    lab = Configured(own_lab(tmp_path / "a lab", "test-down"), tmp_path / "results")
    run = lab.suite("--claim=DIRECT-3")
    assert run.code == 4
    assert "./lab up" in run.output
    assert "Traceback" not in run.output
