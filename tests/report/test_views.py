from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from mptcp_lab.paths import ROOT
from mptcp_lab.report import html, junit, svg
from mptcp_lab.report import timeline as timelines
from mptcp_lab.report.__main__ import main
from mptcp_lab.report.terminal import check_line, paint, summary
from mptcp_lab.report.timeline import timeline
from mptcp_lab.report.topology import service_lines, topology
from mptcp_lab.results import result as results
from mptcp_lab.results.causes import Cause
from mptcp_lab.results.result import Evidence, Result
from mptcp_lab.results.verdict import Ending
from tests.report.conftest import LAB, TIMELINE, an_attempt

SVG_TEXT = re.compile(r"<text[^>]*>([^<]*)</text>")


class Page(HTMLParser):
    """The references of a page, and whether its elements are closed in order."""

    VOID = frozenset({"meta", "link", "br", "img", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.open_checks: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag == "details" and "open" in found:
            self.open_checks.append(found.get("id") or "")
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def test_the_page_is_whole_and_self_contained(run: Result, tmp_path: Path) -> None:
    page = Page(html.render(run, tmp_path))
    assert page.stack == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    files = [link for link in page.links if not link.startswith("#")]
    assert files
    for link in files:
        assert (tmp_path / link).is_file(), link
    assert page.tags.count("svg") == 3  # the lab, what is shown first, and the same where its check is
    assert page.open_checks == ["PROXY-1[haproxy]"]


def test_the_page_begins_with_the_picture_of_a_path_that_is_lost(run: Result, tmp_path: Path) -> None:
    text = html.render(run, tmp_path)
    assert text.index("the connection lives") < text.index('id="DIRECT-7"')
    assert 'href="#DIRECT-7"' in text
    without = replace(run, checks=tuple(c for c in run.checks if c.case != "DIRECT-7"))
    assert "the connection lives" not in html.render(without, tmp_path)


def test_causes_are_wrapped_and_have_a_next_step_if_one_has(run: Result, tmp_path: Path) -> None:
    cause = Cause("net.mptcp.enabled is 0", "client", "sysctl net.mptcp.enabled=1")
    failed = replace(run.checks[2], diagnosis=cause)
    text = html.render(replace(run, checks=(failed,)), tmp_path)
    assert '<td class="wide">client: net.mptcp.enabled is 0</td><td class="wide">sysctl ' in text
    known = replace(run.checks[1], known="the kernel chooses another port")
    text = html.render(replace(run, checks=(known,)), tmp_path)
    assert '<td class="wide">known deviation of this kernel: the kernel chooses another port</td>' in text
    assert "<th>next</th>" not in text


def test_the_page_escapes_what_others_wrote(run: Result, tmp_path: Path) -> None:
    text = html.render(run, tmp_path)
    assert "<script>" not in text
    assert "rack &lt;1&gt;" in text
    assert "&lt;script&gt;" in text
    assert "cable &lt;pulled&gt;" in text
    assert "proxy says &lt;b&gt;hello&lt;/b&gt;" in text


def test_the_page_says_what_is_missing_and_what_is_damaged(run: Result, tmp_path: Path) -> None:
    (tmp_path / "evidence" / "DIRECT-7" / "bytes.json").write_text('{"series": {"path1": [[')
    text = html.render(run, tmp_path)
    assert "Cannot be shown: evidence/DIRECT-7/gone.gz" in text
    assert "Cannot be shown: evidence/DIRECT-7/bytes.json (damaged)" in text


def test_the_page_reads_nothing_outside_the_run(run: Result, tmp_path: Path) -> None:
    (tmp_path / "private.txt").write_text("private")
    inner = tmp_path / "run"
    inner.mkdir()
    stolen = an_attempt(run.checks[0].attempts[0].outcome)
    stolen = replace(stolen, evidence=(results.Evidence("x", "text", "../private.txt"),))
    spoilt = replace(run, checks=(replace(run.checks[0], attempts=(stolen,)),))
    text = html.render(spoilt, inner)
    assert ">private<" not in text
    assert "Cannot be shown: ../private.txt" in text


def test_both_tries_are_on_the_page(run: Result, tmp_path: Path) -> None:
    assert "The try before it, 0.41 s: breached" in html.render(run, tmp_path)


def test_a_run_without_checks_has_a_page(run: Result, tmp_path: Path) -> None:
    page = Page(
        html.render(
            replace(run, checks=(), not_run=(), lab={"name": "x", "source": "", "segments": [], "hosts": []}),
            tmp_path,
        )
    )
    assert page.stack == []


def test_the_topology_shows_hosts_segments_and_addresses() -> None:
    picture = topology(LAB)
    ET.fromstring(picture)
    words = SVG_TEXT.findall(picture)
    assert words[:3] == ["path1", "path2", "core"]
    for word in (
        "client",
        "198.18.1.10",
        "2001:db8:1::10",
        "eth1 100mbit",
        "eth2 (down)",
        "origin TCP",
        "7000",
    ):
        assert word in words
    assert picture.count("<circle") == 2


def test_services_of_one_engine_and_method_share_their_lines() -> None:
    services = [
        {"engine": "haproxy", "mptcp": "preload", "port": port}
        for port in (7000, 7001, 7002, 7003, 7010, 7011, 7050, 7012, 7021)
    ]
    services += [{"engine": "forwarder", "mptcp": "off", "port": port} for port in (7300, 7301)]
    lines = service_lines(services)
    assert lines == [
        "haproxy preload",
        " 7000-7003",
        " 7010-7012 7021",
        " 7050",
        "forwarder TCP",
        " 7300 7301",
    ]


def test_the_timeline_shows_the_gap_and_the_marks() -> None:
    picture = timeline(TIMELINE, ["path1", "path2"])
    ET.fromstring(picture)
    words = SVG_TEXT.findall(picture)
    for word in ("gap 204 ms", "cable &lt;pulled&gt;", "cable back", "path1", "path2", "1 MB"):
        assert word in words
    curves = re.findall(r'<polyline points="([^"]*)" class="curve (c\d)"', picture)
    assert [kind for _, kind in curves] == ["c0", "c1"]
    flat = [float(point.split(",")[1]) for point in curves[0][0].split()]
    assert flat[1] == flat[2] < flat[0], "more bytes are higher up"


@pytest.mark.parametrize(
    ("gap", "anchor"), [((0.2, 0.3), "start"), ((0.5, 2.5), "middle"), ((3.8, 4.0), "end")]
)
def test_the_gaps_label_lies_beside_no_other(gap: tuple[float, float], anchor: str) -> None:
    drawn = timeline({"unit": "bytes", "series": {"path1": [[0, 0], [4, 9]]}, "marks": [], "gap": gap})
    labels = [text for text in ET.fromstring(drawn).iter() if (text.text or "").startswith("gap ")]
    assert [label.get("text-anchor", "start") for label in labels] == [anchor]
    assert all(float(label.get("x")) <= timelines.WIDTH - timelines.RIGHT for label in labels)


@pytest.mark.parametrize("points", [[], [[0, 0]], [[1, 5], [1, 5]], [[n / 100, n] for n in range(5000)]])
def test_a_timeline_of_any_length_is_drawn(points: list[list[float]]) -> None:
    picture = timeline({"unit": "joins", "series": {"path1": points}, "marks": [], "gap": None})
    ET.fromstring(picture)
    drawn = re.findall(r'points="([^"]*)"', picture)[0].split()
    assert len(drawn) <= 401
    assert bool(drawn) == bool(points)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 7.3), (3, 3.02), (0, 2.4e6)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = svg.ticks(low, high, 5)
    assert 2 <= len(found) <= 6
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)


def test_junit_counts_what_the_verdicts_say(run: Result) -> None:
    root = ET.fromstring(junit.render(run))
    suites = {suite.get("name"): suite for suite in root}
    proxy = suites["mptcp-lab.proxy"]
    assert (proxy.get("tests"), proxy.get("failures"), proxy.get("skipped")) == ("2", "1", "1")
    assert suites["mptcp-lab.gateway"].get("errors") == "1"
    marks = {case.get("name"): [child.tag for child in case][1:] for case in root.iter("testcase")}
    assert marks == {
        "DIRECT-7": [],
        "DIRECT-5": ["skipped"],
        "DIRECT-9": [],
        "PROXY-1[haproxy]": ["failure"],
        "PROXY-1[nginx]": ["skipped"],
        "GATEWAY-1": ["error"],
    }
    values = {(p.get("name"), p.get("value")) for p in root.iter("property")}
    assert {("verdict", "flaky"), ("gap", "203.7 ms"), ("level", "SHOULD")} <= values


def test_the_terminal_explains_the_worst_first(run: Result) -> None:
    lines = [paint(line, colour=False) for line in summary(run, "out/report.html")]
    titles = [line for line in lines if re.match(r"(fail|non-strict|flaky|unsupported|inconclusive)  ", line)]
    assert titles == [
        "fail  PROXY-1[haproxy]",
        "non-strict  DIRECT-5",
        "flaky  DIRECT-9",
        "unsupported  PROXY-1[nginx]",
    ]
    assert "verdicts  1 pass, 1 non-strict, 1 fail, 1 unsupported, 1 inconclusive, 1 flaky" in lines
    assert lines[-1] == "report out/report.html"
    assert not any("\x1b[32m" in line for line in lines)


def test_settings_that_a_kernel_lacks_are_named(run: Result, tmp_path: Path) -> None:
    lacking = {"kernel": "6.1.0", "settings_left_out": ["net.mptcp.blackhole_timeout"]}
    hosts = [{**host, "facts": lacking} for host in LAB["hosts"]]
    older = replace(run, lab={**run.lab, "hosts": hosts})
    lines = [paint(line, colour=False) for line in summary(older)]
    expected = "which the kernel does not have on client (6.1.0), server2 (6.1.0)"
    assert f"left out  net.mptcp.blackhole_timeout, {expected}" in lines
    assert "settings left out net.mptcp.blackhole_timeout" in html.render(older, tmp_path)


def test_long_facts_about_kernels_stay_in_the_result(run: Result, tmp_path: Path) -> None:
    facts = {"kernel": "6.1.0", "kernel_build": "#12 SMP", "command_line": "quiet panic=1", "cpus": 2}
    hosts = [{**host, "facts": facts} for host in LAB["hosts"]]
    text = html.render(replace(run, lab={**run.lab, "hosts": hosts}), tmp_path)
    assert '<td>6.1.0</td><td class="wide">cpus 2</td>' in text
    assert "panic=1" not in text


def test_kernel_logs_that_were_not_read_are_named(run: Result) -> None:
    unread = {"kernel": "6.18.0", "kernel_log": "not read: /dev/kmsg: Operation not permitted"}
    hosts = [{**host, "facts": unread} for host in LAB["hosts"]]
    lines = [paint(line, colour=False) for line in summary(replace(run, lab={**run.lab, "hosts": hosts}))]
    assert "kernel log  not read: /dev/kmsg: Operation not permitted (client, server2)" in lines


def test_a_broken_lab_is_one_sentence_at_the_end(run: Result) -> None:
    undecided = replace(run.checks[-1], attempts=(an_attempt(results.Outcome.INCONCLUSIVE, "gone"),))
    broken = replace(
        run, ending=Ending.LAB_BROKEN, sentence="server1: gone; next: ./lab up", checks=(undecided,)
    )
    lines = [paint(line, colour=False) for line in summary(broken)]
    assert "lab broken: server1: gone; next: ./lab up" in lines
    assert not any(line.startswith("inconclusive") for line in lines)


def test_a_line_has_case_verdict_seconds_and_figures(run: Result) -> None:
    assert paint(check_line(run.checks[0]), colour=False).split() == [
        "DIRECT-7",
        "pass",
        "0.41",
        "s",
        "gap",
        "204",
        "ms",
    ]
    assert "\x1b[31mfail" in paint(check_line(run.checks[2]), colour=True)


@pytest.mark.parametrize("view", ["html", "junit", "ktap", "kcidb", "terminal"])
def test_every_view_is_made_again_from_the_file(
    run: Result, tmp_path: Path, view: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([view, str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "DIRECT-7" in printed
    assert main([view, str(tmp_path / "result.json"), "-o", str(tmp_path / "view")]) == 0
    assert (tmp_path / "view").read_text() == printed


def test_the_command_refuses_with_one_sentence(run: Result, tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text("{")
    command = [sys.executable, "-m", "mptcp_lab.report", "compare", str(tmp_path), str(tmp_path / "cut.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"ERROR: .*cut\.json: cut short or not JSON .*\n", done.stderr)


def test_a_view_that_cannot_be_written_is_one_sentence(
    run: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["junit", str(tmp_path), "-o", str(tmp_path / "no" / "x.xml")]) == 2
    assert "No such file or directory; choose a file that can be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"series": {"path1": [[0, NaN]]}, "marks": [], "gap": null}', b'{"series": 1e999}'],
)
def test_evidence_that_was_made_to_harm_is_damaged(run: Result, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "evidence" / "DIRECT-7" / "bytes.json").write_bytes(content)
    assert "bytes.json (damaged)" in html.render(run, tmp_path)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5_000, "/dev/zero", "loop/loop"])
def test_evidence_whose_name_is_of_no_use_is_missing(run: Result, tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    attempt = replace(run.checks[0].attempts[0], evidence=(Evidence("e", "timeline", name),))
    other = replace(run, checks=(replace(run.checks[0], attempts=(attempt,)),))
    assert "Cannot be shown: " in html.render(other, tmp_path)
