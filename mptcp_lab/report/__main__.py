"""Render any view of an existing result: ``python -m mptcp_lab.report --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mptcp_lab.files import write_synced
from mptcp_lab.folders import STATE_FOLDER
from mptcp_lab.paths import ROOT
from mptcp_lab.report import history, html, junit, kcidb, ktap
from mptcp_lab.report.compare import comparison_lines, exit_line
from mptcp_lab.report.matrix import page
from mptcp_lab.report.matrix.columns import make_columns, read_pieces
from mptcp_lab.report.matrix.keep import keep_runs
from mptcp_lab.report.matrix.rows import make_rows
from mptcp_lab.report.terminal import check_line, paint, summary
from mptcp_lab.results.baseline import compare
from mptcp_lab.results.result import Result, ResultError, load
from mptcp_lab.text import to_one_line

USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the view that the arguments ask for; return 0, or 2 if a result cannot be used.

    A comparison returns 1 if something broke, and 4 if what the baseline decided is undecided.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.view == "matrix":
            return _write_matrix(options.run, options.output or default_matrix_folder(), options.keep)
        if options.view == "history":
            return _write_history(options.run, options.output or options.run / "history.html")
        status, text = _compare_runs(options.run) if options.view == "compare" else (0, _render_view(options))
        if options.output:
            write_synced(options.output, text)
        else:
            sys.stdout.write(text)
    except ResultError as error:
        return _refuse(str(error))
    except ValueError as error:
        return _refuse(f"{error}; see --help")
    except OSError as error:
        return _refuse(f"{error.filename}: {error.strerror}; choose a file that can be written")
    return status


def _refuse(sentence: str) -> int:
    print(f"ERROR: {to_one_line(sentence)}", file=sys.stderr)
    return USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mptcp_lab.report", description="Render a run's result.json."
    )
    views = parser.add_subparsers(dest="view", required=True)
    for name, help_text in (
        ("html", "the page"),
        ("junit", "JUnit XML for CI servers"),
        ("ktap", "KTAP version 1 for the kernel's CI systems"),
        ("kcidb", "KCIDB report (schema 5.0) for the database of the kernel's CI systems"),
        ("terminal", "verdicts and summary, as the suite prints them"),
    ):
        view = views.add_parser(name, help=help_text)
        view.add_argument("run", nargs=1, type=Path, help="a run's folder or its result.json")
    report = views.choices["kcidb"]
    report.add_argument(
        "--origin", default=kcidb.ORIGIN, help="name of the CI system that submits (default: %(default)s)"
    )
    report.add_argument(
        "--build-id", default="", metavar="ID", help="the tested build in the database: report tests only"
    )
    both = views.add_parser("compare", help="what broke, was fixed, is new, gone or slower")
    both.add_argument("run", nargs=2, type=Path, help="a run's folder or its result.json: before, after")
    table = views.add_parser("matrix", help="one page: claims as rows, kernels and versions as columns")
    table.add_argument(
        "run", nargs="+", type=Path, help="a run's folder, its result.json, or a folder of runs"
    )
    table.add_argument("-o", "--output", type=Path, metavar="DIR", help="write index.html in this folder")
    table.add_argument(
        "--keep", type=Path, metavar="DIR", help="write what the page shows of each result to DIR too"
    )
    past = views.add_parser("history", help="one page over a folder of runs: what changed first")
    past.add_argument("run", metavar="FOLDER", type=Path, help="a folder of runs, such as .lab/results")
    for view in (view for name, view in views.choices.items() if name != "matrix"):
        view.add_argument("-o", "--output", type=Path, help="write here instead of to standard output")
    return parser


def _render_view(options: argparse.Namespace) -> str:
    run: Path = options.run[0]
    result = load(run)
    folder = run if run.is_dir() else run.parent
    renderers: dict[str, Callable[[], str]] = {
        "html": lambda: html.render(result, folder),
        "junit": lambda: junit.render(result),
        "ktap": lambda: ktap.render(result),
        "kcidb": lambda: kcidb.render(result, kcidb.Submission(options.origin, options.build_id)),
        "terminal": lambda: _terminal(result, folder),
    }
    return renderers[options.view]()


def _terminal(result: Result, folder: Path) -> str:
    lines = [*map(check_line, result.checks), [], *summary(result, str(folder))]
    return "".join(f"{paint(line, sys.stdout.isatty())}\n" for line in lines)


def default_matrix_folder() -> Path:
    """Return .lab/matrix of the checkout, or a folder below the current one if there is no checkout."""
    return ROOT / STATE_FOLDER / "matrix" if (ROOT / "lab").is_file() else Path("matrix")


def _write_matrix(paths: Sequence[Path], folder: Path, kept: Path | None) -> int:
    """Write the page, and to `kept` what it shows of each result; print the paths, return the status."""
    pieces, unusable = read_pieces(paths)
    columns, notes = make_columns(pieces)
    if not columns:
        return _refuse(f"{notes[0]}; give a result of a run that reached its hosts")
    folder.mkdir(parents=True, exist_ok=True)
    rows = make_rows(columns)
    write_synced(folder / "index.html", page.render(columns, rows, [*unusable, *notes]))
    print(folder / "index.html", *(keep_runs(columns, rows, kept) if kept else ()), sep="\n")
    return 0


def _write_history(folder: Path, page: Path) -> int:
    """Write the page and print its path; return the exit status."""
    write_synced(page, history.render(*history.read_runs(folder)))
    print(page)
    return 0


def _compare_runs(runs: Sequence[Path]) -> tuple[int, str]:
    """Return the exit status and the text of a comparison."""
    comparison = compare(*map(load, runs))
    lines = [*comparison_lines(comparison), exit_line(comparison.exit_code)]
    return int(comparison.exit_code), "".join(f"{paint(line, sys.stdout.isatty())}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
