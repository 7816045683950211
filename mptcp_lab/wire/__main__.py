"""`python -m mptcp_lab.wire FILE`: report the MPTCP connections of a capture; no lab is needed.

Exit codes: 0 if no requirement is breached, 1 if a MUST is breached, 2 if the capture cannot be read or
contains no TCP, 3 if only a SHOULD is breached. A deviation that the catalogue's corrections explain is
shown as known and does not count as a breach.
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
    """Return the exit code of a report: 1 if a MUST is breached, 3 if only a SHOULD is, else 0."""
    verdicts = [each for connection in report["connections"] for each in connection["verdicts"]]
    verdicts += report["plain_verdicts"]
    levels = {each["level"] for each in verdicts if each["outcome"] == Outcome.BREACH.value}
    return 1 if "MUST" in levels else 3 if levels else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report of one capture file and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mptcp_lab.wire",
        description="Connections, subflows and RFC 8684 verdicts of a pcap or pcapng file.",
    )
    parser.add_argument(
        "file",
        help="pcap or pcapng, also gzipped or a pipe, - for standard input; headers are enough: "
        "tcpdump -i any -s 128 -w FILE tcp",
    )
    parser.add_argument(
        "--whole-end",
        action="store_true",
        help="the capture has all interfaces of one end: data that is not in it was not sent on another path",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_const", const=as_json, dest="render", help="print JSON")
    form.add_argument("--html", action="store_const", const=as_html, dest="render", help="print an HTML page")
    options = parser.parse_args(arguments)
    try:
        report = document(*analyse_file(options.file, options.whole_end))
    except CaptureError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"{options.file}: {error.strerror or error} while it was read; try it with a copy",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"{options.file}: interrupted before a TCP packet had come; nothing to report", file=sys.stderr)
        return 2
    except MemoryError:
        print(f"{options.file}: too many connections for this memory; split it: editcap -c", file=sys.stderr)
        return 2
    try:
        sys.stdout.write((options.render or as_text)(report))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader closed the pipe (| head). Closing stderr suppresses the message at interpreter exit.
        sys.stderr.close()
    return exit_code(report)


if __name__ == "__main__":
    sys.exit(main())
