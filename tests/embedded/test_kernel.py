"""Test that the lab tries the kernel features that it needs, and reports odd output of `ip` as an error."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mptcp_lab.errors import LabError
from mptcp_lab.inventory import Lab, load, resolve
from mptcp_lab.labs import fabric, kernel
from mptcp_lab.labs import machine_check as doctor
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.executor import LOCAL
from mptcp_lab.labs.lab_paths import LabPaths
from mptcp_lab.paths import ROOT

DOCTOR = ROOT / "mptcp_lab/labs/machine_check.py"


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load(resolve("embedded"))


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of fake tools that is first in PATH."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


def stand_in(tools: Path, name: str, script: str) -> None:
    (tools / name).write_text(f"#!/bin/sh\n{script}\n")
    (tools / name).chmod(0o755)


@pytest.mark.parametrize("answer", ["", "[]", "[{}]", "[{},{},{}]"])
def test_a_machine_without_module_bridge_has_no_bridges(
    tmp_path: Path, lab: Lab, tools: Path, answer: str
) -> None:
    """Simulate a machine after boot, on which the first bridge loads module bridge."""
    stand_in(
        tools,
        "ip",
        f"case \"$*\" in *-json*) echo '{answer}' ;; *-batch*) cat >>'{tmp_path}/made' ;; esac",
    )
    assert fabric._converge_bridges(LabPaths(tmp_path, "test"), lab)
    made = (tmp_path / "made").read_text()
    for segment in lab.segments:
        assert f"link add {segment} type bridge" in made


@pytest.mark.parametrize("answer", ["RTNETLINK answers", "{}", "[1]", '[{"ifindex": 3}]'])
def test_an_answer_that_cannot_be_used_is_one_sentence(tools: Path, answer: str) -> None:
    stand_in(tools, "ip", f"echo '{answer}'")
    with pytest.raises(LabError, match="`ip -n space -json -details link show` printed") as caught:
        LOCAL.ip_json("space", "link", "show")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", [doctor.BRIDGE, doctor.VETH_PAIR, doctor.TBF])
def test_a_module_that_is_not_to_be_had_is_named(lab: Lab, tools: Path, module: doctor.Module) -> None:
    (client, *others) = lab.hosts.values()
    rated = replace(client, nics=(replace(client.nics[0], rate="10mbit"),))
    lab = replace(lab, hosts={host.name: host for host in (rated, *others)})
    kind = module.command.rpartition(" type ")[2].partition(" ")[0]
    if module is doctor.TBF:
        stand_in(tools, "tc", "echo 'Error: Specified qdisc kind is unknown.' >&2; exit 2")
    else:
        stand_in(
            tools,
            "ip",
            f'case "$*" in *"type {kind}"*) echo "Error: Unknown device type." >&2; exit 2 ;; esac',
        )
    with pytest.raises(
        EmbeddedError, match=f"the kernel has no {module.name}, which is needed for"
    ) as caught:
        kernel.require(lab)
    assert "\n" not in str(caught.value)
    assert f"modprobe {module.name}" in str(caught.value)


def test_overlay_that_is_not_to_be_had_is_named(lab: Lab, tools: Path) -> None:
    refuse = "echo \"mount: unknown filesystem type 'overlay'.\" >&2; exit 32"
    stand_in(tools, "mount", f'case "$*" in *lowerdir*) {refuse} ;; esac; exec /bin/mount "$@"')
    with pytest.raises(EmbeddedError, match=r"the kernel has no overlay, .*unknown filesystem type"):
        kernel.require(lab)


def test_nf_tables_that_is_not_to_be_had_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use nfnetlink subsystem 200, which no kernel has, in place of one whose module is missing."""
    monkeypatch.setattr(doctor, "NFT_MSG_GETGEN", 200 << 8 | 16)
    with pytest.raises(EmbeddedError, match=r"the kernel has no nf_tables, .*\(Invalid argument\)"):
        kernel.require(lab)


def test_a_kernel_that_has_all_of_it_is_not_refused(lab: Lab) -> None:
    kernel.require(lab)
    kernel.require(replace(lab, flavour="vm"))


def test_the_doctor_imports_nothing_but_the_standard_library() -> None:
    script = f"import runpy, sys; runpy.run_path({str(DOCTOR)!r}); print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True
    )
    assert "mptcp_lab" not in done.stdout


def test_what_cannot_be_tried_is_not_missing() -> None:
    """Check that a missing tool is no failure, as hosts have their own; a kernel that refuses is one."""
    absent = replace(doctor.BRIDGE, tool="nft-of-nobody")
    assert doctor._try_module(absent).there is None
    refused = replace(doctor.BRIDGE, command="echo no such device >&2; false")
    lines: list[str] = []
    assert doctor.report([doctor._try_module(absent), doctor._try_module(doctor.NF_TABLES)], lines.append)
    assert [line.split()[0] for line in lines] == ["untried", "ok"]
    assert not doctor.report([doctor._try_module(refused)], lines.append)
    assert lines[-1] == "MISSING bridge                      the lab's switch: no such device (CONFIG_BRIDGE)"


@pytest.mark.parametrize(
    ("refused", "name", "options"),
    [
        ("*rule*", "routing tables", "CONFIG_IP_MULTIPLE_TABLES"),
        ("*type\\ bridge*", "bridge", "CONFIG_BRIDGE"),
    ],
)
def test_what_a_lab_cannot_do_without_is_listed_with_its_options(
    lab: Lab, tools: Path, refused: str, name: str, options: str
) -> None:
    stand_in(tools, "ip", f'case "$*" in {refused}) echo "not here" >&2; exit 2 ;; esac')
    lack = next(each for each in kernel.find_lacks(lab) if each.name == name)
    assert lack.needed and options in lack.options and "not here" in str(lack)


def test_what_only_some_checks_need_is_no_obstacle(lab: Lab, tools: Path) -> None:
    stand_in(tools, "tc", "exit 2")
    lack = next(each for each in kernel.find_lacks(lab) if each.name == "sch_netem")
    assert not lack.needed and lack.options == "CONFIG_NET_SCH_NETEM"


def test_a_kernel_without_mptcp_sockets_or_their_list_is_named(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use a protocol that no kernel has in place of MPTCP's."""
    monkeypatch.setattr(doctor, "IPPROTO_MPTCP", 263)
    lacks = {each.name: each for each in kernel.find_lacks(lab)}
    assert lacks["MPTCP sockets"].needed and lacks["mptcp_diag"].why == "No such file or directory"
    assert "CONFIG_INET_MPTCP_DIAG" in lacks["mptcp_diag"].options


def test_the_doctor_names_the_option_that_brings_a_feature(tools: Path) -> None:
    stand_in(tools, "ip", "exit 2")
    assert "(CONFIG_BRIDGE)" in doctor._try_module(doctor.BRIDGE).detail
