"""Module `converge` and units of a host: what they need is read off the host, whoever died before."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from mptcp_lab.probe import eventually
from tests.e2e.conftest import BIN, Configured, run_tool

HOST = "server2"
UNITS = ("scratch-a.service", "scratch-b.service")
TAKES = "/etc/scratch/takes-{}"  # by a reload
SCRATCH = "/etc/scratch /etc/systemd/system/scratch-?.service /run/held"
#: A unit that starts at once, and one that waits for somebody to write into a pipe where there is one.
UNIT = """[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=sh -c '[ ! -p /run/held ] || cat /run/held'
ExecStart={start}
ExecReload=true
# {mark}

[Install]
WantedBy=multi-user.target
"""


def wanted(mark: str, start: str = "true", taken: str = "") -> dict[str, Any]:
    """Return what the module is asked for: units that carry the mark, and what they take by a reload."""
    paths = [f"/etc/systemd/system/{name}" for name in UNITS]
    texts = {path: UNIT.format(start=start, mark=mark) for path in paths} | {
        TAKES.format(name): taken for name in UNITS
    }
    return {
        "folders": ["/etc/scratch"],
        "files": [{"path": path, "content": text} for path, text in texts.items()],
        "units": [
            {"names": [name], "restart": [path], "reload": [TAKES.format(name)]}
            for name, path in zip(UNITS, paths, strict=True)
        ],
    }


def command(lab: Configured, given: dict[str, Any], *arguments: str) -> list[str]:
    ansible = [
        str(BIN / "ansible"),
        "-i",
        str(lab.own.folder),
        HOST,
        "-m",
        "converge",
        "-a",
        json.dumps(given),
    ]
    return [*ansible, *arguments]


def converge(lab: Configured, given: dict[str, Any], *arguments: str) -> tuple[dict[str, Any], str]:
    """Run the module by Ansible; return its result, and all that was printed."""
    printed = run_tool(command(lab, given, *arguments)).stdout
    return yaml.safe_load(printed.rpartition("=>")[2]), printed


def started(lab: Configured, unit: str) -> str:
    return lab.own.ssh(HOST, f"systemctl show --timestamp=us --property=ActiveEnterTimestamp {unit}")


@pytest.fixture
def units(configured: Configured) -> Iterator[Configured]:
    """A host with both units, settled and running."""
    result, printed = converge(configured, wanted("one"))
    try:
        assert result["units"] == dict.fromkeys(UNITS, "enable, start"), printed
        assert converge(configured, wanted("one"))[0]["changed"] is False
        yield configured
    finally:
        configured.own.ssh_may_fail(HOST, f"systemctl disable --now {' '.join(UNITS)}; rm -rf {SCRATCH}")
        configured.own.ssh(HOST, "systemctl daemon-reload")


def test_a_restart_or_a_reload_and_check_mode_says_which(units: Configured) -> None:
    for given, what in ((wanted("one", taken="new"), "reload"), (wanted("two", taken="new"), "restart")):
        before = started(units, UNITS[0])
        foretold, printed = converge(units, given, "--check", "--diff")
        assert foretold["units"] == dict.fromkeys(UNITS, what)
        assert f"{UNITS[0]}: {what}" in printed
        assert started(units, UNITS[0]) == before
        done, _ = converge(units, given)
        assert done["units"] == foretold["units"]
        assert (started(units, UNITS[0]) == before) == (what == "reload")
        assert converge(units, given)[0] == {**foretold, "changed": False, "units": {}}


def test_a_unit_that_runs_from_a_file_that_is_gone_is_restarted(units: Configured) -> None:
    """As nginx, which was built on the host and is the package's again: its program was removed."""
    given = wanted("one")
    for unit in given["units"]:
        unit["reload"] = []
    assert converge(units, given)[0]["units"] == {}, "a file that is as it was loaded needs nothing"
    del given["files"][2:]
    units.own.ssh(HOST, f"rm {' '.join(map(TAKES.format, UNITS))}")
    assert converge(units, given)[0]["units"] == dict.fromkeys(UNITS, "restart")
    assert converge(units, given)[0]["changed"] is False


def test_only_look_says_it_and_leaves_the_unit_alone(units: Configured) -> None:
    before = started(units, UNITS[0])
    given = wanted("two")
    for unit in given["units"]:
        unit["report_only"] = True
    assert converge(units, given)[0]["units"] == dict.fromkeys(UNITS, "restart")
    assert started(units, UNITS[0]) == before


def test_what_a_killed_run_left_undone_is_done_by_the_next(units: Configured) -> None:
    """Killed while it waits for the first unit: both files are new, the second unit runs with the old one."""
    own = units.own
    own.ssh(HOST, "mkfifo /run/held")
    before = started(units, UNITS[1])
    with subprocess.Popen(command(units, wanted("two")), stdout=subprocess.DEVNULL) as play:
        state = f"systemctl show --property=ActiveState --value {UNITS[0]}"
        eventually(lambda: own.ssh(HOST, state).strip(), until=lambda now: now == "activating", within=60)
        own.ssh(HOST, "pkill -9 -f '^/usr/bin/python3$'")
        play.wait()
    assert started(units, UNITS[1]) == before
    own.ssh(HOST, "echo >/run/held; rm /run/held")
    eventually(lambda: own.ssh(HOST, state).strip(), until=lambda now: now == "active", within=60)
    assert converge(units, wanted("two"))[0]["units"] == {UNITS[1]: "restart"}
    assert started(units, UNITS[1]) != before


def test_a_unit_that_does_not_start_says_why(units: Configured) -> None:
    result, printed = converge(units, wanted("two", start="sh -c 'echo because of this; exit 1'"))
    assert "FAILED" in printed
    assert result["msg"].startswith(f"{UNITS[0]} does not start. Its last words:\n")
    assert "because of this" in result["msg"]
    assert "Traceback" not in result["msg"]


def test_a_unit_that_failed_too_often_starts_once_its_configuration_is_good(units: Configured) -> None:
    """After five failures within ten seconds systemd refuses the unit, good or not."""
    result, _ = converge(units, wanted("two", start="sh -c 'exit 1'"))
    assert "does not start" in result["msg"]
    units.own.ssh_may_fail(HOST, f"for i in 1 2 3 4 5 6; do systemctl start {UNITS[0]}; done")
    said = units.own.ssh(HOST, f"journalctl --quiet --lines=3 --unit={UNITS[0]}")
    assert "Start request repeated too quickly" in said
    assert "changed" in converge(units, wanted("two"))[1]
    assert units.own.ssh(HOST, f"systemctl is-active {UNITS[0]}").strip() == "active"


def test_a_file_that_was_changed_and_changed_back_is_loaded_again(units: Configured) -> None:
    """Its time is older than the unit's start, and its content is what it was: the unit runs with another."""
    path = f"/etc/systemd/system/{UNITS[0]}"
    units.own.ssh(
        HOST,
        f"cp -p {path} /root/kept; sed -i s/one/other/ {path}; systemctl daemon-reload;"
        f" systemctl restart {UNITS[0]}; mv /root/kept {path}; systemctl daemon-reload",
    )
    before = started(units, UNITS[0])
    assert converge(units, wanted("one"))[0]["units"] == {UNITS[0]: "restart"}
    assert started(units, UNITS[0]) != before
    assert converge(units, wanted("one"))[0]["changed"] is False


@pytest.mark.parametrize("date", ["2001-01-01", "2099-01-01"])
def test_the_clock_decides_nothing(units: Configured, date: str) -> None:
    """A file written under a clock that was wrong: taken up, and then at rest, whatever its time says."""
    taken = TAKES.format(UNITS[0])
    given = wanted("one", taken="new")
    for unit in UNITS:
        units.own.ssh(HOST, f"printf new >{TAKES.format(unit)}; touch -d {date} {TAKES.format(unit)}")
    assert units.own.ssh(HOST, f"date -r {taken} +%F").strip() == date
    assert converge(units, given)[0]["units"] == dict.fromkeys(UNITS, "reload")
    assert converge(units, given)[0]["changed"] is False


def test_a_restart_by_somebody_else_is_recognised(units: Configured) -> None:
    """A run was killed between the file and the restart; somebody restarted the unit, which has it now."""
    given = wanted("two")
    own = units.own
    own.ssh(HOST, "mkfifo /run/held")
    with subprocess.Popen(command(units, given), stdout=subprocess.DEVNULL) as play:
        state = f"systemctl show --property=ActiveState --value {UNITS[0]}"
        eventually(lambda: own.ssh(HOST, state).strip(), until=lambda now: now == "activating", within=60)
        own.ssh(HOST, "pkill -9 -f '^/usr/bin/python3$'")
        play.wait()
    own.ssh(HOST, f"systemctl kill -s KILL {UNITS[0]}; rm /run/held; systemctl restart {' '.join(UNITS)}")
    before = started(units, UNITS[0])
    assert converge(units, given)[0]["units"] == {UNITS[1]: "restart"}
    assert started(units, UNITS[0]) == before


def test_live_state_that_nobody_knows_is_refused(units: Configured) -> None:
    given = wanted("one")
    given["units"][0]["live"] = {"weather": ["fine"]}
    refusal = converge(units, given)[0]["msg"]
    assert "converge compares no live weather; it compares links, addresses," in refusal


def test_live_state_that_does_not_come_back_fails_and_is_named(units: Configured) -> None:
    given = wanted("one")
    given["units"][0]["live"] = {"listeners": ["tcp 127.0.0.1:9"]}
    result, printed = converge(units, given)
    assert "FAILED" in printed
    assert result["msg"] == f"{UNITS[0]} was restarted, and still: missing listeners: tcp 127.0.0.1:9"
