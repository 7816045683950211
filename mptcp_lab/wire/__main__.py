"""`python -m mptcp_lab.wire FILE`: what a capture says about MPTCP, without a lab.

Exit codes: 0 no requirement is breached, 1 a MUST is, 2 there is no TCP to look at, 3 only a SHOULD is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mptcp_lab.wire.analyse import analyse_file
from mptcp_lab.wire.capture import CaptureError
from mptcp_lab.wire.report import Document, as_html, as_json, as_text, document
from mptcp_lab.wire.rows import Outcome


def exit_code(report: Document) -> int:
    """0, 1 or 3, as above."""
    verdicts = [each for connection in report["connections"] for each in connection["verdicts"]]
    verdicts += report["plain_verdicts"]
    levels = {each["level"] for each in verdicts if each["outcome"] == Outcome.BREACH.value}
    return 1 if "MUST" in levels else 3 if levels else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report of one capture file; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mptcp_lab.wire",
        description="Connections, subflows and RFC 8684 verdicts of a pcap or pcapng file.",
    )
    parser.add_argument("file", help="capture, headers are enough: tcpdump -i any -s 128 -w FILE tcp")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_const", const=as_json, dest="render", help="print JSON")
    form.add_argument("--html", action="store_const", const=as_html, dest="render", help="print an HTML page")
    options = parser.parse_args(arguments)
    try:
        report = document(*analyse_file(options.file))
    except CaptureError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        sys.stdout.write((options.render or as_text)(report))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough (| head): nothing is left to say, also not at interpreter exit.
        sys.stderr.close()
    return exit_code(report)


if __name__ == "__main__":
    sys.exit(main())
