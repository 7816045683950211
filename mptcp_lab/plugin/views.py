"""Write the files of a run: result.json and its views."""

from __future__ import annotations

from pathlib import Path

from mptcp_lab.files import write_synced
from mptcp_lab.report import html, junit
from mptcp_lab.results import result as results
from mptcp_lab.results.result import Result


def write(result: Result, folder: Path) -> None:
    """Write result.json, junit.xml and report.html into a run's folder; replace those of an earlier call."""
    results.save(result, folder / "result.json")
    write_synced(folder / "junit.xml", junit.render(result))
    write_synced(folder / "report.html", html.render(result, folder))
