"""Write the files of a run: result.json and its views."""

from __future__ import annotations

from pathlib import Path

from mptcp_lab.files import write_synced
from mptcp_lab.report import html, junit, kcidb, ktap
from mptcp_lab.results import result as results
from mptcp_lab.results.result import Result


def write(
    result: Result, folder: Path, ktap_file: Path | None = None, kcidb_file: Path | None = None
) -> None:
    """Write result.json and its views into a run's folder, and KTAP and KCIDB to files, over earlier ones."""
    results.save(result, folder / "result.json")
    write_synced(folder / "junit.xml", junit.render(result))
    write_synced(folder / "report.html", html.render(result, folder))
    if ktap_file:
        write_synced(ktap_file, ktap.render(result))
    if kcidb_file:
        write_synced(kcidb_file, kcidb.render(result))
